"""Clips that have frames and enough sound; the others are counted with their reasons, never silently."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from qsens.zoo.audio.mel import mel_frame_count, mel_spectrogram
from qsens.zoo.audio.wave import read_wave
from qsens.zoo.audio.windows import MEL_STEP, NO_WINDOW, WindowKind, window_starts
from qsens.zoo.clips.layout import Clip

_EXAMPLES = 3


class SkipReason(StrEnum):
    """The reasons to leave out a clip, a frame or a window."""

    NO_FRAMES = "clips without frames"
    NO_AUDIO = "clips without audio.wav"
    SHORT_AUDIO = "clips with audio shorter than one window (0.2 s)"
    ONE_FRAME = "clips with one frame only, so without another as reference"
    MISSING_FRAMES = "frames missing inside clips"
    NO_WINDOW = "frames after the last window of sound"
    GAP = "five-frame windows with a missing frame"


@dataclass(frozen=True)
class Skip:
    """One reason: how many were left out, and the first few by name."""

    reason: SkipReason
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} {self.reason.value}: {', '.join(self.examples)}{more}"


@dataclass(frozen=True)
class SkipReport:
    """Everything left out, one entry a reason, in the order of `SkipReason`."""

    skips: tuple[Skip, ...] = ()

    def count(self, reason: SkipReason) -> int:
        """The number left out for that reason."""
        return sum(skip.count for skip in self.skips if skip.reason is reason)

    def lines(self) -> tuple[str, ...]:
        """One line a reason; empty where nothing was left out."""
        return tuple(str(skip) for skip in self.skips)


class SkipCounter:
    """Collects skips while clips are read."""

    def __init__(self) -> None:
        self._found: dict[SkipReason, list[str]] = {}
        self._counts: dict[SkipReason, int] = {}

    def add(self, reason: SkipReason, examples: Iterable[str]) -> None:
        """Note one skip for each example; only the first few names are kept."""
        for example in examples:
            self._counts[reason] = self._counts.get(reason, 0) + 1
            kept = self._found.setdefault(reason, [])
            if len(kept) < _EXAMPLES:
                kept.append(example)

    def report(self) -> SkipReport:
        """The notes so far."""
        return SkipReport(
            tuple(
                Skip(reason, self._counts[reason], tuple(self._found[reason]))
                for reason in SkipReason
                if reason in self._counts
            )
        )


@dataclass(frozen=True, eq=False)
class UsableClip:
    """A clip with its mel spectrogram, float32 (80, T), and the rate of its wave file in Hz."""

    clip: Clip
    mel: NDArray[np.float32]
    source_rate: int

    def inference_starts(self) -> NDArray[np.int64]:
        """First mel frame of the inference window of each frame, int64 (frames,); -1 where it has none."""
        return window_starts(WindowKind.INFERENCE, np.array(self.clip.frames), self.mel.shape[1])

    def frames_without_window(self) -> tuple[str, ...]:
        """Names of the frames that come after the last window of sound."""
        has_none = self.inference_starts() == NO_WINDOW
        return tuple(f"{self.clip.name}/{self.clip.frames[place]}.jpg" for place in np.flatnonzero(has_none))


def usable_clips(
    clips: Iterable[Clip], counter: SkipCounter, *, fewest_frames: int = 1
) -> Iterator[UsableClip]:
    """Clips with at least `fewest_frames` frames and a window of sound; what is left out is counted.

    Raises:
        DataError: if a wave file is broken.
    """
    for clip in clips:
        usable = _open_usable(clip, counter, fewest_frames)
        if usable is not None:
            counter.add(SkipReason.MISSING_FRAMES, (f"{clip.name}/{n}.jpg" for n in clip.missing_frames))
            yield usable


def _open_usable(clip: Clip, counter: SkipCounter, fewest_frames: int) -> UsableClip | None:
    if len(clip.frames) < fewest_frames or not clip.frames:
        counter.add(SkipReason.ONE_FRAME if clip.frames else SkipReason.NO_FRAMES, [clip.name])
        return None
    if not clip.audio.is_file():
        counter.add(SkipReason.NO_AUDIO, [clip.name])
        return None
    wave = read_wave(clip.audio)
    if mel_frame_count(len(wave.samples)) < MEL_STEP:
        counter.add(SkipReason.SHORT_AUDIO, [clip.name])
        return None
    return UsableClip(clip, mel_spectrogram(wave.samples), wave.source_rate)
