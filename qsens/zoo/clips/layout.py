"""Clips on disk in the layout of LRS: `ROOT/<speaker>/<clip>/{0.jpg, 1.jpg, ..., audio.wav}`."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.files import refuse_special
from qsens.calibration.images import opened_image
from qsens.core.errors import DataError
from qsens.device.errors import reason_of

AUDIO_NAME = "audio.wav"
MOUTH_NAME = "mouth.csv"
MOUTH_COLUMNS = ("frame", "open", "width", "round")
FACE_SIZE = 96
MASKED_ROWS = slice(FACE_SIZE // 2, FACE_SIZE)
MOUTH_BOX = (slice(55, 85), slice(24, 72))  # rows, columns of a 96x96 frame
_FRAME_NAME = re.compile(r"(0|[1-9][0-9]*)\.jpg")


@dataclass(frozen=True)
class Clip:
    """One clip: `name` is `<speaker>/<clip>`; `frames` are the numbers of its frames, rising, with gaps.

    Frame numbers are 0-based positions in the source video at 25 frames a second.
    """

    name: str
    folder: Path
    frames: tuple[int, ...]

    @property
    def speaker(self) -> str:
        """The folder above the clip: who speaks, or which video."""
        return self.name.partition("/")[0]

    @property
    def audio(self) -> Path:
        """The clip's sound; the file may be missing."""
        return self.folder / AUDIO_NAME

    @property
    def missing_frames(self) -> tuple[int, ...]:
        """Numbers between the first and the last frame that have no file."""
        if not self.frames:
            return ()
        present = set(self.frames)
        return tuple(n for n in range(self.frames[0], self.frames[-1]) if n not in present)

    def frame_path(self, number: int) -> Path:
        """The file of the picture of a frame."""
        return self.folder / f"{number}.jpg"


def list_clips(root: Path, *, filelist: Path | None = None) -> tuple[Clip, ...]:
    """Every clip below `root`, sorted by name, also those without frames or sound.

    `filelist` keeps to the clips it names: one `<speaker>/<clip>` a line, the rest of a line ignored, as in
    the lists of LRS2 and LRS3.

    Raises:
        DataError: if there is no clip, a frame file has another name than a number, or a listed clip is
            missing.
    """
    names = _folder_names(root) if filelist is None else _listed_names(filelist)
    if not names:
        raise DataError(
            f"no clip in {filelist or root}", "clips lie in ROOT/<speaker>/<clip>/ with 0.jpg, ..., audio.wav"
        )
    return tuple(_open_clip(root, name) for name in names)


def read_frame(clip: Clip, number: int, size: int = FACE_SIZE) -> NDArray[np.uint8]:
    """One frame: uint8 (size, size, 3), 0 to 255, RGB.

    Other sizes are sampled bilinearly at pixel centres without antialiasing, as OpenCV does and so as the
    published weights saw their training data.

    Raises:
        DataError: if the file is missing or broken.
    """
    path = clip.frame_path(number)
    with opened_image(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels if pixels.shape[:2] == (size, size) else resize_bilinear(pixels, size)


def read_mouth(clip: Clip) -> NDArray[np.float32] | None:
    """Mouth opening, width and rounding of each frame: float32 (frames, 3), 0 to 1; `None` without the file.

    Raises:
        DataError: if the file is malformed or lacks one of the clip's frames.
    """
    path = clip.folder / MOUTH_NAME
    refuse_special(path)
    hint = f"columns: {','.join(MOUTH_COLUMNS)}, one row a frame, values 0 to 1"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = {
                int(row["frame"]): [float(row[key]) for key in MOUTH_COLUMNS[1:]]
                for row in csv.DictReader(stream)
            }
        mouth = np.array([rows[number] for number in clip.frames], dtype=np.float32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", hint) from error
    except KeyError as error:
        raise DataError(f"{path} has no row or column for {error}", hint) from error
    if mouth.size and not (mouth.min() >= 0.0 and mouth.max() <= 1.0):
        raise DataError(f"{path} holds values from {mouth.min():g} to {mouth.max():g}", hint)
    return mouth.reshape(-1, len(MOUTH_COLUMNS) - 1)


def resize_bilinear(pixels: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """Pixels uint8 (H, W, C) at (size, size, C), bilinear at pixel centres, no antialiasing."""
    rows, row_weights = _taps(pixels.shape[0], size)
    columns, column_weights = _taps(pixels.shape[1], size)
    upper, lower = pixels[rows[0]].astype(np.float32), pixels[rows[1]].astype(np.float32)
    across = upper + (lower - upper) * row_weights[:, None, None]
    left, right = across[:, columns[0]], across[:, columns[1]]
    mixed = left + (right - left) * column_weights[None, :, None]
    return np.asarray(mixed + 0.5, dtype=np.uint8)


def _taps(source: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The two source positions (2, size) of each target position, and the weight of the second."""
    centres = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0.0, source - 1.0)
    first = np.floor(centres).astype(np.int64)
    return np.stack([first, np.minimum(first + 1, source - 1)]), (centres - first).astype(np.float32)


def _folder_names(root: Path) -> list[str]:
    return sorted(f"{speaker.name}/{clip.name}" for speaker in _folders(root) for clip in _folders(speaker))


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot list folder {folder}: {reason_of(error)}", "check the path") from error


def _listed_names(filelist: Path) -> list[str]:
    refuse_special(filelist)
    try:
        lines = filelist.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {filelist}: {reason_of(error)}", "check the path") from error
    return sorted({line.split()[0] for line in lines if line.strip()})


def _open_clip(root: Path, name: str) -> Clip:
    folder = root / name
    try:
        files = [path.name for path in folder.iterdir() if path.suffix == ".jpg"]
    except OSError as error:
        raise DataError(
            f"no clip {name!r} in {root}: {reason_of(error)}", "give the root that the file list belongs to"
        ) from error
    wrong = next((file for file in sorted(files) if not _FRAME_NAME.fullmatch(file)), None)
    if wrong is not None:
        raise DataError(
            f"{folder / wrong} is not named by its frame number", "name frames 0.jpg, 1.jpg, without zeros"
        )
    return Clip(name, folder, tuple(sorted(int(Path(file).stem) for file in files)))
