"""Plain videos through PyAV: frames at 25 a second and sound at 16 kHz, on one clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from qsens.calibration.files import refuse_special
from qsens.core.errors import DataError
from qsens.device.errors import reason_of
from qsens.zoo.audio.wave import SAMPLE_RATE, Wave
from qsens.zoo.audio.windows import VIDEO_FPS

_HINT = "check that a player shows it; convert it with: ffmpeg -i INPUT -r 25 -ar 16000 OUTPUT.mp4"
_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class VideoFacts:
    """The facts that a video file states: average frame rate, sound rate in Hz, length (0 if not stated)."""

    fps: float
    sound_rate: int
    duration_s: float

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes made in reading, one phrase each; empty for 25 frames a second and 16 kHz."""
        frames = [] if abs(self.fps - VIDEO_FPS) < 0.01 else [f"{self.fps:.4g} frames a second taken at 25"]
        if self.sound_rate == SAMPLE_RATE:
            return tuple(frames)
        return (*frames, f"sound resampled from {self.sound_rate} Hz to 16 kHz")


def read_facts(path: Path) -> VideoFacts:
    """Frame rate, sound rate and length of a video.

    Raises:
        DataError: if it cannot be read, or has no picture or no sound.
    """
    with _opened(path) as container:
        picture, sound = _picture_stream(path, container), _sound_stream(path, container)
        fps = float(picture.average_rate or picture.guessed_rate or VIDEO_FPS)
        return VideoFacts(fps, int(sound.rate), (container.duration or 0) / av.time_base)


def video_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames at 25 a second, one after the other: uint8 (H, W, 3), 0 to 255, RGB, turned upright.

    Frame n is what the video shows at (n + 0.5) / 25 s after its first picture: other frame rates are met
    by repeating or leaving out frames, by their timestamps. Nothing is blended.

    Raises:
        DataError: if the video cannot be read or holds no picture.
    """
    with _opened(path) as container:
        stream = _picture_stream(path, container)
        stream.thread_type = "AUTO"
        shown, number = None, 0
        for start_s, frame in _timed_frames(container, stream):
            while shown is not None and _middle(number) < start_s:
                yield _pixels(shown)
                number += 1
            shown, end_s = frame, start_s + _duration_s(frame, stream)
        while shown is not None and _middle(number) < end_s:
            yield _pixels(shown)
            number += 1
    if number == 0:
        raise DataError(f"{path} holds no picture that can be decoded", _HINT)


def read_sound(path: Path) -> Wave:
    """The sound of a video from its first picture on: mono, 16 kHz, resampled by FFmpeg's swresample.

    Sound that starts later than the picture is preceded by silence; what comes before is cut.

    Raises:
        DataError: if the video cannot be read or has no sound.
    """
    with _opened(path) as container:
        picture, sound = _picture_stream(path, container), _sound_stream(path, container)
        source_rate = int(sound.rate)
        zero_s = _start_s(picture)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        blocks: list[NDArray[np.int16]] = []
        first_s: float | None = None
        for frame in container.decode(sound):
            if first_s is None:
                first_s = float(frame.time or 0.0)
            blocks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        blocks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    if first_s is None:
        raise DataError(f"{path} has a sound stream without sound", _HINT)
    samples = np.concatenate(blocks).astype(np.float32) / np.float32(_FULL_SCALE)
    late = round((first_s - zero_s) * SAMPLE_RATE)
    samples = np.concatenate([np.zeros(max(late, 0), np.float32), samples[max(-late, 0) :]])
    return Wave(samples, source_rate)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The container; whatever FFmpeg raises while it is open becomes a `DataError`."""
    refuse_special(path)
    try:
        with av.open(str(path)) as container:
            yield container
    except FileNotFoundError as error:
        raise DataError(f"no video {path}", "check the path") from error
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"cannot read {path} as a video: {reason_of(error)}", _HINT) from error


def _picture_stream(path: Path, container: Any) -> Any:
    if not container.streams.video:
        raise DataError(f"{path} has no picture", "give a video of a face that speaks")
    return container.streams.video[0]


def _sound_stream(path: Path, container: Any) -> Any:
    if not container.streams.audio:
        raise DataError(f"{path} has no sound", "give a video with the speaker's voice")
    return container.streams.audio[0]


def _timed_frames(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Decoded frames with their start in seconds after the first; without timestamps, by the frame rate."""
    zero_s: float | None = None
    for count, frame in enumerate(container.decode(stream)):
        time_s = count * _frame_s(stream) if frame.time is None else float(frame.time)
        zero_s = time_s if zero_s is None else zero_s
        yield time_s - zero_s, frame


def _start_s(stream: Any) -> float:
    return 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)


def _middle(number: int) -> float:
    return (number + 0.5) / VIDEO_FPS


def _frame_s(stream: Any) -> float:
    return 1.0 / float(stream.average_rate or stream.guessed_rate or VIDEO_FPS)


def _duration_s(frame: Any, stream: Any) -> float:
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return _frame_s(stream)


def _pixels(frame: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels
