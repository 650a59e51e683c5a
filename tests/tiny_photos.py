"""Small photographs for tests that need a folder of images."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, count: int = 6, side: int = 8) -> Path:
    """A folder of PNGs of seeded, smooth-ish noise."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
        image.save(folder / f"photo-{index}.png")
    return folder
