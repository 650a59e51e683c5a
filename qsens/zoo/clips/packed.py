"""All clips of a root in memory, from which training batches are drawn by indexing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.windows import MEL_STEP, NO_WINDOW, WindowKind, window_starts
from qsens.zoo.clips.batches import FiveBatch, FrameBatch, SyncBatch, check_reference, draw_other
from qsens.zoo.clips.layout import FACE_SIZE, Clip, list_clips, read_frame, read_mouth
from qsens.zoo.clips.usable import SkipCounter, SkipReason, SkipReport, UsableClip, usable_clips

FIVE = 5  # frames of one lip-sync window


@dataclass(frozen=True, eq=False)
class PackedClips:
    """Every usable clip of a root.

    `frames`: uint8 (N, size, size, 3), 0 to 255, RGB, clip after clip; `clip_of`, `frame_numbers`,
    `speaker_of`: int64 (N,), into `clips`, the clip's own numbering, and `speakers`. `mels`: float32 (80, T)
    of each clip, -4 to 4. `first_frames` and `counts`: int64 (clips,), where a clip's frames begin and how
    many there are. `mouth`: float32 (N, 3), or `None` unless every clip states it. `skipped` says what was
    left out. `timeline`: float32 (mel frames of all clips, 80). `windows`: for each kind int64 (N,), where
    in the timeline a frame's window starts, -1 where it has none.
    """

    clips: tuple[str, ...]
    speakers: tuple[str, ...]
    frames: NDArray[np.uint8]
    mels: tuple[NDArray[np.float32], ...]
    clip_of: NDArray[np.int64]
    frame_numbers: NDArray[np.int64]
    speaker_of: NDArray[np.int64]
    first_frames: NDArray[np.int64]
    counts: NDArray[np.int64]
    mouth: NDArray[np.float32] | None
    skipped: SkipReport
    timeline: NDArray[np.float32]
    windows: Mapping[WindowKind, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.frames)

    def usable(self, window: str = "inference") -> NDArray[np.int64]:
        """Positions of the frames that have a window of that kind: int64 (usable,)."""
        return np.flatnonzero(self.windows[_window_kind(window)] != NO_WINDOW)

    def usable_fives(self, window: str = "inference") -> NDArray[np.int64]:
        """First positions of five consecutive frames, each with its window, and with a sync window."""
        has_windows = self.windows[_window_kind(window)] != NO_WINDOW
        is_whole = self._consecutive() & (self.windows[WindowKind.SYNC] != NO_WINDOW)
        for step in range(FIVE):
            is_whole[: len(self) - step] &= has_windows[step:]
        starts = np.flatnonzero(is_whole)
        clip_counts = np.bincount(self.clip_of[starts], minlength=len(self.clips))
        return starts[clip_counts[self.clip_of[starts]] > 1]  # one window has no other as reference

    def mel_windows(self, positions: NDArray[np.int64], window: str = "inference") -> NDArray[np.float32]:
        """Mel windows of frames, float32 (..., 1, 80, 16), for positions (...).

        Raises:
            DataError: if one of the frames has no such window.
        """
        starts = self.windows[_window_kind(window)][positions]
        if (starts == NO_WINDOW).any():
            raise DataError(f"a frame has no {window} window", "draw from usable() or usable_fives()")
        rows = self.timeline[starts[..., None] + np.arange(MEL_STEP)]
        return np.ascontiguousarray(np.swapaxes(rows, -1, -2)[..., None, :, :])

    def draw(
        self,
        generator: np.random.Generator,
        count: int,
        *,
        window: str = "inference",
        reference: str = "other",
    ) -> FrameBatch:
        """`count` frames, uniformly with replacement; `reference` is the `same` or an `other` frame.

        Raises:
            SpecError: for an unknown window or reference.
            DataError: if no frame has such a window.
        """
        index = _choose(generator, self.usable(window), count, f"frame with a {window} window")
        other = index
        if check_reference(reference) == "other":
            first = self.first_frames[self.clip_of[index]]
            other = draw_other(generator, index, first, first + self.counts[self.clip_of[index]])
        mouth = None if self.mouth is None else self.mouth[index]
        return FrameBatch(
            index, self.mel_windows(index, window), self.frames[index], self.frames[other], mouth
        )

    def draw_fives(
        self,
        generator: np.random.Generator,
        count: int,
        *,
        window: str = "inference",
        reference: str = "other",
    ) -> FiveBatch:
        """`count` windows of five frames; the reference is the same or another window of the clip.

        Raises:
            SpecError: for an unknown window or reference.
            DataError: if no five frames are consecutive and have their windows.
        """
        starts = self.usable_fives(window)
        index = _choose(generator, starts, count, "window of five consecutive frames with sound")
        other = index
        if check_reference(reference) == "other":
            other = self._other_fives(generator, starts, index)
        fives, others = (start[:, None] + np.arange(FIVE) for start in (index, other))
        return FiveBatch(
            index,
            self.mel_windows(fives, window),
            self.mel_windows(index, WindowKind.SYNC),
            self.frames[fives],
            self.frames[others],
            None if self.mouth is None else self.mouth[fives],
        )

    def draw_sync(self, generator: np.random.Generator, count: int) -> SyncBatch:
        """`count` five-frame windows, each with its own sound or, half of the time, another window's.

        Raises:
            DataError: if no clip has two windows of five consecutive frames with sound.
        """
        starts = self.usable_fives(WindowKind.SYNC)
        index = _choose(generator, starts, count, "window of five consecutive frames with sound")
        is_match = generator.random(count) < 0.5
        heard = np.where(is_match, index, self._other_fives(generator, starts, index))
        frames = self.frames[index[:, None] + np.arange(FIVE)]
        return SyncBatch(frames, self.mel_windows(heard, WindowKind.SYNC), is_match.astype(np.float32))

    def _other_fives(
        self, generator: np.random.Generator, starts: NDArray[np.int64], index: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        clips = self.clip_of[starts]
        first = np.searchsorted(clips, self.clip_of[index], side="left")
        end = np.searchsorted(clips, self.clip_of[index], side="right")
        return starts[draw_other(generator, np.searchsorted(starts, index), first, end)]

    def _consecutive(self) -> NDArray[np.bool_]:
        """Marks of frames whose next four are the next ones of their clip: bool (N,)."""
        last = FIVE - 1
        is_whole = np.zeros(len(self), dtype=bool)
        if len(self) >= FIVE:
            same_clip = self.clip_of[last:] == self.clip_of[:-last]
            is_whole[:-last] = same_clip & (self.frame_numbers[last:] - self.frame_numbers[:-last] == last)
        return is_whole


def pack_clips(
    root: Path, *, size: int = FACE_SIZE, limit: int | None = None, filelist: Path | None = None
) -> PackedClips:
    """Read the clips of a root, or of its `filelist`, into memory; `limit` keeps the first so many clips.

    A clip without frames, without sound, with one frame only or with sound shorter than a window is left
    out; so are missing frames. All are counted in `skipped`.

    Raises:
        DataError: if no usable clip is left or a file is broken.
    """
    counter = SkipCounter()
    clips = list_clips(root, filelist=filelist)[:limit]
    loaded = list(usable_clips(clips, counter, fewest_frames=2))
    if not loaded:
        raise DataError(f"no usable clip in {root}", "; ".join(counter.report().lines()))
    return _packed(loaded, size, counter)


def _packed(loaded: list[UsableClip], size: int, counter: SkipCounter) -> PackedClips:
    clips = [usable.clip for usable in loaded]
    counts = np.array([len(clip.frames) for clip in clips], dtype=np.int64)
    speakers = sorted({clip.speaker for clip in clips})
    place_of = {speaker: place for place, speaker in enumerate(speakers)}
    windows = _windows(loaded, counter)
    return PackedClips(
        clips=tuple(clip.name for clip in clips),
        speakers=tuple(speakers),
        frames=_frames(clips, size),
        mels=tuple(usable.mel for usable in loaded),
        clip_of=np.repeat(np.arange(len(clips)), counts),
        frame_numbers=np.concatenate([np.array(clip.frames, dtype=np.int64) for clip in clips]),
        speaker_of=np.repeat([place_of[clip.speaker] for clip in clips], counts),
        first_frames=np.cumsum(counts) - counts,
        counts=counts,
        mouth=_mouth(clips),
        skipped=counter.report(),
        timeline=np.concatenate([usable.mel.T for usable in loaded]),
        windows=windows,
    )


def _frames(clips: list[Clip], size: int) -> NDArray[np.uint8]:
    frames = np.empty((sum(len(clip.frames) for clip in clips), size, size, 3), dtype=np.uint8)
    pairs = ((clip, number) for clip in clips for number in clip.frames)
    for position, (clip, number) in enumerate(pairs):
        frames[position] = read_frame(clip, number, size)
    return frames


def _mouth(clips: list[Clip]) -> NDArray[np.float32] | None:
    mouths = [read_mouth(clip) for clip in clips]
    stated = [mouth for mouth in mouths if mouth is not None]
    return np.concatenate(stated) if len(stated) == len(clips) else None


def _windows(loaded: list[UsableClip], counter: SkipCounter) -> dict[WindowKind, NDArray[np.int64]]:
    """The start of each frame's window in the timeline, for each kind; frames without one are counted."""
    starts: dict[WindowKind, list[NDArray[np.int64]]] = {kind: [] for kind in WindowKind}
    offset = 0
    for usable in loaded:
        mel_frames = usable.mel.shape[1]
        counter.add(SkipReason.NO_WINDOW, usable.frames_without_window())
        counter.add(SkipReason.GAP, _fives_with_a_gap(usable.clip))
        for kind, found in starts.items():
            own = window_starts(kind, np.array(usable.clip.frames), mel_frames)
            found.append(np.where(own == NO_WINDOW, NO_WINDOW, own + offset))
        offset += mel_frames
    return {kind: np.concatenate(found) for kind, found in starts.items()}


def _fives_with_a_gap(clip: Clip) -> list[str]:
    """Frames from which five would be a window, if none of the next four were missing."""
    numbers = np.array(clip.frames)
    followers = np.searchsorted(numbers, numbers + FIVE - 1, side="right") - np.arange(len(numbers))
    has_gap = (followers < FIVE) & (numbers + FIVE - 1 <= numbers[-1])
    return [f"{clip.name}/{number}.jpg" for number in numbers[has_gap]]


def _window_kind(window: str) -> WindowKind:
    try:
        return WindowKind(window)
    except ValueError:
        listed = ", ".join(kind.value for kind in WindowKind)
        raise SpecError(f"unknown window {window!r}", f"choose from {listed}") from None


def _choose(
    generator: np.random.Generator, positions: NDArray[np.int64], count: int, what: str
) -> NDArray[np.int64]:
    if not len(positions):
        raise DataError(f"these clips hold no {what}", "give more clips, or longer ones")
    return positions[generator.integers(len(positions), size=count)]
