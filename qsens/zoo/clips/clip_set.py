"""Clips as a sample set: the mel window and the two faces that a talking-face generator takes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.files import file_sha256
from qsens.calibration.images import fits_shape, shape_text
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputSpec
from qsens.zoo.audio.mel import MEL_BANDS
from qsens.zoo.audio.wave import SAMPLE_RATE
from qsens.zoo.audio.windows import MEL_STEP, NO_WINDOW
from qsens.zoo.clips.batches import REFERENCE_DISTANCE, check_reference, pick_other
from qsens.zoo.clips.layout import FACE_SIZE, MASKED_ROWS, MOUTH_NAME, list_clips, read_frame, read_mouth
from qsens.zoo.clips.usable import SkipCounter, SkipReason, SkipReport, UsableClip, usable_clips

if TYPE_CHECKING:
    from qsens.core.interfaces import Sample

MEL_SHAPE = (1, MEL_BANDS, MEL_STEP)
MEL_RANGE = (-4.0, 4.0)
FACE_SHAPE = (6, FACE_SIZE, FACE_SIZE)
_PROCEDURE = "clips/1"  # part of the digest; raised when the same files and options give other samples
_CACHED_FRAMES = 2048  # 57 MB at most; a sweep reads the same frames for every map


@dataclass(frozen=True)
class ClipFrame:
    """One sample: a clip (place in the set's list), a frame and its reference, and where its mel starts."""

    clip: int
    number: int
    reference: int
    mel_start: int


@dataclass(frozen=True)
class ClipOptions:
    """Options that turn clips into samples. `every` keeps every n-th frame of a clip."""

    reference: str
    every: int
    seed: int


@dataclass(eq=False)
class ClipSet:
    """Frames of clips in order, with their inference windows.

    `sample(index)` gives the mel window float32 (1, 80, 16), -4 to 4, and the faces float32 (6, 96, 96),
    0 to 1, BGR: channels 0-2 the frame with rows 48..95 zero, channels 3-5 the reference frame.
    """

    name: str
    mel_input: InputSpec
    face_input: InputSpec
    clips: tuple[UsableClip, ...]
    frames: tuple[ClipFrame, ...]
    options: ClipOptions
    skipped: SkipReport
    _read: Any = field(default_factory=lambda: lru_cache(_CACHED_FRAMES)(read_frame), repr=False)

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clip of each sample."""
        return tuple(self.clips[frame.clip].clip.name for frame in self.frames)

    @cached_property
    def digest(self) -> str:
        """sha256 over the bytes of every frame, sound and mouth file in use, the frames and the options."""
        files = {str(path): file_sha256(path) for path in self._files()}
        checksums = [files[str(path)] for path in self._files()]
        frames = [[frame.clip, frame.number, frame.reference, frame.mel_start] for frame in self.frames]
        names = [usable.clip.name for usable in self.clips]
        key = json.dumps([_PROCEDURE, names, checksums, frames])
        return hashlib.sha256(key.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.frames)

    def sample(self, index: int) -> Sample:
        """Mel window and faces of one frame, by graph input name. Raises `DataError` for a broken picture."""
        frame = self._frame(index)
        usable = self.clips[frame.clip]
        mel = usable.mel[None, :, frame.mel_start : frame.mel_start + MEL_STEP]
        faces = face_input(self._read(usable.clip, frame.number), self._read(usable.clip, frame.reference))
        return {
            self.mel_input.name: np.ascontiguousarray(mel, dtype=self.mel_input.dtype),
            self.face_input.name: faces.astype(self.face_input.dtype, copy=False),
        }

    @property
    def value_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Pictures are in 0..1, and the mel is clipped to -4..4."""
        return {self.mel_input.name: MEL_RANGE, self.face_input.name: (0.0, 1.0)}

    def annotation(self, index: int) -> Mapping[str, Any]:
        """Facts about a frame beside the inputs.

        `clip` (str), `frame` (int), `folder` (Path of the clip), `target`: the real frame, uint8
        (3, 96, 96), 0 to 255, RGB; where the corpus states it, `mouth`: opening, width and rounding,
        float32 (3,), 0 to 1.
        """
        frame = self._frame(index)
        clip = self.clips[frame.clip].clip
        known: dict[str, Any] = {
            "clip": clip.name,
            "frame": frame.number,
            "folder": clip.folder,
            "target": np.ascontiguousarray(self._read(clip, frame.number).transpose(2, 0, 1)),
        }
        mouth = self._mouths[frame.clip]
        if mouth is not None:
            known["mouth"] = mouth[clip.frames.index(frame.number)]
        return known

    def describe(self) -> Mapping[str, str]:
        """Counts, what was done to sound and pictures, and what was skipped."""
        reference = (
            "the same frame, not masked"
            if self.options.reference == "same"
            else f"another frame of the clip, at least {REFERENCE_DISTANCE} frames away where it can be"
        )
        described = {
            "count": str(len(self)),
            "clips": str(len({frame.clip for frame in self.frames})),
            "sound": f"{_rates_text(self.clips)}, inference windows of 80 x 16 log-mel in -4..4",
            "faces": f"{FACE_SIZE}x{FACE_SIZE}, bgr, 0..255 -> 0..1, rows 48..95 of the target zero",
            "reference": f"{reference}, chosen with seed {self.options.seed}",
        }
        if self.options.reference == "same":
            described["reference"] = reference
        if self.options.every > 1:
            described["frames"] = f"one of {self.options.every}"
        if self.skipped.skips:
            described["skipped"] = "; ".join(self.skipped.lines())
        return described

    @cached_property
    def _mouths(self) -> tuple[NDArray[np.float32] | None, ...]:
        return tuple(read_mouth(usable.clip) for usable in self.clips)

    def _frame(self, index: int) -> ClipFrame:
        if not 0 <= index < len(self.frames):
            raise IndexError(f"sample {index} of a set of {len(self.frames)}")
        return self.frames[index]

    def _files(self) -> list[Path]:
        """Every file that a sample or an annotation depends on, in the order of the samples."""
        paths: dict[Path, None] = {}
        for frame in self.frames:
            clip = self.clips[frame.clip].clip
            mouth = clip.folder / MOUTH_NAME
            paths.update(dict.fromkeys([clip.audio, *([mouth] if mouth.is_file() else [])]))
            paths.update(dict.fromkeys([clip.frame_path(frame.number), clip.frame_path(frame.reference)]))
        return list(paths)


def open_clips(  # noqa: PLR0913 - four arguments of every set opener, and three options
    folder: Path | str,
    *,
    inputs: Sequence[InputSpec],
    seed: int,
    count: int | None,
    reference: str = "other",
    every: int = 1,
    filelist: str | None = None,
) -> ClipSet:
    """Open clips in the LRS layout for a generator that takes a mel window and two faces.

    Graph inputs named `mel` and `face` are fed, or those whose shapes fit. `reference` is the `same` frame,
    as Wav2Lip infers, or an `other` one of the clip. `every` keeps every n-th frame; `count` keeps that many,
    taken from the clips in turn; `filelist` (in `folder`) keeps the clips it lists.

    Raises:
        SpecError: for an unknown reference, or inputs that clips cannot feed.
        DataError: if no frame is usable.
    """
    options = ClipOptions(check_reference(reference), _checked_every(every), seed)
    mel_spec, face_spec = _match_inputs(inputs)
    root = Path(folder)
    counter = SkipCounter()
    listed = list_clips(root, filelist=None if filelist is None else root / filelist)
    fewest = 2 if reference == "other" else 1
    clips = tuple(usable_clips(listed, counter, fewest_frames=fewest))
    frames = _frames_of(clips, options, counter)
    report = counter.report()
    if not frames:
        raise DataError(f"no usable frame in {root}", "; ".join(report.lines()))
    if count is not None and count < len(frames):
        frames = _in_turn(frames, count, seed)
    name = root.absolute().name
    return ClipSet(name, mel_spec, face_spec, clips, tuple(frames), options, report)


def face_input(target: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two frames uint8 (96, 96, 3) RGB as the generator takes them: float32 (6, 96, 96), 0 to 1, BGR."""
    faces = np.concatenate([target[..., ::-1], reference[..., ::-1]], axis=2).astype(np.float32) / 255.0
    faces[MASKED_ROWS, :, :3] = 0.0
    return np.ascontiguousarray(faces.transpose(2, 0, 1))


def _match_inputs(inputs: Sequence[InputSpec]) -> tuple[InputSpec, InputSpec]:
    """The graph's mel and face input, by shape; by name where both have the same free shape."""
    mels = [spec for spec in inputs if _takes(spec, MEL_SHAPE)]
    faces = [spec for spec in inputs if _takes(spec, FACE_SHAPE)]
    mels = [spec for spec in mels if spec.name == "mel"] or mels
    faces = [spec for spec in faces if spec.name == "face"] or faces
    if len(inputs) != 2 or len(mels) != 1 or len(faces) != 1 or mels[0].name == faces[0].name:
        listed = ", ".join(f"{spec.name} {shape_text(spec)}" for spec in inputs)
        raise SpecError(
            f"clips cannot feed a graph with the inputs {listed}",
            "clips give a mel window (1, 80, 16) and faces (6, 96, 96), as a Wav2Lip export takes them",
        )
    return mels[0], faces[0]


def _takes(spec: InputSpec, shape: tuple[int, ...]) -> bool:
    return fits_shape(shape, spec.shape) and np.dtype(spec.dtype).kind == "f"


def _checked_every(every: int) -> int:
    if every < 1:
        raise SpecError(f"every {every}th frame", "give 1 or more")
    return every


def _frames_of(clips: Sequence[UsableClip], options: ClipOptions, counter: SkipCounter) -> list[ClipFrame]:
    frames: list[ClipFrame] = []
    for place, usable in enumerate(clips):
        counter.add(SkipReason.NO_WINDOW, usable.frames_without_window())
        numbers = usable.clip.frames
        references = _references(usable, options)
        frames += [
            ClipFrame(place, numbers[position], numbers[references[position]], int(start))
            for position, start in enumerate(usable.inference_starts())
            if start != NO_WINDOW and position % options.every == 0
        ]
    return frames


def _references(usable: UsableClip, options: ClipOptions) -> NDArray[np.int64]:
    """Position of each frame's reference; it depends on seed and clip only, not on the other clips."""
    positions = np.arange(len(usable.clip.frames))
    if options.reference == "same":
        return positions
    generator = np.random.default_rng([options.seed, zlib.crc32(usable.clip.name.encode())])
    first, end = np.zeros_like(positions), np.full_like(positions, len(positions))
    return pick_other(generator.random(len(positions)), positions, first, end)


def _in_turn(frames: list[ClipFrame], count: int, seed: int) -> list[ClipFrame]:
    """`count` frames, in order: one of each clip in turn, which ones is the seed's choice."""
    shuffled = [frames[place] for place in np.random.default_rng(seed).permutation(len(frames))]
    turns: Counter[int] = Counter()
    keyed = []
    for place, frame in enumerate(shuffled):
        keyed.append((turns[frame.clip], place, frame))
        turns[frame.clip] += 1
    chosen = [frame for _, _, frame in sorted(keyed, key=lambda entry: entry[:2])[:count]]
    return sorted(chosen, key=lambda frame: (frame.clip, frame.number))


def _rates_text(clips: Sequence[UsableClip]) -> str:
    rates = Counter(usable.source_rate for usable in clips)
    if set(rates) == {SAMPLE_RATE}:
        return "16 kHz"
    others = [f"{count} of {rate} Hz" for rate, count in sorted(rates.items()) if rate != SAMPLE_RATE]
    return f"16 kHz, resampled by scipy resample_poly (clips: {', '.join(others)})"
