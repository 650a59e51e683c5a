"""Clips that have frames and enough sound; the others are counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsens.zoo.audio.mel import mel_frame_count, mel_spectrogram
from qsens.zoo.audio.wave import read_wave
from qsens.zoo.audio.windows import MEL_STEP, NO_WINDOW, WindowKind, window_starts
from qsens.zoo.clips.layout import Clip
from qsens.zoo.clips.skips import SkipCounter, SkipReason


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
