"""Colours as float32 (3,), RGB 0..1: mixed, chosen and drawn at random."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


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
