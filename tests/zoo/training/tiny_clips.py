"""A tiny corpus whose mouth moves with the loudness of its sound."""

from pathlib import Path

import numpy as np
from PIL import Image

from qsens.zoo.audio.wave import write_wave

FRAMES = 30


def write_tiny_corpus(root: Path, *, clips: int = 3, seed: int = 0, has_mouth: bool = True) -> Path:
    """Clips of 30 frames, 96x96, with a dark ellipse that opens with the loudness of a tone."""
    generator = np.random.default_rng(seed)
    for clip in range(clips):
        folder = root / f"speaker{clip}" / "00000"
        folder.mkdir(parents=True)
        opening = generator.random(FRAMES)
        loudness = np.repeat(opening, 640)
        time = np.arange(len(loudness)) / 16_000
        write_wave(folder / "audio.wav", (0.3 * loudness * np.sin(2 * np.pi * 300 * time)).astype(np.float32))
        colour = generator.integers(90, 220, 3)
        for number in range(FRAMES):
            Image.fromarray(_frame(colour, opening[number])).save(folder / f"{number}.jpg", quality=95)
        if has_mouth:
            rows = [f"{number},{opening[number]:.4f},0.5,0.5" for number in range(FRAMES)]
            (folder / "mouth.csv").write_text("\n".join(["frame,open,width,round", *rows]) + "\n")
    return root


def _frame(colour: np.ndarray, opening: float) -> np.ndarray:
    rows, columns = np.mgrid[0:96, 0:96]
    picture = np.broadcast_to(colour, (96, 96, 3)).copy()
    picture += ((rows + columns) % 16)[..., None].astype(picture.dtype)
    inside = ((columns - 48) / 16) ** 2 + ((rows - 70) / (2 + 12 * opening)) ** 2 < 1
    picture[inside] = (40, 10, 10)
    return picture.clip(0, 255).astype(np.uint8)
