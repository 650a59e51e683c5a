"""The surroundings of a face: a random light, background and clothes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from qsens.zoo.corpus.painting import Floats, hsv, rgb


@dataclass(frozen=True)
class Light:
    """A lamp and the light of the room. `direction`: unit vector (right, down, towards the viewer)."""

    direction: Floats
    colour: Floats
    strength: float
    ambient: Floats


@dataclass(frozen=True)
class Scene:
    """Everything around a face: light, background float32 (3, size, size) in 0..1, clothes."""

    light: Light
    background: Floats
    clothes: Floats
    collar: float

    @classmethod
    def draw(cls, random: np.random.Generator, size: int) -> "Scene":
        return cls(
            _light(random), _background(random, size), hsv(random, 0.75, 0.85), random.uniform(0.86, 1.0)
        )


def _light(random: np.random.Generator) -> Light:
    direction = np.array([random.uniform(-1.1, 1.1), random.uniform(-1.0, 0.15), 1.0])
    warmth = random.uniform(-0.08, 0.08)
    return Light(
        (direction / np.linalg.norm(direction)).astype(np.float32),
        rgb(1 + warmth, 1, 1 - warmth),
        random.uniform(0.42, 0.72),
        rgb(1 - warmth / 2, 1, 1 + warmth / 2) * np.float32(random.uniform(0.34, 0.48)),
    )


def _background(random: np.random.Generator, size: int) -> Floats:
    axis = np.linspace(-1, 1, size)
    across, down = np.meshgrid(axis, axis)
    angle = random.uniform(0, 2 * np.pi)
    along = 0.5 + 0.5 * (across * np.cos(angle) + down * np.sin(angle)) / np.sqrt(2)
    first, second = (hsv(random, 0.6, 0.95)[:, None, None] for _ in range(2))
    picture = first * (1 - along) + second * along
    kind = random.integers(4)
    if kind == 1:
        picture = _with_blobs(random, picture, across, down)
    elif kind == 2:
        picture = _with_boxes(random, picture)
    elif kind == 3:
        weave = np.sin(along * random.uniform(12, 40)) * np.sin(
            (across - down) * random.uniform(0, 9) + angle
        )
        picture = picture * (1 + random.uniform(0.05, 0.2) * weave)
    blur = size / 96 * random.uniform(0.8, 2.0)
    return np.asarray(np.clip(gaussian_filter(picture, (0, blur, blur)), 0, 1), np.float32)


def _with_blobs(
    random: np.random.Generator,
    picture: NDArray[np.float64],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Lamps out of focus."""
    for _ in range(random.integers(4, 12)):
        x, y, radius = random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(0.06, 0.25)
        inside = np.clip((radius - np.hypot(across - x, down - y)) * 30 + 0.5, 0, 1) * random.uniform(
            0.2, 0.7
        )
        picture = picture * (1 - inside) + hsv(random, 0.6, 1.0)[:, None, None] * inside
    return picture


def _with_boxes(random: np.random.Generator, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shelves, windows and frames out of focus."""
    size = picture.shape[-1]
    for _ in range(random.integers(3, 9)):
        top, left = random.integers(0, size, 2)
        height, width = random.integers(size // 10, size // 2, 2)
        picture[:, top : top + height, left : left + width] = hsv(random, 0.6, 0.9)[:, None, None]
    return picture
