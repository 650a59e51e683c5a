"""Familiar alterations done to pictures: JPEG, noise, blur and brightness, each rounded to 8 bits once."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.alterations import FULL_COLOUR_FROM, Alteration

Images = NDArray[np.uint8]
# Pillow's numbers for the resolution of colours in a JPEG file.
_FULL_COLOUR, _HALVED_COLOUR = 0, 2


def altered(images: Images, alteration: Alteration, *, start: int = 0, seed: int = 0) -> Images:
    """The pictures after an alteration; both uint8 (N, 3, H, W), 0 to 255, RGB.

    - `jpeg`: saved at that quality by Pillow and read again, colours at full resolution (4:4:4) from 95 up,
      halved in both directions (4:2:0) below;
    - `noise`: normal noise of that standard deviation in grey levels, its own for every value. Picture
      number `start` + i draws it from `seed` and that number, so that batches do not matter;
    - `blur`: a Gaussian of that standard deviation in pixels, edges mirrored;
    - `brightness`: values times that factor.

    Values are rounded to the nearest level and clipped.
    """
    alter = _BY_KIND[alteration.kind]
    return np.stack(
        [alter(image, alteration.amount, (seed, start + place)) for place, image in enumerate(images)]
    )


def _jpeg(image: Images, quality: float, _: tuple[int, int]) -> Images:
    from PIL import Image  # only needed where yardsticks are made

    colour = _FULL_COLOUR if quality >= FULL_COLOUR_FROM else _HALVED_COLOUR
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.save(file, "JPEG", quality=int(quality), subsampling=colour)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


def _noise(image: Images, deviation: float, seed: tuple[int, int]) -> Images:
    drawn = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return _rounded(image + np.float32(deviation) * drawn)


def _blur(image: Images, deviation: float, _: tuple[int, int]) -> Images:
    from scipy.ndimage import gaussian_filter  # SciPy takes a quarter of a second to load

    return _rounded(gaussian_filter(image.astype(np.float32), (0.0, deviation, deviation)))


def _brightness(image: Images, factor: float, _: tuple[int, int]) -> Images:
    return _rounded(image * np.float32(factor))


def _rounded(values: NDArray[Any]) -> Images:
    rounded: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


_BY_KIND: dict[str, Callable[[Images, float, tuple[int, int]], Images]] = {
    "jpeg": _jpeg,
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
}
