"""The mouth: lips, teeth, tongue and the dark between them, from its shape in one instant."""

from dataclasses import dataclass

import numpy as np

from qsens.zoo.corpus.identity import Identity, Lips
from qsens.zoo.corpus.painting import Canvas, Floats, bump, ellipse, ramp
from qsens.zoo.corpus.phones import Mouth
from qsens.zoo.corpus.surface import Surface

WIDEST_GAP = 0.27
"""The distance between the lips at the opening 1, in half pictures, for a head of scale 1."""

_UPPER_SHARE = 0.16
_TEETH = np.array([0.93, 0.90, 0.85], np.float32)
_TONGUE = np.array([0.60, 0.23, 0.25], np.float32)
_CAVITY = np.array([0.17, 0.05, 0.05], np.float32)


@dataclass(frozen=True)
class _Edges:
    """The four edges of the lips as heights, and the place along the mouth -1..1, all (rows, columns)."""

    along: Floats
    upper_out: Floats
    upper_in: Floats
    lower_in: Floats
    lower_out: Floats


def half_width_of(lips: Lips, mouth: Mouth) -> float:
    """Half the mouth's width in half pictures: spread by `width`, drawn together by `round`."""
    return lips.half_width * (0.72 + 0.42 * mouth.width) * (1 - 0.30 * mouth.round)


def paint_mouth(canvas: Canvas, surface: Surface, identity: Identity, mouth: Mouth, light: Floats) -> None:
    """Paint the mouth over the skin; `light` is the shading of the skin there."""
    lips = identity.lips
    edges = _edges(surface, lips, mouth)
    is_within = canvas.cover((1 - np.abs(edges.along)) * np.float32(half_width_of(lips, mouth)))
    upper = _between(canvas, edges.upper_out, edges.upper_in, surface) * is_within
    lower = _between(canvas, edges.lower_in, edges.lower_out, surface) * is_within
    gap = _between(canvas, edges.upper_in, edges.lower_in, surface) * is_within
    below = surface.down - edges.lower_out
    shadow = bump(edges.along * np.float32(0.8), below / np.float32(lips.lower) - np.float32(0.5), 0.6, 0.6)
    canvas.shade(shadow * canvas.cover(below), 0.80)
    canvas.paint(upper, lips.colour[:, None, None] * light * np.float32(0.84))
    canvas.paint(lower, lips.colour[:, None, None] * light * np.float32(1.02))
    _paint_gleam(canvas, surface, edges, lips, lower * np.float32(1 - 0.5 * mouth.tuck))
    _paint_inside(canvas, surface, edges, mouth, gap)
    _paint_seam(canvas, surface, edges, mouth, is_within)


def _edges(surface: Surface, lips: Lips, mouth: Mouth) -> _Edges:
    half_width = half_width_of(lips, mouth)
    along = surface.across / np.float32(half_width)
    square = np.minimum(along * along, 1)
    arch = 1 - square
    full = np.sqrt(arch)
    gap = np.float32(WIDEST_GAP * mouth.open)
    corner = np.float32(
        lips.height + 0.10 * WIDEST_GAP * mouth.open - 0.012 * mouth.width * (1 - mouth.round)
    )
    # A round mouth is an ellipse; a spread one ends in points.
    roundness = np.float32(0.35 + 0.65 * mouth.round)
    inner = arch * (1 - roundness) + full * roundness
    upper_in = corner - gap * np.float32(_UPPER_SHARE + 0.10) * inner
    lower_in = corner + gap * np.float32(1 - _UPPER_SHARE - 0.10) * inner
    thicker = 1 + 0.30 * mouth.round - 0.12 * mouth.open - 0.10 * mouth.width
    dip = 1 - np.float32(lips.bow) * bump(along, np.float32(0), 0.16, 1.0)
    upper_out = upper_in - np.float32(lips.upper * thicker) * (0.35 * full + 0.65 * arch) * dip * 1.15
    tucked = 1 - 0.55 * mouth.tuck
    lower_out = lower_in + np.float32(lips.lower * thicker * tucked) * (0.5 * full + 0.5 * arch)
    return _Edges(along, upper_out, upper_in, lower_in, lower_out)


def _between(canvas: Canvas, top: Floats, bottom: Floats, surface: Surface) -> Floats:
    return np.minimum(canvas.cover(surface.down - top), canvas.cover(bottom - surface.down))


def _paint_gleam(canvas: Canvas, surface: Surface, edges: _Edges, lips: Lips, lower: Floats) -> None:
    """The highlight on the lower lip."""
    off_middle = surface.down - 0.5 * (edges.lower_in + edges.lower_out)
    gleam = bump(edges.along - np.float32(0.12), off_middle / np.float32(lips.lower), 0.38, 0.22)
    canvas.paint(gleam * lower, np.ones(3, np.float32), lips.gloss)


def _paint_inside(canvas: Canvas, surface: Surface, edges: _Edges, mouth: Mouth, gap: Floats) -> None:
    """The dark, lower teeth, tongue and upper teeth, in this order, within the gap."""
    down, along = surface.down, edges.along
    canvas.paint(gap, _CAVITY)
    dim = 1 - 0.45 * along * along
    lower_row = canvas.cover(down - (edges.lower_in - np.float32(0.035)))
    canvas.paint(
        gap * lower_row, _TEETH[:, None, None] * dim * np.float32(0.78), 0.8 * (1 - 0.8 * mouth.round)
    )
    _paint_tongue(canvas, surface, edges, mouth, gap)
    length = 0.052 + 0.010 * mouth.width
    upper_row = canvas.cover(edges.upper_in + np.float32(length) * (1 - 0.35 * along * along) - down)
    near_lip = 1 - 0.30 * ramp(edges.upper_in + np.float32(0.03) - down, 0.0, 0.03)
    shown = 0.96 * (1 - 0.85 * mouth.round)
    canvas.paint(gap * upper_row, _TEETH[:, None, None] * dim * near_lip, shown)


def _paint_tongue(canvas: Canvas, surface: Surface, edges: _Edges, mouth: Mouth, gap: Floats) -> None:
    height = 0.072 + 0.040 * mouth.tongue
    below = surface.down - edges.lower_in + np.float32(0.012 + 0.45 * height * mouth.tongue)
    tongue = canvas.cover(ellipse(edges.along * np.float32(0.16), below, 0.105, height))
    light = 0.85 + 0.25 * bump(edges.along, below / np.float32(height) + np.float32(0.4), 0.4, 0.5)
    shown = max(min(1.0, 2 * mouth.open), mouth.tongue) * (1 - 0.85 * mouth.round)
    canvas.paint(gap * tongue, _TONGUE[:, None, None] * light, 0.92 * shown)


def _paint_seam(canvas: Canvas, surface: Surface, edges: _Edges, mouth: Mouth, is_within: Floats) -> None:
    """The line where closed lips meet, the teeth on a tucked lip, the corners."""
    line = 1 - ramp(np.abs(surface.down - 0.5 * (edges.upper_in + edges.lower_in)), 0.004, 0.020)
    canvas.shade(line * is_within, 0.42 + 0.58 * min(1.0, 6 * mouth.open))
    bite = _between(canvas, edges.upper_in - 0.004, edges.upper_in + np.float32(0.034), surface)
    canvas.paint(bite * ramp(-np.abs(edges.along), -0.72, -0.45), _TEETH, 0.88 * mouth.tuck)
    corners = bump((np.abs(edges.along) - 1) * np.float32(0.2), surface.down - edges.upper_in, 0.025, 0.022)
    canvas.shade(corners, 0.72)
