"""Windows of 16 mel frames (200 ms) for each video frame, at inference and in training."""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.mel import MEL_FRAMES_A_SECOND

MEL_STEP = 16
VIDEO_FPS = 25.0
NO_WINDOW = -1


class WindowKind(StrEnum):
    """The placements of the mel window of video frame f.

    `INFERENCE` starts at floor(80 f / fps); the first window that would pass the end is replaced by the last
    16 mel frames, and later video frames have none. `TRAINING` starts one video frame earlier, so frame 0
    has none. `SYNC` starts at floor(80 f / fps) and never moves: the window of five frames from f on, for the
    lip-sync loss. (Wav2Lip trains and infers with different windows; calibrate with `INFERENCE`.)
    """

    INFERENCE = "inference"
    TRAINING = "training"
    SYNC = "sync"


def inference_starts(mel_frames: int, fps: float = VIDEO_FPS) -> NDArray[np.int64]:
    """First mel frame of each inference window, int64 (windows,); the last one is the tail window.

    Raises:
        DataError: if there are fewer than 16 mel frames.
        SpecError: if `fps` is not positive.
    """
    if mel_frames < MEL_STEP:
        raise DataError(
            f"{mel_frames} mel frames are less than one window of {MEL_STEP}", "give at least 0.2 s of sound"
        )
    _check_fps(fps)
    whole_windows = int((mel_frames - MEL_STEP + 1) * fps / MEL_FRAMES_A_SECOND) + 2
    starts = window_starts(WindowKind.INFERENCE, np.arange(whole_windows), mel_frames, fps)
    return np.extract(starts != NO_WINDOW, starts)


def window_starts(
    kind: WindowKind, frames: NDArray[Any], mel_frames: int, fps: float = VIDEO_FPS
) -> NDArray[np.int64]:
    """First mel frame of the window of each video frame; -1 where a frame has no window.

    `frames`: whole numbers (N,), 0-based; the result is int64 (N,).
    """
    _check_fps(fps)
    earlier = 1 if kind is WindowKind.TRAINING else 0
    positions = np.asarray(frames, dtype=np.int64) - earlier
    starts = _start_of(positions, fps)
    last_start = mel_frames - MEL_STEP
    is_whole = (positions >= 0) & (starts <= last_start)
    result = np.where(is_whole, starts, NO_WINDOW)
    if kind is WindowKind.INFERENCE and last_start >= 0:
        is_tail = (positions >= 0) & ~is_whole & (_start_of(np.maximum(positions - 1, 0), fps) <= last_start)
        result = np.where(is_tail, last_start, result)
    return result


def inference_window(mel: NDArray[Any], frame: int, fps: float = VIDEO_FPS) -> NDArray[Any]:
    """The inference window of a video frame: (80, 16) of a mel spectrogram (80, T).

    Raises:
        DataError: if the sound ends before that frame.
    """
    return _window(WindowKind.INFERENCE, mel, frame, fps)


def training_window(mel: NDArray[Any], frame: int, fps: float = VIDEO_FPS) -> NDArray[Any]:
    """The training window of a video frame: (80, 16) of a mel spectrogram (80, T).

    Raises:
        DataError: for frame 0, and if the sound ends before the window does.
    """
    return _window(WindowKind.TRAINING, mel, frame, fps)


def sync_window(mel: NDArray[Any], frame: int, fps: float = VIDEO_FPS) -> NDArray[Any]:
    """The window of the five frames that begin with `frame`: (80, 16) of a mel spectrogram (80, T).

    Raises:
        DataError: if the sound ends before the window does.
    """
    return _window(WindowKind.SYNC, mel, frame, fps)


def _window(kind: WindowKind, mel: NDArray[Any], frame: int, fps: float) -> NDArray[Any]:
    start = int(window_starts(kind, np.array([frame]), mel.shape[1], fps)[0])
    if start == NO_WINDOW:
        raise DataError(
            f"video frame {frame} has no {kind.value} window in {mel.shape[1]} mel frames",
            "leave the frame out, or give longer sound",
        )
    return mel[:, start : start + MEL_STEP]


def _start_of(positions: NDArray[np.int64], fps: float) -> NDArray[np.int64]:
    # Multiplied first: 80 / fps is rounded, and its multiples could fall just below a whole number.
    return np.floor(positions * MEL_FRAMES_A_SECOND / fps).astype(np.int64)


def _check_fps(fps: float) -> None:
    if not fps > 0:
        raise SpecError(f"{fps} frames a second", "give a positive frame rate")
