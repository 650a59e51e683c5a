"""The speaker: a random face."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.ndimage import gaussian_filter

from qsens.zoo.corpus.painting import Floats, choose, hsv, mix, rgb

TEXTURE_SIZE = 128


class HairStyle(Enum):
    """The kinds of hair."""

    BALD = "bald"
    CROPPED = "cropped"
    SHORT = "short"
    PARTED = "parted"
    FRINGE = "fringe"
    LONG = "long"
    CURLY = "curly"
    SCARF = "scarf"
    BEANIE = "beanie"


class BeardStyle(Enum):
    """The kinds of beard."""

    NONE = "none"
    STUBBLE = "stubble"
    MOUSTACHE = "moustache"
    GOATEE = "goatee"
    FULL = "full"


@dataclass(frozen=True)
class Head:
    """The outline, in half pictures: half width, heights of chin and crown, how square and narrow its jaw."""

    half_width: float
    chin: float
    crown: float
    squareness: float
    jaw: float
    cheeks: float
    ears: float


@dataclass(frozen=True)
class Skin:
    """`colour`: RGB 0..1. `texture`: float32 (3, 128, 128), multiplies it over the face; `age`: 0..1."""

    colour: Floats
    texture: Floats
    sheen: float
    age: float


@dataclass(frozen=True)
class Eyes:
    """Eyes and brows; heights are downwards from the middle of the picture."""

    spacing: float
    height: float
    size: float
    aspect: float
    slant: float
    iris: Floats
    lash: float
    shadow: Floats
    shadow_strength: float
    brow_colour: Floats
    brow_thickness: float
    brow_length: float
    brow_arch: float
    brow_slant: float
    brow_height: float


@dataclass(frozen=True)
class Nose:
    """A nose: the place of its tip, its width and its height over the face."""

    tip: float
    width: float
    relief: float


@dataclass(frozen=True)
class Lips:
    """The mouth at rest: height, half width, thickness of both lips, depth of Cupid's bow, colour, gloss."""

    height: float
    half_width: float
    upper: float
    lower: float
    bow: float
    colour: Floats
    gloss: float


@dataclass(frozen=True)
class Hair:
    """Hair, scarf or hat. `fringe`: where it meets the forehead; `part`: where it divides, off the middle."""

    style: HairStyle
    colour: Floats
    fringe: float
    part: float
    volume: float
    length: float
    wave: float
    strands: float


@dataclass(frozen=True)
class Glasses:
    """Frames: half width and height of a lens, its squareness, thickness and colour."""

    half_width: float
    half_height: float
    squareness: float
    thickness: float
    colour: Floats


@dataclass(frozen=True)
class Identity:
    """Everything about a face that does not change while it speaks."""

    head: Head
    skin: Skin
    eyes: Eyes
    nose: Nose
    lips: Lips
    hair: Hair
    beard: BeardStyle
    beard_colour: Floats
    glasses: Glasses | None

    @classmethod
    def draw(cls, random: np.random.Generator, build: float) -> "Identity":
        """A random face; `build` 0..1 widens the jaw and lets a beard grow, as it lowers the voice."""
        colour = _skin_colour(random)
        age = float(random.beta(1.2, 2.2))
        natural = _hair_colour(random, colour, age)
        hair = _hair(random, natural)
        head = _head(random, build)
        has_make_up = build < 0.5 and random.random() < 0.6
        return cls(
            head,
            Skin(colour, _texture(random, colour, age), random.uniform(0.02, 0.14), age),
            _eyes(random, natural, colour, has_make_up=has_make_up),
            Nose(random.uniform(0.06, 0.13), random.uniform(0.075, 0.125), random.uniform(0.7, 1.3)),
            _lips(random, colour, build, has_make_up=has_make_up),
            hair,
            BeardStyle(random.choice([style.value for style in BeardStyle], p=_BEARD_CHANCES))
            if build > 0.55
            else BeardStyle.NONE,
            mix(natural, rgb(0.16, 0.11, 0.08), 0.15),
            _glasses(random) if random.random() < 0.28 else None,
        )


_BEARD_CHANCES = (0.35, 0.25, 0.12, 0.12, 0.16)
_HAIR_CHANCES = (0.07, 0.10, 0.15, 0.15, 0.14, 0.17, 0.10, 0.06, 0.06)
_SKIN_TONES = (
    (0.97, 0.84, 0.76),
    (0.95, 0.78, 0.67),
    (0.90, 0.70, 0.56),
    (0.80, 0.58, 0.43),
    (0.66, 0.45, 0.32),
    (0.50, 0.32, 0.22),
    (0.36, 0.22, 0.16),
)
_HAIR_COLOURS = (
    (0.08, 0.06, 0.06),
    (0.17, 0.10, 0.07),
    (0.30, 0.18, 0.10),
    (0.48, 0.32, 0.17),
    (0.74, 0.58, 0.34),
    (0.50, 0.18, 0.08),
)
_ODD_HAIR_COLOURS = ((0.75, 0.30, 0.45), (0.25, 0.40, 0.65), (0.30, 0.55, 0.45))
_IRIS_COLOURS = (
    (0.25, 0.14, 0.07),
    (0.36, 0.22, 0.10),
    (0.30, 0.46, 0.62),
    (0.34, 0.48, 0.32),
    (0.45, 0.46, 0.46),
)
_LIPSTICKS = ((0.74, 0.10, 0.16), (0.80, 0.30, 0.38), (0.55, 0.10, 0.22), (0.88, 0.40, 0.32))


def _skin_colour(random: np.random.Generator) -> Floats:
    at = random.uniform(0, len(_SKIN_TONES) - 1)
    tones = np.array(_SKIN_TONES, np.float32)
    blended = mix(tones[int(at)], tones[min(int(at) + 1, len(tones) - 1)], at % 1)
    return np.clip(blended * random.uniform(0.95, 1.05) * random.uniform(0.98, 1.02, 3), 0, 1).astype(
        np.float32
    )


def _head(random: np.random.Generator, build: float) -> Head:
    return Head(
        half_width=random.uniform(0.50, 0.59) + 0.03 * build,
        chin=random.uniform(0.72, 0.82),
        crown=random.uniform(0.80, 0.92),
        squareness=random.uniform(1.95, 2.25) + 0.35 * build,
        jaw=random.uniform(0.00, 0.16) * (1.2 - 0.6 * build),
        cheeks=random.uniform(0.0, 1.0),
        ears=random.uniform(0.8, 1.25),
    )


def _texture(random: np.random.Generator, colour: Floats, age: float) -> Floats:
    """Soft mottling, cheeks with more blood in them, freckles and moles; none finer than a pixel or two."""
    size = TEXTURE_SIZE
    across, down = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    mottling = gaussian_filter(random.normal(0, 1, (size, size)), 6)
    texture = np.repeat(1 + (0.02 + 0.02 * age) * (mottling / mottling.std())[None], 3, axis=0)
    blush = random.uniform(0.04, 0.22)
    cheeks = np.exp(-(((np.abs(across) - 0.30) / 0.13) ** 2) - ((down - 0.14) / 0.11) ** 2)
    cheeks += 0.5 * np.exp(-((across / 0.10) ** 2) - ((down - 0.08) / 0.08) ** 2)
    texture *= 1 - blush * cheeks * np.array([0.1, 0.8, 0.7])[:, None, None]
    spots = np.zeros((size, size))
    if random.random() < 0.25:
        rows = (random.normal(0.06, 0.08, 40) + 1) / 2 * size
        columns = (random.normal(0, 0.22, 40) + 1) / 2 * size
        spots[rows.astype(int) % size, columns.astype(int) % size] = random.uniform(0.8, 2.2, 40)
    for row, column in random.integers(32, 100, (random.integers(0, 2), 2)):
        spots[row, column] = 6
    dark = np.clip(gaussian_filter(spots, 1.0), 0, 0.75)
    return np.asarray(texture * (1 - dark * (1 - 0.5 * colour[:, None, None])), np.float32)


def _eyes(random: np.random.Generator, hair: Floats, skin: Floats, *, has_make_up: bool) -> Eyes:
    return Eyes(
        spacing=random.uniform(0.215, 0.255),
        height=random.uniform(-0.24, -0.16),
        size=random.uniform(0.102, 0.130),
        aspect=random.uniform(0.42, 0.62),
        slant=random.uniform(-0.16, 0.10),
        iris=choose(random, _IRIS_COLOURS[: 2 if skin[0] < 0.7 else None]),
        lash=random.uniform(0.75, 1.0) if has_make_up else random.uniform(0.2, 0.6),
        shadow=hsv(random, 0.8, 0.7) if has_make_up else (skin * 0.6).astype(np.float32),
        shadow_strength=random.uniform(0.15, 0.5),
        brow_colour=mix(hair * 0.8, rgb(0.1, 0.07, 0.06), 0.35),
        brow_thickness=random.uniform(0.014, 0.034),
        brow_length=random.uniform(0.12, 0.16),
        brow_arch=random.uniform(0.5, 2.6),
        brow_slant=random.uniform(-0.25, 0.25),
        brow_height=random.uniform(0.115, 0.165),
    )


def _lips(random: np.random.Generator, skin: Floats, build: float, *, has_make_up: bool) -> Lips:
    natural = skin * np.array([0.93, 0.62, 0.60]) * random.uniform(0.80, 0.98) + 0.02
    painted = choose(random, _LIPSTICKS) * (0.6 + 0.4 * skin[0])
    colour = mix(natural.astype(np.float32), painted, random.uniform(0.5, 0.9) if has_make_up else 0.0)
    return Lips(
        height=random.uniform(0.345, 0.40),
        half_width=random.uniform(0.205, 0.250),
        upper=random.uniform(0.040, 0.064) - 0.010 * build,
        lower=random.uniform(0.054, 0.084) - 0.010 * build,
        bow=random.uniform(0.15, 0.55),
        colour=colour,
        gloss=random.uniform(0.3, 0.6) if has_make_up else random.uniform(0.08, 0.28),
    )


def _hair_colour(random: np.random.Generator, skin: Floats, age: float) -> Floats:
    dark_only = _HAIR_COLOURS[: 3 if skin[0] < 0.7 and random.random() < 0.9 else None]
    colour = choose(random, dark_only)
    return mix(colour, rgb(0.72, 0.71, 0.70), random.uniform(0.3, 0.95)) if age > 0.55 else colour


def _hair(random: np.random.Generator, natural: Floats) -> Hair:
    style = HairStyle(random.choice([style.value for style in HairStyle], p=_HAIR_CHANCES))
    colour = choose(random, _ODD_HAIR_COLOURS) if random.random() < 0.04 else natural
    if style in (HairStyle.SCARF, HairStyle.BEANIE):
        colour = hsv(random, 0.7, 0.9)
    return Hair(
        style=style,
        colour=colour,
        fringe=random.uniform(-0.64, -0.50),
        part=random.uniform(-0.35, 0.35),
        volume=random.uniform(0.05, 0.16),
        length=random.uniform(0.5, 1.3),
        wave=random.uniform(0.0, 1.0),
        strands=random.uniform(14, 30),
    )


def _glasses(random: np.random.Generator) -> Glasses:
    dark = random.random() < 0.6
    return Glasses(
        half_width=random.uniform(0.165, 0.195),
        half_height=random.uniform(0.115, 0.165),
        squareness=random.choice([2.0, 2.6, 4.0]),
        thickness=random.uniform(0.012, 0.028),
        colour=rgb(0.07, 0.06, 0.07) if dark else hsv(random, 0.8, 0.8),
    )
