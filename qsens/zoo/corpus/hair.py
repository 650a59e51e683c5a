"""Hair, scarves, hats and glasses: what lies behind and before the face."""

import numpy as np

from qsens.zoo.corpus.identity import Glasses, Hair, HairStyle, Identity
from qsens.zoo.corpus.painting import Canvas, Floats, bump, ellipse, ramp
from qsens.zoo.corpus.surface import Surface

_CLOTH = (HairStyle.SCARF, HairStyle.BEANIE)


def paint_hair_behind(canvas: Canvas, surface: Surface, identity: Identity) -> None:
    """The hair or cloth that frames the face from behind."""
    hair, head = identity.hair, identity.head
    if hair.style in (HairStyle.BALD, HairStyle.CROPPED, HairStyle.BEANIE):
        return
    width = head.half_width + 0.06 + hair.volume * (1.5 if hair.style is HairStyle.CURLY else 0.7)
    if hair.style in (HairStyle.LONG, HairStyle.SCARF):
        edge = np.float32(width) + 0.02 * np.float32(hair.wave) * np.sin(surface.y * 9)
        behind = np.minimum(edge - np.abs(surface.x), np.float32(hair.length) - surface.y)
        dome = ellipse(surface.x, surface.y, width, head.crown + 0.10)
        mask = canvas.cover(np.where(surface.y < 0, dome, behind))
    else:
        height = head.crown + 0.06 + hair.volume * 0.5
        mask = canvas.cover(
            ellipse(surface.x, surface.y + np.float32(0.05), width, height) + _curls(surface, hair)
        )
        mask = mask * ramp(-surface.y, -0.35, 0.05)
    canvas.paint(mask, _hair_colour(surface, hair) * np.float32(0.62))


def paint_hair_before(canvas: Canvas, surface: Surface, identity: Identity, light: Floats) -> None:
    """The hair or cloth over the forehead and down the temples."""
    hair = identity.hair
    if hair.style is HairStyle.BALD:
        return
    margin = {HairStyle.CROPPED: 0.012, HairStyle.BEANIE: 0.075}.get(hair.style, 0.045)
    outline = ellipse(
        surface.x, surface.y, identity.head.half_width + margin, identity.head.crown + 2 * margin
    )
    over = _over_forehead(surface, identity)
    mask = canvas.cover(outline + _curls(surface, hair)) * canvas.cover_field(over)
    if hair.style is HairStyle.CROPPED:
        mask = canvas.cover(outline) * ramp(over, -0.05, 0.10) * np.float32(0.8)
    canvas.paint(mask, _hair_colour(surface, hair) * (0.25 + 0.75 * light))


def paint_glasses(canvas: Canvas, surface: Surface, identity: Identity) -> None:
    """Frames before the eyes, standing off the face as the nose's ridge does."""
    glasses = identity.glasses
    if glasses is None:
        return
    down = surface.nose_y - np.float32(identity.eyes.height + 0.015)
    spacing = max(identity.eyes.spacing + 0.01, glasses.half_width + 0.02)
    for side in (-1.0, 1.0):
        _paint_lens(canvas, surface.nose_x - np.float32(side * spacing), down, glasses)
    gap = np.float32(spacing - glasses.half_width)
    bridge = np.minimum(
        np.float32(glasses.thickness * 0.5) - np.abs(down + np.float32(0.03)), gap - np.abs(surface.nose_x)
    )
    outside = np.float32(spacing + glasses.half_width)
    temple = np.minimum(
        np.float32(glasses.thickness * 0.5) - np.abs(down + np.float32(0.04)),
        np.minimum(
            np.abs(surface.nose_x) - outside, np.float32(identity.head.half_width) - np.abs(surface.x)
        ),
    )
    canvas.paint(canvas.cover(np.maximum(bridge, temple)), glasses.colour, 0.95)


def _paint_lens(canvas: Canvas, across: Floats, down: Floats, glasses: Glasses) -> None:
    power = np.float32(glasses.squareness)
    level = (
        np.abs(across / np.float32(glasses.half_width)) ** power
        + np.abs(down / np.float32(glasses.half_height)) ** power
        + np.float32(1e-6)
    ) ** (1 / power)
    distance = (1 - level) * np.float32(min(glasses.half_width, glasses.half_height))
    canvas.paint(canvas.cover(distance), np.ones(3, np.float32), 0.06)
    rim = np.float32(glasses.thickness * 0.5) - np.abs(distance)
    canvas.paint(canvas.cover(rim), glasses.colour, 0.95)


def _over_forehead(surface: Surface, identity: Identity) -> Floats:
    """Positive where the hair lies before the face."""
    hair, s, t = identity.hair, surface.across, surface.down
    aside = np.abs(s - np.float32(hair.part))
    fringe = np.float32(hair.fringe)
    temples = 1.9 * np.maximum(np.abs(s) - np.float32(identity.head.half_width - 0.13), 0)
    lines = {
        HairStyle.CROPPED: fringe + 0.04 + 0.35 * s**2 + temples,
        HairStyle.SHORT: fringe + 0.02 * np.sin(s * 14 * hair.wave) + 0.15 * s**2 + temples * 2,
        HairStyle.PARTED: fringe - 0.10 + 0.55 * aside**1.2 + temples,
        HairStyle.FRINGE: fringe + 0.17 + 0.012 * np.sin(s * 42) - 0.10 * s**2 + temples * 3,
        HairStyle.LONG: fringe - 0.12 + 0.75 * aside**1.15 + temples * 5,
        HairStyle.CURLY: fringe + 0.05 + 0.028 * np.sin(s * 26) + 0.2 * s**2 + temples * 3,
        HairStyle.SCARF: fringe + 0.02 + 0.45 * s**2 + temples * 12,
        HairStyle.BEANIE: fringe + 0.06 + 0.14 * s**2,
    }
    return np.asarray(lines[hair.style] - t, np.float32)


def _curls(surface: Surface, hair: Hair) -> Floats:
    if hair.style is not HairStyle.CURLY:
        return np.zeros_like(surface.x)
    angle = np.arctan2(surface.x, -surface.y)
    return np.asarray(0.022 * np.sin(angle * 22) + 0.012 * np.sin(angle * 37 + 1), np.float32)


def _hair_colour(surface: Surface, hair: Hair) -> Floats:
    """Strands, or folds of cloth, as bands of light that move with the head."""
    if hair.style in _CLOTH:
        fold = np.sin(surface.x * 7 + surface.y * (3 + 6 * np.float32(hair.wave)))
        return np.asarray(hair.colour[:, None, None] * (1 + 0.07 * fold), np.float32)
    bend = np.abs(surface.x - np.float32(hair.part)) * 0.6 + np.float32(0.15 * hair.wave) * np.sin(
        surface.y * 6
    )
    strand = np.sin(np.arctan2(surface.x + bend, surface.y + 2.2) * np.float32(hair.strands * 3))
    gloss = bump(surface.y + np.float32(0.74) - 0.25 * surface.x**2, np.float32(0), 0.10, 1.0)
    return np.asarray(hair.colour[:, None, None] * (1 + 0.10 * strand) + 0.10 * gloss, np.float32)
