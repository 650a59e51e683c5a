"""Runs a talking-face generator on clips and scores it: sharpness, sound listened to, mouth that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import Generator, OutputRule, Progress, SampleSet
from qsens.scoring.fidelity import mean_squared_errors, psnr_of_error
from qsens.scoring.pictures import pictures_from_values
from qsens.zoo.clips.layout import MOUTH_BOX
from qsens.zoo.metrics.lip_sync import ground_truth_scores, spoken_runs
from qsens.zoo.metrics.mouth import correlate
from qsens.zoo.metrics.mouth_reader import STATES, MouthReader, shipped_reader

if TYPE_CHECKING:
    from qsens.zoo.metrics.sync_meter import SyncMeter


Images = NDArray[np.uint8]
Generate = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
BATCH_SIZE = 16
PICTURE = OutputRule(value_range=(0.0, 1.0), colour_order="bgr")
INPUTS = ("mel", "face")

"""Mel windows (N, 1, 80, 16) and faces (N, 6, 96, 96) to pictures (N, 3, 96, 96), 0 to 1, BGR."""


@dataclass(frozen=True)
class StateCorrelations:
    """Correlation over all frames of each part of a mouth's state with the one it should have."""

    open: float
    width: float
    round: float


@dataclass(frozen=True)
class MouthReadings:
    """Correlations of states read off pictures with known states.

    `true_frames` is the reader's own ceiling. `wrong_audio` compares pictures made with another clip's sound
    with the true mouth, `wrong_audio_given` with the mouth that this sound belongs to.
    """

    reader: str
    generated: StateCorrelations
    wrong_audio: StateCorrelations
    wrong_audio_given: StateCorrelations
    true_frames: StateCorrelations
    copied_reference: StateCorrelations


@dataclass(frozen=True)
class LipSyncRows:
    """LSE-D and LSE-C of the generated frames and, beside them, of the real ones; `runs` of frames."""

    meter: str
    runs: int
    lse_d: float
    lse_c: float
    truth_lse_d: float
    truth_lse_c: float


@dataclass(frozen=True)
class TalkerScores:
    """The scores of a generator on clips; PSNR in dB, one mean square over all frames, uint8 pictures.

    `mouth` values are over the mouth box. `readings` is `None` where the mouth is not known, `lip_sync`
    where no SyncNet was given. `evaluation` is the digest of the set; `seed` chose the wrong sounds.
    """

    frames: int
    clips: int
    seed: int
    evaluation: str
    frame_psnr_db: float
    mouth_psnr_db: float
    wrong_audio_mouth_psnr_db: float
    reference_mouth_psnr_db: float
    readings: MouthReadings | None
    lip_sync: LipSyncRows | None

    @property
    def margin_over_wrong_audio_db(self) -> float:
        """The gain of the right sound in the mouth box: about 0 for a generator that does not listen."""
        return self.mouth_psnr_db - self.wrong_audio_mouth_psnr_db

    @property
    def margin_over_reference_db(self) -> float:
        """The gain of the mouth box over the reference frame's own."""
        return self.mouth_psnr_db - self.reference_mouth_psnr_db


def score_talker(
    generate: Generate,
    samples: SampleSet,
    *,
    seed: int = 0,
    meter: SyncMeter | None = None,
    progress: Progress | None = None,
) -> TalkerScores:
    """Score a generator on a set of clips (`open_clips` with graph inputs named `mel` and `face`).

    The wrong sound of a frame is that of the same place in another clip, chosen by `seed`. With `meter`
    LSE-D and LSE-C are measured too, which needs consecutive frames.

    Raises:
        DataError: for fewer than two clips, or samples without their real frame.
        ScoreError: if the generator makes NaN or infinite values.
        SpecError: with `meter`, if no run of frames is long enough.
    """
    partners = wrong_audio_partners(samples, seed)
    reader, tally = shipped_reader(), _Tally()
    for start in range(0, len(samples), BATCH_SIZE):
        indices = range(start, min(start + BATCH_SIZE, len(samples)))
        batch = _batch(samples, indices, partners)
        generated = _pictures(generate(batch.mel, batch.face))
        tally.add(batch, generated, _pictures(generate(batch.wrong_mel, batch.face)), reader)
        if meter is not None:
            tally.generated.append(generated)
        if progress is not None:
            progress(indices.stop, len(samples), "frames")
    return TalkerScores(
        frames=len(samples),
        clips=len(set(samples.clusters or ())),
        seed=seed,
        evaluation=samples.digest,
        **tally.psnr_db(),
        readings=tally.correlations(partners, reader),
        lip_sync=None if meter is None else _lip_sync(samples, np.concatenate(tally.generated), meter),
    )


def wrong_audio_partners(samples: SampleSet, seed: int) -> NDArray[np.int64]:
    """For each sample (N,) the one whose sound is the wrong sound: the same place in another clip.

    Clips are put in a ring in seeded order; each hears the next one's sound, from the start again where
    that is shorter.

    Raises:
        DataError: for fewer than two clips.
    """
    members: dict[str, list[int]] = {}
    for index, clip in enumerate(samples.clusters or ()):
        members.setdefault(clip, []).append(index)
    if len(members) < 2:
        raise DataError(
            f"{samples.name!r} holds {len(members)} clip, the control with another clip's sound needs 2",
            "score on more clips",
        )
    names = sorted(members)
    ring = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    partners = np.zeros(len(samples), np.int64)
    for clip, other in zip(ring, [*ring[1:], ring[0]], strict=True):
        for place, index in enumerate(members[clip]):
            partners[index] = members[other][place % len(members[other])]
    return partners


@dataclass(frozen=True, eq=False)
class _Batch:
    """Inputs of some samples, float32, and their real frames, uint8 RGB; `mouth` where it is known."""

    mel: NDArray[np.float32]
    wrong_mel: NDArray[np.float32]
    face: NDArray[np.float32]
    target: Images
    mouth: NDArray[np.float32] | None


def _batch(samples: SampleSet, indices: Sequence[int], partners: NDArray[np.int64]) -> _Batch:
    inputs = [samples.sample(index) for index in indices]
    known = [samples.annotation(index) for index in indices]
    if any("target" not in entry for entry in known):
        raise DataError(f"{samples.name!r} does not know the real frames", "score on a folder of clips")
    has_mouth = all("mouth" in entry for entry in known)
    return _Batch(
        mel=np.stack([entry["mel"] for entry in inputs]),
        wrong_mel=np.stack([samples.sample(int(partners[index]))["mel"] for index in indices]),
        face=np.stack([entry["face"] for entry in inputs]),
        target=np.stack([entry["target"] for entry in known]),
        mouth=np.stack([entry["mouth"] for entry in known]) if has_mouth else None,
    )


class _Tally:
    """Errors and readings of the frames so far."""

    def __init__(self) -> None:
        self._errors: dict[str, list[NDArray[np.float64]]] = {}
        self._readings: dict[str, list[NDArray[np.float32]]] = {}
        self.generated: list[Images] = []

    def add(self, batch: _Batch, generated: Images, wrong: Images, reader: MouthReader) -> None:
        """Add some frames made with the right and with the wrong sound."""
        reference = _pictures(batch.face[:, 3:])
        pictures = {"generated": generated, "wrong_audio": wrong, "copied_reference": reference}
        self._add(self._errors, "frame", mean_squared_errors(generated, batch.target))
        for name, images in pictures.items():
            self._add(self._errors, name, mean_squared_errors(_mouth_box(images), _mouth_box(batch.target)))
        if batch.mouth is None:
            return
        self._add(self._readings, "truth", batch.mouth)
        for name, images in {**pictures, "true_frames": batch.target}.items():
            self._add(self._readings, name, reader.read(images))

    def psnr_db(self) -> dict[str, float]:
        """Values of `TalkerScores` by field."""
        pooled = {
            name: psnr_of_error(float(np.concatenate(parts).mean())) for name, parts in self._errors.items()
        }
        return {
            "frame_psnr_db": pooled["frame"],
            "mouth_psnr_db": pooled["generated"],
            "wrong_audio_mouth_psnr_db": pooled["wrong_audio"],
            "reference_mouth_psnr_db": pooled["copied_reference"],
        }

    def correlations(self, partners: NDArray[np.int64], reader: MouthReader) -> MouthReadings | None:
        """Correlations of everything that was read, `None` unless every frame's mouth is known."""
        states = {name: np.concatenate(parts) for name, parts in self._readings.items()}
        if "truth" not in states or len(states["truth"]) != len(partners):
            return None
        truth = states.pop("truth")
        return MouthReadings(
            reader=reader.identity,
            **{name: _state_correlations(read, truth) for name, read in states.items()},
            wrong_audio_given=_state_correlations(states["wrong_audio"], truth[partners]),
        )

    def _add(self, store: dict[str, list[Any]], name: str, values: NDArray[Any]) -> None:
        store.setdefault(name, []).append(values)


def _pictures(values: NDArray[np.float32]) -> Images:
    images: Images = pictures_from_values(values, PICTURE)
    return images


def _mouth_box(images: Images) -> Images:
    return images[(..., *MOUTH_BOX)]


def _state_correlations(read: NDArray[Any], true: NDArray[Any]) -> StateCorrelations:
    pairs = zip(read.T, true.T, strict=True)
    return StateCorrelations(
        **{name: correlate(*pair).value for name, pair in zip(STATES, pairs, strict=True)}
    )


def _lip_sync(samples: SampleSet, images: Images, meter: SyncMeter) -> LipSyncRows:
    scores = spoken_runs(samples, "lse").score(meter, lambda run: images[list(run.indices)])
    truth = ground_truth_scores(samples, meter)
    return LipSyncRows(meter.identity, len(scores.runs), scores.lse_d, scores.lse_c, truth.lse_d, truth.lse_c)


def talker_of(generator: Generator) -> Generate:
    """An opened generator as a function of mel windows and faces.

    Raises:
        SpecError: if its inputs are not `mel` and `face`.
        LoadError: if it cannot be exported.
    """
    module = getattr(generator, "module", None)
    return _session_talker(generator.export()) if module is None else module_talker(module)


def module_talker(module: Any) -> Generate:
    """A torch module `module(mel, face)` in eval mode as such a function, on the module's device."""
    import torch  # heavy, and not needed for ONNX files

    device = next(module.parameters()).device

    def generate(mel: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            made = module(torch.from_numpy(mel).to(device), torch.from_numpy(face).to(device))
        return np.asarray(made.float().cpu().numpy())

    return generate


def _session_talker(model: onnx.ModelProto) -> Generate:
    import onnxruntime  # half a second that torch modules do not need

    from qsens.device.onnxruntime_runtime import session_options

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    names = {entry.name for entry in session.get_inputs()}
    if names != set(INPUTS):
        raise SpecError(
            f"a generator with the inputs {', '.join(sorted(names))}",
            f"a talking-face generator takes {' and '.join(INPUTS)}",
        )

    def generate(mel: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"mel": mel, "face": face})[0])

    return generate
