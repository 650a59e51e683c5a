"""The surface of a head in a pose: the place of each pixel on it, and the light there."""

from dataclasses import dataclass

import numpy as np

from qsens.zoo.corpus.identity import Identity
from qsens.zoo.corpus.painting import Floats, bump, ramp
from qsens.zoo.corpus.scene import Light

_DEPTH = 0.5
_NOSE_DEPTH = 0.16
_JAW_DROP = 0.15


@dataclass(frozen=True)
class Pose:
    """The pose of a head: shifts in half pictures, angles in radians, positive to the right and downwards."""

    right: float = 0.0
    down: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0


@dataclass(frozen=True)
class Surface:
    """Coordinates of every pixel, float32 (rows, columns), in half pictures.

    `x`, `y`: in the plane of the outline; `across`, `down`: on the face, which turns with the head;
    `still_y`, `still_down`: the same as `y` and `down`, with the lower jaw taken back to where it rests;
    `nose_x`, `nose_y`: on the ridge of the nose; `depth`: of the skull, towards the viewer.
    """

    x: Floats
    y: Floats
    still_y: Floats
    across: Floats
    down: Floats
    still_down: Floats
    nose_x: Floats
    nose_y: Floats
    depth: Floats
    drop: float
    scale: float


def surface_of(size: int, pose: Pose, opening: float) -> Surface:
    """The head's coordinates for a square picture; `opening` 0..1 lowers the jaw."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    columns, rows = np.meshgrid(axis - np.float32(pose.right), axis - np.float32(pose.down))
    cosine, sine = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    x = (columns * cosine + rows * sine) / np.float32(pose.scale)
    y = (rows * cosine - columns * sine) / np.float32(pose.scale)
    depth = np.float32(_DEPTH) * np.sqrt(np.maximum(1 - (x / 0.85) ** 2 - (y / 1.15) ** 2, 0.02))
    turn, nod = np.float32(np.sin(pose.yaw)), np.float32(np.sin(pose.pitch))
    across = x - turn * (depth - np.float32(0.3 * _DEPTH))
    down = y - nod * (depth - np.float32(0.8 * _DEPTH))
    drop = _JAW_DROP * opening
    return Surface(
        x=x,
        y=y,
        still_y=_without_drop(y, drop, 0.80),
        across=across,
        down=down,
        still_down=_without_drop(down, drop, 0.66),
        nose_x=across - turn * np.float32(_NOSE_DEPTH),
        nose_y=down - nod * np.float32(_NOSE_DEPTH),
        depth=depth,
        drop=drop,
        scale=size / 2 * pose.scale,
    )


def _without_drop(y: Floats, drop: float, rest: float) -> Floats:
    """Heights on the face with the jaw at rest; what rests at `rest` or below has gone down by `drop`."""
    return y - np.float32(drop) * ramp(y, 0.16, rest + drop)


def shading(surface: Surface, identity: Identity, light: Light) -> Floats:
    """Light on the skin, float32 (3, rows, columns), about 0.4..1.3; features stand out in relief."""
    relief = surface.depth + _relief(surface, identity)
    down, across = np.gradient(relief)
    scale = np.float32(surface.scale)
    normal_x, normal_y = -across * scale, -down * scale
    length = np.sqrt(normal_x**2 + normal_y**2 + 1)
    x, y, z = (float(part) for part in light.direction)
    facing = np.maximum((normal_x * x + normal_y * y + z) / length, 0)
    shine = np.float32(identity.skin.sheen) * facing**14
    lit = light.ambient[:, None, None] + light.colour[:, None, None] * (
        np.float32(light.strength) * facing + shine
    )
    return np.asarray(lit * (1 - _nose_shadow(surface, identity, light)), np.float32)


def _nose_shadow(surface: Surface, identity: Identity, light: Light) -> Floats:
    side, below = float(light.direction[0]), float(light.direction[1])
    cast = bump(
        surface.across + np.float32(0.16 * side),
        surface.down - np.float32(identity.nose.tip + 0.05 - 0.08 * below),
        identity.nose.width * 0.9,
        0.07,
    )
    return np.float32(0.22 * identity.nose.relief * np.hypot(side, below)) * cast


def _relief(surface: Surface, identity: Identity) -> Floats:
    """Brow, sockets, cheeks, nose and chin as hills on the skull."""
    s, t, rest = surface.across, surface.down, surface.still_down
    eyes, nose, head = identity.eyes, identity.nose, identity.head
    mirrored = np.abs(s)
    bridge = ramp(surface.nose_y, eyes.height - 0.08, nose.tip) * ramp(
        -surface.nose_y, -nose.tip - 0.07, -nose.tip
    )
    ridge = bump(surface.nose_x, np.float32(0), 0.055 + 0.3 * nose.width, 1.0) * bridge
    wings = bump(
        np.abs(surface.nose_x) - np.float32(nose.width * 0.75), t - np.float32(nose.tip), 0.04, 0.045
    )
    cheek = bump(mirrored - np.float32(0.30), rest - np.float32(0.10), 0.16, 0.16)
    socket = bump(mirrored - np.float32(eyes.spacing), t - np.float32(eyes.height), 0.13, 0.09)
    chin = bump(s, rest - np.float32(head.chin - 0.10), 0.15, 0.09)
    muzzle = bump(s, rest - np.float32(identity.lips.height), 0.22, 0.14)
    relief = np.float32(nose.relief) * (0.11 * ridge + 0.035 * wings) + (0.03 + 0.04 * head.cheeks) * cheek
    return np.asarray(relief - 0.05 * socket + 0.045 * chin + 0.04 * muzzle, np.float32)
