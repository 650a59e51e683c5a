"""Lip-sync error of a map's pictures as the evaluation SyncNet sees it: the metrics `lse-d` and `lse-c`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import Measurement, Metric, SampleSet, ScoredBatch, ScoringContext
from qsens.core.metric_names import BUILT_IN
from qsens.core.trial import Score
from qsens.scoring.consecutive import FrameRun, annotated_set, clip_frames
from qsens.scoring.fid import LastResults
from qsens.scoring.intervals import standard_error
from qsens.zoo.audio.wave import SAMPLE_RATE, read_wave
from qsens.zoo.syncnet.lse import FRAME_RATE, FRAMES_IN_WINDOW, SyncScore, window_count

if TYPE_CHECKING:
    from qsens.zoo.metrics.sync_meter import SyncMeter

LEAST_FRAMES = 25
"""Runs below one second are left out: beyond the ends of a run its sound counts as zeros, and in a shorter
one they would outweigh the sound."""
LEAST_WINDOWS = LEAST_FRAMES - FRAMES_IN_WINDOW
Images = NDArray[np.uint8]
Sound = NDArray[np.float32]


@dataclass(frozen=True)
class RunScore:
    """The score of one run of consecutive frames."""

    run: FrameRun
    score: SyncScore


@dataclass(frozen=True)
class SyncScores:
    """Scores of all runs; the set's LSE-D and LSE-C are their plain means, each run counting once."""

    runs: tuple[RunScore, ...]

    @property
    def lse_d(self) -> float:
        """Mean distance; lower is better."""
        return float(np.mean([entry.score.lse_d for entry in self.runs]))

    @property
    def lse_c(self) -> float:
        """Mean confidence; higher is better."""
        return float(np.mean([entry.score.lse_c for entry in self.runs]))


@dataclass(frozen=True, eq=False)
class SpokenRuns:
    """Runs of an evaluation set that are long enough, each with its sound; `too_short` were left out."""

    runs: tuple[FrameRun, ...]
    sounds: tuple[Sound, ...] = field(repr=False)
    too_short: int

    def score(self, meter: SyncMeter, images_of: Callable[[FrameRun], Images]) -> SyncScores:
        """Score pictures uint8 (N, 3, H, W) RGB, given run by run."""
        pairs = zip(self.runs, self.sounds, strict=True)
        return SyncScores(tuple(RunScore(run, meter.score(images_of(run), sound)) for run, sound in pairs))


def spoken_runs(samples: SampleSet | None, who: str) -> SpokenRuns:
    """The runs of a set that can be scored, with their clip's sound over the same time.

    Raises:
        SpecError: if the set does not know clips, frames and folders, or no run is long enough.
        DataError: if a clip's sound cannot be read.
    """
    known = annotated_set(samples, "folder", who)
    frames = clip_frames(known, who)
    sounds = {run: _sound_of(known, run) for run in frames.runs if len(run) >= LEAST_FRAMES}
    runs = tuple(run for run, sound in sounds.items() if window_count(len(run), len(sound)) >= LEAST_WINDOWS)
    if not runs:
        raise SpecError(
            f"{who} needs runs of at least {LEAST_FRAMES} consecutive frames with their sound: "
            f"{frames.summary()}",
            "score more samples of the set (--evaluation-samples), or a set that keeps every frame",
        )
    return SpokenRuns(runs, tuple(sounds[run] for run in runs), len(frames.runs) - len(runs))


def ground_truth_scores(samples: SampleSet, meter: SyncMeter, who: str = "lse") -> SyncScores:
    """Scores of the real frames (`target`) with the real sound: what every LSE must be read beside.

    Raises:
        SpecError, DataError: as `spoken_runs`, and if the set has no real frames.
    """
    annotated_set(samples, "target", who)

    def targets(run: FrameRun) -> Images:
        return np.stack([samples.annotation(index)["target"] for index in run.indices])

    return spoken_runs(samples, who).score(meter, targets)


class _SharedMeasurements:
    """Measurements shared by LSE-D and LSE-C of one map, so that SyncNet sees every picture once."""

    def __init__(self, meter: SyncMeter) -> None:
        self.meter = meter
        self._truths: dict[str, SyncScores] = {}
        self._last: LastResults[SyncScores] = LastResults()

    def truth(self, samples: SampleSet, who: str) -> SyncScores:
        """Scores of the set's real frames, computed once."""
        if samples.digest not in self._truths:
            self._truths[samples.digest] = ground_truth_scores(samples, self.meter, who)
        return self._truths[samples.digest]

    def scores(self, spoken: SpokenRuns, images: Images) -> SyncScores:
        """Scores of a map's pictures (N, 3, H, W), in the order of the set."""
        return self._last.of(
            (images,), lambda: spoken.score(self.meter, lambda run: images[list(run.indices)])
        )


@cache
def _shared(weights: str | None, jpeg_quality: int | None) -> _SharedMeasurements:
    # torch takes seconds to load, and only scoring needs it
    from qsens.zoo.metrics.sync_meter import open_sync_meter

    path = None if weights is None else Path(weights)
    return _SharedMeasurements(open_sync_meter(path, jpeg_quality=jpeg_quality))


class _LipSync(Metric):
    """The common part of LSE-D and LSE-C. `weights`: file of SyncNet, `jpeg_quality`: see `SyncMeter`."""

    name: str
    lower_is_better: bool
    needs_features = False
    needs_reference = False
    needs_annotations = ("clip", "frame", "folder", "target")

    def __init__(self, weights: str | None = None, jpeg_quality: int | None = None) -> None:
        self._weights = weights
        self._jpeg_quality = jpeg_quality

    def value(self, scores: SyncScore | SyncScores) -> float:
        """This metric's number of a run or of a set."""
        return scores.lse_d if self.lower_is_better else scores.lse_c

    @property
    def shared(self) -> _SharedMeasurements:
        """The meter, opened once for both metrics. Raises `LoadError` without weights."""
        return _shared(self._weights, self._jpeg_quality)

    def truth(self, context: ScoringContext) -> float:
        """The number of the real frames of the evaluation set."""
        samples = annotated_set(context.samples, "target", self.name)
        return self.value(self.shared.truth(samples, self.name))

    def label(self, context: ScoringContext) -> str:
        """The name with the ground truth's number, for example `lse-d[truth 6.35]`."""
        return f"{self.name}[truth {self.truth(context):.2f}]"

    def start(self, context: ScoringContext) -> _LipSyncAccumulator:
        """Raises `SpecError` for samples that are not runs of frames, `LoadError` without weights."""
        return _LipSyncAccumulator(self, context, spoken_runs(context.samples, self.name))


class LseD(_LipSync):
    """Lip-sync error, distance: lower is better. Means something only beside the ground truth's number."""

    name = "lse-d"
    facts = BUILT_IN["lse-d"]
    lower_is_better = True


class LseC(_LipSync):
    """Lip-sync error, confidence: higher is better. Means something only beside the ground truth's number."""

    name = "lse-c"
    facts = BUILT_IN["lse-c"]
    lower_is_better = False


class _LipSyncAccumulator:
    def __init__(self, metric: _LipSync, context: ScoringContext, spoken: SpokenRuns) -> None:
        self._metric = metric
        self._context = context
        self._spoken = spoken
        self._images: list[Images] = []

    def update(self, batch: ScoredBatch) -> None:
        self._images.append(batch.images)

    def compute(self) -> Measurement:
        """Raises `ScoreError` if not all samples were scored."""
        images = np.concatenate(self._images) if self._images else np.zeros((0, 3, 1, 1), np.uint8)
        if len(images) != self._context.images:
            raise ScoreError(
                f"{len(images)} of {self._context.images} samples were scored", "pass every batch of the set"
            )
        scores = self._metric.shared.scores(self._spoken, images)
        value, influence = self._metric.value(scores), self._influence(scores, len(images))
        score = Score(
            metric=self._metric.label(self._context),
            value=value,
            images=len(images),
            against=(
                f"{self._metric.shared.meter.identity} runs={len(self._spoken.runs)} "
                f"too-short={self._spoken.too_short} truth={self._metric.truth(self._context):.4f} "
                f"evaluation={self._context.evaluation_digest}"
            ),
            lower_is_better=self._metric.lower_is_better,
            standard_error=standard_error(_of_runs(influence, scores)),
        )
        return Measurement(score, influence)

    def _influence(self, scores: SyncScores, count: int) -> NDArray[np.float64]:
        """Each run's deviation from the mean, spread over its samples; 0 for samples in no run."""
        mean = self._metric.value(scores)
        influence = np.zeros(count)
        for entry in scores.runs:
            share = count / (len(scores.runs) * len(entry.run))
            influence[list(entry.run.indices)] = (self._metric.value(entry.score) - mean) * share
        return influence


def _of_runs(influence: NDArray[np.float64], scores: SyncScores) -> NDArray[np.float64]:
    """Influence of whole runs, which are what varies independently."""
    share = len(scores.runs) / len(influence)
    return np.array([influence[list(entry.run.indices)].sum() * share for entry in scores.runs])


def _sound_of(samples: SampleSet, run: FrameRun) -> Sound:
    folder = Path(samples.annotation(run.indices[0])["folder"])
    samples_per_frame = SAMPLE_RATE // FRAME_RATE
    start = run.first_frame * samples_per_frame
    sound: Any = read_wave(folder / "audio.wav").samples[start : start + len(run) * samples_per_frame]
    return np.asarray(sound, dtype=np.float32)
