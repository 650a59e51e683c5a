"""Painting with soft edges: colours, distances to shapes, coverage of pixels, layers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[Any] | np.floating[Any]


def rgb(red: float, green: float, blue: float) -> Floats:
    """A colour of three parts, 0..1."""
    return np.array([red, green, blue], np.float32)


def mix(first: Floats, second: Floats, share: float) -> Floats:
    """The first colour with that share of the second."""
    return (first * (1 - share) + second * share).astype(np.float32)


def choose(random: np.random.Generator, colours: tuple[tuple[float, ...], ...]) -> Floats:
    """One of the colours, a little lighter or darker."""
    chosen = np.array(colours[random.integers(len(colours))]) * random.uniform(0.85, 1.12)
    return np.clip(chosen + random.normal(0, 0.012, 3), 0, 1).astype(np.float32)


def hsv(random: np.random.Generator, saturation: float, value: float) -> Floats:
    """A random hue, with at most that saturation and value."""
    hue, strength, bright = random.random() * 6, random.random() * saturation, random.uniform(0.12, value)
    ramp = np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return np.asarray(bright * (1 - strength + strength * np.clip(ramp, 0, 1)), np.float32)


class Canvas:
    """A picture being painted: `pixels` float32 (3, rows, columns), 0..1; `scale` pixels a unit of length."""

    def __init__(self, pixels: Floats, scale: float) -> None:
        self.pixels = pixels
        self.scale = scale

    def paint(self, mask: Floats, colour: Floats, opacity: float = 1.0) -> None:
        """Lay a colour, (3,) or (3, rows, columns), over the picture where `mask` (0..1) covers it."""
        layer = colour[:, None, None] if colour.ndim == 1 else colour
        self.pixels += (mask * np.float32(opacity)) * (layer - self.pixels)

    def shade(self, mask: Floats, factor: float) -> None:
        """Multiply the picture by `factor` where `mask` is 1."""
        self.pixels *= 1 + mask * np.float32(factor - 1)

    def cover(self, distance: Floats) -> Floats:
        """The share of each pixel that is inside; `distance` is in units of length, positive inside."""
        return np.asarray(np.clip(distance * np.float32(self.scale) + np.float32(0.5), 0, 1), np.float32)

    def cover_field(self, field: Floats) -> Floats:
        """The share of each pixel where a smooth `field` is positive; its slope is measured."""
        down, across = np.gradient(field)
        coverage = field / np.maximum(np.hypot(down, across), 1e-6) + np.float32(0.5)
        return np.asarray(np.clip(coverage, 0, 1), np.float32)


def ellipse(across: Floats, down: Floats, half_width: float, half_height: float) -> Floats:
    """Distance to an ellipse around the origin, positive inside, exact at its edge to first order."""
    x, y = across / np.float32(half_width), down / np.float32(half_height)
    radius = np.sqrt(x * x + y * y) + np.float32(1e-6)
    slope = np.sqrt((x / np.float32(half_width)) ** 2 + (y / np.float32(half_height)) ** 2) + np.float32(1e-6)
    return np.asarray(radius * (1 - radius) / slope, np.float32)


def bump(across: Numbers, down: Numbers, half_width: float, half_height: float) -> Floats:
    """A Gaussian hill of height 1 around the origin."""
    x, y = across / np.float32(half_width), down / np.float32(half_height)
    return np.asarray(np.exp(-(x * x) - y * y), np.float32)


def ramp(values: Numbers, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
