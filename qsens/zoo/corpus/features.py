"""Features painted on the skin: eyes, brows, nose, lines of age, beard."""

import numpy as np

from qsens.zoo.corpus.identity import BeardStyle, Eyes, Identity
from qsens.zoo.corpus.painting import Canvas, Floats, bump, ellipse, ramp
from qsens.zoo.corpus.surface import Surface

_WHITE = np.array([0.94, 0.93, 0.92], np.float32)
_BLACK = np.array([0.04, 0.03, 0.04], np.float32)


def paint_eyes(canvas: Canvas, surface: Surface, identity: Identity, blink: float, gaze: float) -> None:
    """Both eyes; `blink` 1 is shut, `gaze` moves the irises to the right."""
    for side in (-1.0, 1.0):
        _paint_eye(canvas, surface, identity, side, blink, gaze)


def paint_brows(canvas: Canvas, surface: Surface, eyes: Eyes, raised: float) -> None:
    """Both brows; `raised` in half pictures."""
    for side in (-1.0, 1.0):
        along = (surface.across * np.float32(side) - np.float32(eyes.spacing)) / np.float32(eyes.brow_length)
        line = np.float32(eyes.height - eyes.brow_height - raised) + np.float32(0.03) * (
            np.float32(eyes.brow_arch) * along * along + np.float32(eyes.brow_slant * 3) * along
        )
        thickness = np.float32(eyes.brow_thickness) * np.maximum(
            1 - 0.45 * (along + 1) / 2 - 0.5 * ramp(along, 0.5, 1), 0
        )
        brow = canvas.cover(thickness - np.abs(surface.down - line))
        brow = brow * canvas.cover((1 - np.abs(along)) * np.float32(eyes.brow_length))
        canvas.paint(brow, eyes.brow_colour, 0.88)


def paint_nose(canvas: Canvas, surface: Surface, identity: Identity) -> None:
    """Nostrils, the wings' creases and the shade under the tip."""
    nose = identity.nose
    under = surface.nose_y - np.float32(nose.tip + 0.035)
    canvas.shade(bump(surface.nose_x, under, nose.width * 0.9, 0.024), 0.86)
    canvas.paint(bump(surface.nose_x, under + np.float32(0.07), 0.034, 0.036), np.ones(3, np.float32), 0.16)
    for side in (-1.0, 1.0):
        across = surface.nose_x - np.float32(side * nose.width * 0.48)
        hole = bump(across, under + np.float32(0.002), nose.width * 0.24, 0.016)
        canvas.shade(hole, 0.42)
        wing = surface.nose_x - np.float32(side * nose.width * 1.12)
        canvas.shade(bump(wing, under + np.float32(0.02), 0.018, 0.036), 0.84)


def paint_age(canvas: Canvas, surface: Surface, identity: Identity) -> None:
    """Folds from nose to mouth, bags under the eyes, lines on the forehead: as strong as the age."""
    age = identity.skin.age
    top, bottom = identity.nose.tip + 0.03, identity.lips.height + 0.02
    share = np.clip((surface.still_down - np.float32(top)) / np.float32(bottom - top), 0, 1)
    fold = np.abs(surface.across) - (identity.nose.width * 1.35 + 0.14 * share**1.6)
    along = ramp(surface.still_down, top - 0.02, top + 0.06) * ramp(
        -surface.still_down, -bottom - 0.06, -bottom + 0.04
    )
    canvas.shade(bump(fold, np.float32(0), 0.030, 1.0) * along, 1 - 0.03 - 0.20 * age)
    eyes = identity.eyes
    bag = surface.down - np.float32(eyes.height + 0.095)
    canvas.shade(bump(np.abs(surface.across) - np.float32(eyes.spacing), bag, 0.08, 0.022), 1 - 0.20 * age)
    if age > 0.4:
        for row in (0.30, 0.37):
            line = surface.down - np.float32(eyes.height - row) + 0.08 * surface.across**2
            canvas.shade(bump(line, surface.across, 0.011, 0.24), 1 - 0.22 * age)


def paint_beard(canvas: Canvas, surface: Surface, identity: Identity, light: Floats, is_face: Floats) -> None:
    """The beard, if any, moving with the jaw, where `is_face` is 1; the mouth is painted over it."""
    if identity.beard is BeardStyle.NONE:
        return
    colour = identity.beard_colour[:, None, None] * light
    masks = {
        BeardStyle.STUBBLE: (_jaw_hair(surface, identity), 0.28),
        BeardStyle.MOUSTACHE: (_moustache(surface, identity), 0.86),
        BeardStyle.GOATEE: (_goatee(surface, identity), 0.84),
        BeardStyle.FULL: (np.maximum(_jaw_hair(surface, identity), _moustache(surface, identity)), 0.88),
    }
    mask, opacity = masks[identity.beard]
    canvas.paint(mask * is_face, colour, opacity)


def _paint_eye(
    canvas: Canvas, surface: Surface, identity: Identity, side: float, blink: float, gaze: float
) -> None:
    eyes = identity.eyes
    across = surface.across - np.float32(side * eyes.spacing)
    down = surface.down - np.float32(eyes.height) - np.float32(side * eyes.slant) * across * np.float32(0.6)
    along = across / np.float32(eyes.size)
    arch = np.maximum(1 - along * along, 0)
    half = np.float32(eyes.size * eyes.aspect)
    top = half * np.float32(1 - 1.75 * blink) * arch
    bottom = half * np.float32(0.75) * arch
    lid = bump(across, down + half * np.float32(0.75), eyes.size * 1.15, float(half) * 0.95)
    canvas.paint(lid, eyes.shadow, eyes.shadow_strength)
    ends = canvas.cover((1 - np.abs(along)) * np.float32(eyes.size))
    opened = np.minimum(canvas.cover(down + top), canvas.cover(bottom - down)) * ends
    canvas.paint(opened, _WHITE * np.float32(0.96))
    canvas.shade(opened * ramp(-down - top * np.float32(0.35), -0.02, 0.03), 0.72)
    look, radius = across - np.float32(gaze), eyes.size * 0.47
    ball = ellipse(look, down, radius, radius)
    canvas.paint(opened * canvas.cover(ball), eyes.iris * np.float32(0.9))
    canvas.shade(opened * canvas.cover(ball) * canvas.cover(np.float32(0.018) - ball), 0.6)
    canvas.paint(opened * canvas.cover(ellipse(look, down, radius * 0.46, radius * 0.46)), _BLACK)
    glint = ellipse(
        look - np.float32(radius * 0.35), down + np.float32(radius * 0.4), radius * 0.26, radius * 0.26
    )
    canvas.paint(opened * canvas.cover(glint), np.ones(3, np.float32), 0.9)
    lash = canvas.cover(np.float32(0.008 + 0.010 * eyes.lash) - np.abs(down + top)) * ends
    canvas.paint(lash, _BLACK, 0.55 + 0.4 * eyes.lash)
    crease = bump(across, np.float32(0), eyes.size, 1.0) * bump(
        down + half * 1.25 * arch + 0.016, np.float32(0), 0.010, 1.0
    )
    canvas.shade(crease, 0.80)


def _jaw_hair(surface: Surface, identity: Identity) -> Floats:
    mirrored, down, lips = np.abs(surface.across), surface.still_down, identity.lips
    cheek_line = np.float32(lips.height - 0.02) - 0.75 * np.maximum(mirrored - np.float32(0.20), 0)
    around = ramp(ellipse(surface.across, down - np.float32(lips.height), 0.24, 0.13), -0.01, 0.03)
    return np.asarray(ramp(down - cheek_line, -0.06, 0.09) * (1 - 0.9 * around), np.float32)


def _moustache(surface: Surface, identity: Identity) -> Floats:
    lips, nose = identity.lips, identity.nose
    middle = 0.5 * (nose.tip + 0.06 + lips.height - lips.upper)
    bend = surface.down - np.float32(middle + 0.01) - 1.6 * surface.across**2
    shape = ellipse(surface.across, bend, lips.half_width * 0.95, 0.055)
    return ramp(shape, -0.012, 0.022)


def _goatee(surface: Surface, identity: Identity) -> Floats:
    chin = identity.head.chin
    shape = ellipse(surface.across, surface.still_down - np.float32(chin - 0.06), 0.17, 0.115)
    return np.asarray(np.maximum(ramp(shape, -0.015, 0.03), _moustache(surface, identity)), np.float32)
