"""Draws one frame: a head in a pose, with a mouth in a shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from qsens.zoo.corpus.features import paint_age, paint_beard, paint_brows, paint_eyes, paint_nose
from qsens.zoo.corpus.hair import paint_glasses, paint_hair_before, paint_hair_behind
from qsens.zoo.corpus.identity import TEXTURE_SIZE, HairStyle, Head, Identity
from qsens.zoo.corpus.lips import paint_mouth
from qsens.zoo.corpus.painting import Canvas, Floats, bump, ellipse, ramp
from qsens.zoo.corpus.phones import Mouth
from qsens.zoo.corpus.scene import Scene
from qsens.zoo.corpus.surface import Pose, Surface, shading, surface_of


@dataclass(frozen=True)
class Expression:
    """The parts of the face that move without speech: `blink` 0..1, `gaze` and `brows` in half pictures."""

    blink: float = 0.0
    gaze: float = 0.0
    brows: float = 0.0


def draw_face(
    identity: Identity, scene: Scene, pose: Pose, mouth: Mouth, expression: Expression
) -> NDArray[np.uint8]:
    """One frame, uint8 (size, size, 3) RGB; the size is that of the scene's background."""
    size = scene.background.shape[-1]
    surface = surface_of(size, pose, mouth.open)
    canvas = Canvas(scene.background.copy(), surface.scale)
    light = shading(surface, identity, scene.light)
    paint_hair_behind(canvas, surface, identity)
    _paint_body(canvas, surface, identity, scene)
    _paint_skin(canvas, surface, identity, light)
    paint_age(canvas, surface, identity)
    paint_eyes(canvas, surface, identity, expression.blink, expression.gaze)
    paint_brows(canvas, surface, identity.eyes, expression.brows)
    is_face = canvas.cover_field(_outline(surface, identity.head))
    paint_beard(canvas, surface, identity, light, is_face)
    paint_nose(canvas, surface, identity)
    paint_mouth(canvas, surface, identity, mouth, light)
    paint_hair_before(canvas, surface, identity, light)
    paint_glasses(canvas, surface, identity)
    picture = np.clip(canvas.pixels, 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(picture.transpose(1, 2, 0)).astype(np.uint8)


def _outline(surface: Surface, head: Head) -> Floats:
    """Positive inside the face's outline."""
    y = surface.still_y
    below = np.maximum(y, 0) / np.float32(head.chin)
    above = np.maximum(-y, 0) / np.float32(head.crown)
    width = np.float32(head.half_width) * (
        1 - np.float32(head.jaw) * below + np.float32(0.02) * bump(y - 0.1, surface.x * 0, 0.2, 1.0)
    )
    power = np.float32(head.squareness)
    height = np.maximum(below, above)
    return np.asarray(
        1 - (np.abs(surface.x) / width) ** power - height ** (power + np.float32(0.1)), np.float32
    )


def _paint_body(canvas: Canvas, surface: Surface, identity: Identity, scene: Scene) -> None:
    """Neck in the chin's shadow, and shoulders."""
    neck = np.minimum(
        np.float32(identity.head.half_width * 0.58) - np.abs(surface.x) + 0.16 * ramp(surface.y, 0.6, 1.2),
        surface.y - np.float32(0.3),
    )
    shade = 0.40 + 0.35 * ramp(surface.y, identity.head.chin, identity.head.chin + 0.3)
    lit = scene.light.ambient + scene.light.colour * np.float32(scene.light.strength * 0.7)
    canvas.paint(canvas.cover(neck), (identity.skin.colour * lit)[:, None, None] * shade)
    shoulders = ellipse(surface.x, surface.y - np.float32(scene.collar + 0.55), 1.1, 0.6)
    canvas.paint(canvas.cover(shoulders), scene.clothes * lit)


def _paint_skin(canvas: Canvas, surface: Surface, identity: Identity, light: Floats) -> None:
    head, colour = identity.head, identity.skin.colour
    if identity.hair.style not in (HairStyle.SCARF, HairStyle.LONG):
        for side in (-1.0, 1.0):
            across = surface.x - np.float32(side * (head.half_width + 0.015))
            down = surface.y + np.float32(0.06)
            ear = ellipse(across, down, 0.065 * head.ears, 0.13 * head.ears)
            canvas.paint(canvas.cover(ear), colour[:, None, None] * light * np.float32(0.86))
            canvas.shade(bump(across, down, 0.025 * head.ears, 0.07 * head.ears), 0.75)
    outline = _outline(surface, head)
    # The sides turn away from the lamp and the viewer.
    turned = np.float32(0.72) + np.float32(0.28) * ramp(outline, -0.05, 0.42)
    texture = _sampled(identity.skin.texture, surface)
    canvas.paint(canvas.cover_field(outline), colour[:, None, None] * texture * light * turned)


def _sampled(texture: Floats, surface: Surface) -> Floats:
    """The texture as it lies on the face in this pose."""
    places = [
        (axis + 1) * np.float32((TEXTURE_SIZE - 1) / 2) for axis in (surface.still_down, surface.across)
    ]
    layers = [map_coordinates(layer, places, order=1, mode="nearest") for layer in texture]
    return np.asarray(np.stack(layers), np.float32)
