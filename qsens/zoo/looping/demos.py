"""The demos `diffusion` and `video`: shipped weights, and sets that are drawn where they are needed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qsens.calibration.manifest import SetFacts, is_complete, write_manifest
from qsens.zoo.corpus.writing import LICENCE
from qsens.zoo.looping.pictures import CLIP_SIDE, FACE_SIDE, NOISE, STATE_CHANNELS, drawn_clip

HERE = Path(__file__).parent
STEPS = 16
NOISES, FACES, REAL_FACES = 24, 96, 400
CALIBRATION_CLIPS, EVALUATION_CLIPS, FRAMES = 5, 8, 12
# Speakers that none of the networks was trained on.
_FACES_SEED, _CLIPS_SEED = 9101, 9102
ORIGIN = "faces drawn by qsens; no photographs"
Array = np.ndarray[Any, np.dtype[Any]]


class DiffusionDemo:
    """A flow-matching U-Net with attention that makes faces of 32x32 pixels of noise."""

    name = "diffusion"

    def spec_values(self, folder: Path) -> Mapping[str, Any]:
        """Values of the demo's spec; real faces are drawn under `folder`. Raises `RunFolderError`."""
        return {
            "checkpoint": str(HERE / "diffusion.safetensors"),
            "model": "qsens.zoo.looping.networks:denoiser",
            "input_shapes": {"x": [1, 3, FACE_SIDE, FACE_SIDE], "t": [1]},
            "loop": {
                **{"name": "sampler", "method": "euler", "steps": STEPS},
                **{"noisy": "x", "time": "t", "output": "velocity"},
            },
            "calibration": "noise",
            "reference": str(_drawn(folder / "diffusion" / "faces", _real_faces())),
            "output": {"value_range": [-1.0, 1.0]},
            "calibration_samples": NOISES,
            "evaluation_samples": FACES,
        }

    def notes(self) -> tuple[str, ...]:
        """Notes that a reader of the demo's numbers needs."""
        return (
            "Generator: a small U-Net with attention and time embedding, trained for qsens on drawn faces by "
            f"flow matching; {STEPS} calls make a picture.",
            "Two maps that part early make two different faces of one noise: read FID against real faces as "
            "quality, and PSNR as how far they have parted.",
        )


class VideoDemo:
    """A recurrent super-resolver that doubles noisy frames and hands a state on to the next one."""

    name = "video"

    def spec_values(self, folder: Path) -> Mapping[str, Any]:
        """Values of the demo's spec; clips are drawn under `folder`. Raises `RunFolderError`."""
        clips = CALIBRATION_CLIPS, EVALUATION_CLIPS
        small = folder / "video" / "frames"
        return {
            "checkpoint": str(HERE / "video.safetensors"),
            "model": "qsens.zoo.looping.networks:upscaler",
            "input_shapes": {
                "frame": [1, 3, CLIP_SIDE // 2, CLIP_SIDE // 2],
                "state": [1, STATE_CHANNELS, CLIP_SIDE // 2, CLIP_SIDE // 2],
            },
            "loop": {"name": "recurrent", "states": {"state": "next_state"}},
            "calibration": str(_drawn(small, _noisy_frames(sum(clips)), r"(\d+)-\d+\.png")),
            "reference": str(_drawn(folder / "video" / "sharp", _sharp_frames(sum(clips)))),
            "output": {"name": "picture"},
            "metrics": ["fid", "fid-fp32", "psnr", "ssim", "flicker"],
            "calibration_samples": CALIBRATION_CLIPS * FRAMES,
            "evaluation_samples": EVALUATION_CLIPS * FRAMES,
        }

    def notes(self) -> tuple[str, ...]:
        """Notes that a reader of the demo's numbers needs."""
        return (
            "Generator: a small recurrent super-resolver, trained for qsens on clips of drawn faces at half "
            "their side, with noise.",
            "Frames of a clip are played in order; damage of a frame goes on in the state.",
        )


def _real_faces() -> Iterator[tuple[str, Array]]:
    for number in range(REAL_FACES):
        yield f"{number:04d}.png", drawn_clip(_FACES_SEED, number, 1, FACE_SIDE)[0]


def _sharp_frames(clips: int) -> Iterator[tuple[str, Array]]:
    for clip in range(clips):
        for frame, picture in enumerate(drawn_clip(_CLIPS_SEED, clip, FRAMES, CLIP_SIDE)):
            yield f"{clip:02d}-{frame:02d}.png", picture


def _noisy_frames(clips: int) -> Iterator[tuple[str, Array]]:
    random = np.random.default_rng(_CLIPS_SEED)
    for name, picture in _sharp_frames(clips):
        small = picture.reshape(3, CLIP_SIDE // 2, 2, CLIP_SIDE // 2, 2).mean(axis=(2, 4))
        noisy = small + 255 * NOISE * random.standard_normal(small.shape)
        yield name, np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _drawn(folder: Path, pictures: Iterator[tuple[str, Array]], clip_pattern: str | None = None) -> Path:
    """The folder with these pictures, uint8 (3, H, W), drawn once and checked afterwards."""
    if not is_complete(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures:
            Image.fromarray(picture.transpose(1, 2, 0)).save(folder / name)
        write_manifest(folder, SetFacts(LICENCE, ORIGIN, folder.name, clip_pattern=clip_pattern))
    return folder
