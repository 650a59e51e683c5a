"""Small sets on disk for the tests of this folder."""

import numpy as np
from PIL import Image

from qsens.calibration.sets import open_sample_set
from qsens.core.interfaces import InputSpec

IMAGE = InputSpec("image", (3, None, None), "float32", True)
LATENT = InputSpec("z", (4,), "float32", True)
STYLE = InputSpec("style", (3,), "float32", False)


def pixels(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder, count, height=6, width=8):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(pixels(height, width, index)).save(folder / f"{index:03d}.png")
    return folder


def write_arrays(folder, count, **extra):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        arrays = {"mel": np.full((1, 4), index, np.float32), "face": np.full((6, 5, 5), index, np.float32)}
        arrays.update({key: value(index) for key, value in extra.items()})
        np.savez(folder / f"{index:03d}.npz", **arrays)
    return folder


def opened(source, inputs=(IMAGE,), rules=None, seed=0, count=None):
    return open_sample_set(str(source), inputs=inputs, rules=rules or {}, seed=seed, count=count)
