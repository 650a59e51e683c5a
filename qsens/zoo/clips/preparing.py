"""Videos to clips in the LRS layout: one folder each, complete or absent."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from qsens.calibration.files import file_sha256
from qsens.calibration.manifest import SetFacts, read_manifest
from qsens.core.errors import DataError, SpecError
from qsens.core.files import write_error
from qsens.core.interfaces import Progress
from qsens.zoo.audio.mel import mel_frame_count
from qsens.zoo.audio.wave import SAMPLE_RATE, write_wave
from qsens.zoo.audio.windows import MEL_STEP, VIDEO_FPS
from qsens.zoo.clips.faces import Box, FaceDetector, Margins, crop, smooth_boxes
from qsens.zoo.clips.layout import AUDIO_NAME
from qsens.zoo.clips.video import read_facts, read_sound, video_frames

SOURCE_NAME = "source.json"
CLIP_NAME = "0"
FEWEST_FRAMES = 2  # one to generate, another as its reference
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class PrepareOptions:
    """Options for cutting out faces: `margins` in pixels; `is_smoothed` averages boxes over five frames."""

    margins: Margins
    is_smoothed: bool


@dataclass(frozen=True)
class PreparedVideo:
    """One video that is a clip now.

    `frames` at 25 a second, of which `missing` show no face; `changes` says what was resampled; `was_there`
    is true where an earlier run had made the clip from the same file with the same options.
    """

    video: Path
    clip: str
    frames: int
    missing: int
    changes: tuple[str, ...]
    was_there: bool


@dataclass(frozen=True)
class FailedVideo:
    """One video that could not be made a clip, and why."""

    video: Path
    message: str
    hint: str


@dataclass(frozen=True)
class PrepareReport:
    """The result for each video, in the order given."""

    prepared: tuple[PreparedVideo, ...]
    failed: tuple[FailedVideo, ...]


def prepare_videos(
    videos: Sequence[Path],
    root: Path,
    options: PrepareOptions,
    detector: FaceDetector | None,
    progress: Progress,
) -> PrepareReport:
    """Write one clip a video below `root`; a clip made before from the same file and options stays.

    `detector` finds the faces; `None` takes whole frames. A video that cannot be used is reported and the
    others go on.

    Raises:
        SpecError: if two videos would become the same clip, or a clip would replace somebody's own folder.
        RunFolderError: if a clip cannot be written.
    """
    speakers = _speaker_names(videos)
    for speaker in speakers:
        _check_replaceable(root / speaker)
    prepared: list[PreparedVideo] = []
    failed: list[FailedVideo] = []
    preparer = _Preparer(options, detector, progress)
    for video, speaker in zip(videos, speakers, strict=True):
        try:
            prepared.append(preparer.prepare(video, root / speaker))
        except DataError as error:
            failed.append(FailedVideo(video, error.message, error.hint))
    return PrepareReport(tuple(prepared), tuple(failed))


@dataclass(frozen=True)
class _Preparer:
    options: PrepareOptions
    detector: FaceDetector | None
    progress: Progress

    def prepare(self, video: Path, speaker: Path) -> PreparedVideo:
        """One video to the clip `speaker`/0. Raises `DataError` if it cannot be used."""
        facts = read_facts(video)
        source = self._source(video)
        clip = f"{speaker.name}/{CLIP_NAME}"
        known = _read_record(speaker)
        if known is not None and known["source"] == source:
            frames, missing = known["frames"], known["missing"]
            return PreparedVideo(video, clip, frames, missing, facts.changes, was_there=True)
        partial = speaker.with_name(f".{speaker.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / CLIP_NAME).mkdir(parents=True)
            expected = round(facts.duration_s * VIDEO_FPS)
            frames, missing = self._write_clip(video, partial / CLIP_NAME, expected)
            record = {"source": source, "frames": frames, "missing": missing, "changes": facts.changes}
            _write_record(partial, record)
            shutil.rmtree(speaker, ignore_errors=True)
            partial.rename(speaker)
        except OSError as error:
            raise write_error(speaker, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return PreparedVideo(video, clip, frames, missing, facts.changes, was_there=False)

    def _source(self, video: Path) -> dict[str, Any]:
        """Everything that a clip depends on; paths do not count."""
        faces = "whole frames" if self.detector is None else self.detector.name
        return {
            "video": video.name,
            "sha256": file_sha256(video),
            "faces": faces,
            "options": asdict(self.options),
        }

    def _write_clip(self, video: Path, folder: Path, expected: int) -> tuple[int, int]:
        """Write sound and faces, frames named by their number; how many frames, how many without a face."""
        samples = read_sound(video).samples
        if mel_frame_count(len(samples)) < MEL_STEP:
            raise DataError(
                f"{video}: {len(samples) / SAMPLE_RATE:.2g} s of sound is shorter than one window (0.2 s)",
                "give a longer video",
            )
        boxes = self._boxes(video, expected)
        found = 0
        for number, (frame, box) in enumerate(zip(video_frames(video), boxes, strict=True)):
            kept = None if box is None else self.options.margins.around(box).inside(*frame.shape[:2])
            if kept is not None and not kept.is_empty:
                path = folder / f"{number}.jpg"
                Image.fromarray(crop(frame, kept)).save(path, quality=_JPEG_QUALITY)
                found += 1
        if found < FEWEST_FRAMES:
            raise DataError(
                f"{video}: a face in {found} of {len(boxes)} frames, {FEWEST_FRAMES} are needed",
                "give a video that shows a face from the front, or --whole-frame where it is a face crop",
            )
        write_wave(folder / AUDIO_NAME, samples)
        return len(boxes), len(boxes) - found

    def _boxes(self, video: Path, expected: int) -> list[Box | None]:
        """The box of the face in each frame at 25 a second."""
        boxes: list[Box | None] = []
        for frame in video_frames(video):
            if self.detector is None:
                boxes.append(Box(0, frame.shape[0], 0, frame.shape[1]))
            else:
                boxes.append(self.detector.detect(frame))
            self.progress(len(boxes), max(expected, len(boxes)), f"{video.name}: frames")
        return smooth_boxes(boxes) if self.options.is_smoothed else boxes


def check_facts(root: Path, facts: SetFacts) -> None:
    """Check before hours of work that the manifest can be written at the end.

    Raises:
        SpecError: if licence or origin is stated neither in `facts` nor in an earlier manifest.
        DataError: if an earlier manifest cannot be read.
    """
    previous = read_manifest(root)
    for option, value in (("licence", facts.licence), ("origin", facts.origin)):
        if not value and previous is None:
            raise SpecError(f"no {option} stated for {root}", f"add --{option} TEXT")


def _speaker_names(videos: Sequence[Path]) -> list[str]:
    names = [re.sub(r"[^\w.-]+", "_", video.stem).strip(".") or "video" for video in videos]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(f"two videos would become the clip '{twice}/{CLIP_NAME}'", "rename one of them")
    return names


def _check_replaceable(speaker: Path) -> None:
    """Only what an earlier run wrote may be replaced."""
    if speaker.exists() and _read_record(speaker) is None:
        raise SpecError(
            f"{speaker} exists and was not made by qsens zoo prepare",
            "give another --out, or rename the video",
        )


def _read_record(speaker: Path) -> Mapping[str, Any] | None:
    """The record that an earlier run wrote about a clip, or `None`."""
    try:
        record: Mapping[str, Any] = json.loads(
            (speaker / CLIP_NAME / SOURCE_NAME).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return None
    return record if {"source", "frames", "missing"} <= set(record) else None


def _write_record(speaker: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2) + "\n"
    (speaker / CLIP_NAME / SOURCE_NAME).write_text(text, encoding="utf-8")
