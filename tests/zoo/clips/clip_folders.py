"""Clips on disk for tests: each pixel tells the clip, the frame and the place."""

import numpy as np
from PIL import Image

from qsens.core.interfaces import InputSpec
from qsens.zoo.audio.wave import write_wave

MEL_INPUT = InputSpec("mel", (1, 80, 16), "float32", is_batched=True)
FACE_INPUT = InputSpec("face", (6, 96, 96), "float32", is_batched=True)
INPUTS = (MEL_INPUT, FACE_INPUT)


def picture(clip, frame, size=96):
    """Flat colour: red names the clip, green the frame; blue differs between the halves."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., 0] = 40 * clip + 20
    pixels[..., 1] = 5 * frame + 10
    pixels[: size // 2, :, 2] = 200
    return pixels


def write_clip(root, name, frames, *, clip=0, seconds=None, size=96, rate=None):
    """Frames by number, and sound that lasts as long plus 0.4 s; `seconds=0` writes none."""
    folder = root / name
    folder.mkdir(parents=True)
    for frame in frames:
        Image.fromarray(picture(clip, frame, size)).save(folder / f"{frame}.jpg", quality=95, subsampling=0)
    seconds = (max(frames, default=0) + 1) / 25 + 0.4 if seconds is None else seconds
    if seconds:
        samples = np.random.default_rng(clip).normal(0, 0.1, int(seconds * 16_000))
        write_wave(folder / "audio.wav", samples)
    return folder


def write_mouth(folder, frames):
    rows = [f"{frame},{frame / 100},0.5,0.25" for frame in frames]
    (folder / "mouth.csv").write_text("frame,open,width,round\n" + "\n".join(rows) + "\n")
