"""Phones: what each sounds like, how the mouth shapes it, and random strings of them over time.

Vowel formants are the averages for men of Peterson and Barney (1952); consonants are rounded textbook values.
"""

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRACK_RATE = 200
"""Rows a second of a phone track."""


class Kind(Enum):
    """The manner of a phone."""

    VOWEL = "vowel"
    GLIDE = "glide"
    NASAL = "nasal"
    FRICATIVE = "fricative"
    PLOSIVE = "plosive"
    PAUSE = "pause"


@dataclass(frozen=True)
class Sound:
    """A sound to synthesise: formants, strengths 0..1 of voice, breath and frication, the noise's band.

    `damping` widens the formants, as the nose does.
    """

    f1_hz: float = 500.0
    f2_hz: float = 1500.0
    f3_hz: float = 2500.0
    voice: float = 1.0
    breath: float = 0.02
    noise: float = 0.0
    noise_hz: float = 3000.0
    noise_bandwidth_hz: float = 1500.0
    damping: float = 1.0


@dataclass(frozen=True)
class Mouth:
    """The mouth's shape, each 0..1. `tongue` is its tip's height; `tuck` draws the lower lip to the teeth."""

    open: float
    width: float = 0.55
    round: float = 0.0
    tongue: float = 0.2
    tuck: float = 0.0


@dataclass(frozen=True)
class Phone:
    """A phone and the range of its duration. A plosive's burst follows its closure, with the same mouth."""

    name: str
    kind: Kind
    sound: Sound
    mouth: Mouth
    shortest_s: float
    longest_s: float
    burst: Sound | None = None


def _vowel(name: str, sound: Sound, mouth: Mouth) -> Phone:
    return Phone(name, Kind.VOWEL, sound, mouth, 0.10, 0.24)


def _fricative(name: str, sound: Sound, mouth: Mouth) -> Phone:
    return Phone(name, Kind.FRICATIVE, sound, mouth, 0.09, 0.15)


def _plosive(name: str, closure: Sound, burst: Sound, mouth: Mouth) -> Phone:
    return Phone(name, Kind.PLOSIVE, closure, mouth, 0.08, 0.12, burst)


_VOWELS = (
    _vowel("i", Sound(270, 2290, 3010), Mouth(0.22, 1.00, 0.0, 0.5)),
    _vowel("ih", Sound(390, 1990, 2550), Mouth(0.34, 0.84, 0.0, 0.4)),
    _vowel("e", Sound(530, 1840, 2480), Mouth(0.52, 0.84, 0.0, 0.3)),
    _vowel("ae", Sound(660, 1720, 2410), Mouth(0.76, 0.86, 0.0, 0.15)),
    _vowel("a", Sound(730, 1090, 2440), Mouth(0.98, 0.62, 0.0, 0.0)),
    _vowel("uh", Sound(640, 1190, 2390), Mouth(0.68, 0.58, 0.05, 0.1)),
    _vowel("o", Sound(570, 840, 2410), Mouth(0.70, 0.34, 0.65, 0.0)),
    _vowel("oo", Sound(440, 1020, 2240), Mouth(0.36, 0.34, 0.75, 0.1)),
    _vowel("u", Sound(300, 870, 2240), Mouth(0.22, 0.16, 1.00, 0.1)),
    _vowel("er", Sound(490, 1350, 1690), Mouth(0.40, 0.44, 0.40, 0.3)),
)
_GLIDES = (
    Phone("l", Kind.GLIDE, Sound(360, 1300, 2800, 0.6), Mouth(0.36, 0.62, 0.0, 1.0), 0.08, 0.13),
    Phone("r", Kind.GLIDE, Sound(330, 1060, 1400, 0.6), Mouth(0.24, 0.36, 0.55, 0.3), 0.08, 0.13),
    Phone("w", Kind.GLIDE, Sound(290, 610, 2150, 0.5), Mouth(0.14, 0.10, 1.00, 0.1), 0.08, 0.13),
    Phone("j", Kind.GLIDE, Sound(260, 2200, 3020, 0.5), Mouth(0.20, 0.90, 0.0, 0.5), 0.08, 0.13),
)
_NASALS = (
    Phone("m", Kind.NASAL, Sound(270, 1000, 2200, 0.30, damping=2.5), Mouth(0.0, 0.52), 0.09, 0.15),
    Phone(
        "n", Kind.NASAL, Sound(280, 1700, 2600, 0.34, damping=2.2), Mouth(0.24, 0.64, 0.0, 0.9), 0.08, 0.13
    ),
)
_FRICATIVES = (
    _fricative("f", Sound(340, 1100, 2080, 0.0, 0.02, 0.20, 5200, 5000), Mouth(0.07, 0.62, 0.0, 0.1, 1.0)),
    _fricative("v", Sound(260, 1100, 2080, 0.35, 0.02, 0.10, 5200, 5000), Mouth(0.07, 0.62, 0.0, 0.1, 1.0)),
    _fricative("s", Sound(320, 1390, 2530, 0.0, 0.02, 0.60, 5900, 1500), Mouth(0.15, 0.86, 0.0, 0.5)),
    _fricative("z", Sound(260, 1390, 2530, 0.35, 0.02, 0.32, 5900, 1500), Mouth(0.15, 0.86, 0.0, 0.5)),
    _fricative("sh", Sound(300, 1840, 2750, 0.0, 0.02, 0.55, 2900, 900), Mouth(0.24, 0.30, 0.75, 0.4)),
    _fricative("th", Sound(320, 1290, 2540, 0.10, 0.02, 0.12, 6600, 3000), Mouth(0.18, 0.66, 0.0, 1.0)),
    _fricative(
        "h",
        Sound(600, 1500, 2500, 0.0, 0.35),
        Mouth(0.48, 0.60, 0.0, 0.2),
    ),
)
_BILABIAL = Mouth(0.0, 0.52)
_ALVEOLAR = Mouth(0.20, 0.68, 0.0, 0.9)
_VELAR = Mouth(0.28, 0.58, 0.0, 0.1)
_PLOSIVES = (
    _plosive(
        "p", Sound(300, 900, 2100, 0.0, 0.0), Sound(400, 1100, 2150, 0.0, 0.15, 0.20, 1000, 900), _BILABIAL
    ),
    _plosive(
        "b",
        Sound(200, 900, 2100, 0.16, 0.0, damping=2),
        Sound(250, 1000, 2150, 0.5, 0.05, 0.12, 1000, 900),
        _BILABIAL,
    ),
    _plosive(
        "t", Sound(300, 1700, 2600, 0.0, 0.0), Sound(400, 1600, 2600, 0.0, 0.12, 0.45, 4300, 1800), _ALVEOLAR
    ),
    _plosive(
        "d",
        Sound(200, 1700, 2600, 0.16, 0.0, damping=2),
        Sound(280, 1600, 2600, 0.5, 0.03, 0.28, 4300, 1800),
        _ALVEOLAR,
    ),
    _plosive(
        "k", Sound(300, 1900, 2500, 0.0, 0.0), Sound(300, 1990, 2850, 0.0, 0.15, 0.40, 1900, 500), _VELAR
    ),
    _plosive(
        "g",
        Sound(200, 1900, 2500, 0.16, 0.0, damping=2),
        Sound(250, 1990, 2850, 0.5, 0.03, 0.25, 1900, 500),
        _VELAR,
    ),
)
PAUSE = Phone("_", Kind.PAUSE, Sound(voice=0.0, breath=0.0), Mouth(0.02, 0.50), 0.14, 0.38)
PHONES = {phone.name: phone for phone in (*_VOWELS, *_GLIDES, *_NASALS, *_FRICATIVES, *_PLOSIVES, PAUSE)}
_CONSONANTS = (*_GLIDES, *_NASALS, *_FRICATIVES, *_PLOSIVES)
_CODAS = (*_NASALS, *_FRICATIVES[:6], *_PLOSIVES[::2], _GLIDES[0])
_BURST_S = 0.025
_MOUTH_SMOOTHING_S = 0.095
_FORMANT_SMOOTHING_S = 0.055
_STRENGTH_SMOOTHING_S = 0.025


@dataclass(frozen=True)
class Spoken:
    """One phone in time."""

    phone: Phone
    duration_s: float


@dataclass(frozen=True)
class PhoneTrack:
    """The phones of an utterance, at `TRACK_RATE` rows a second.

    Row r is the instant `r / TRACK_RATE` seconds. `sound`: float64 (rows, 9), in the order of the fields of
    `Sound`; `mouth`: float64 (rows, 5), in the order of the fields of `Mouth`; `names`: one phone a row.
    """

    names: tuple[str, ...]
    sound: Floats
    mouth: Floats

    @property
    def duration_s(self) -> float:
        return (len(self.names) - 1) / TRACK_RATE

    def sound_at(self, times_s: Floats, field: str) -> Floats:
        """One quantity of the sound at the given times, linear between rows."""
        return np.interp(times_s, _row_times(self.sound), self.sound[:, _SOUND_FIELDS.index(field)])

    def mouth_at(self, time_s: float) -> Mouth:
        """The mouth's shape at one time, linear between rows."""
        times = _row_times(self.mouth)
        return Mouth(*(float(np.interp(time_s, times, column)) for column in self.mouth.T))


_SOUND_FIELDS = tuple(field.name for field in fields(Sound))


def speak(random: np.random.Generator, duration_s: float, *, rate: float = 1.0) -> PhoneTrack:
    """Random syllables and pauses that last at least `duration_s` seconds; `rate` 2 is twice as fast."""
    spoken: list[Spoken] = []
    while sum(each.duration_s for each in spoken) < duration_s + 1 / TRACK_RATE:
        phones = [PAUSE] if random.random() < 0.14 else _syllable(random)
        spoken += [
            Spoken(phone, random.uniform(phone.shortest_s, phone.longest_s) / rate) for phone in phones
        ]
    return track_of(spoken)


def track_of(spoken: list[Spoken]) -> PhoneTrack:
    """The smoothed track of phones said one after the other."""
    ends = np.cumsum([each.duration_s for each in spoken])
    rows = int(ends[-1] * TRACK_RATE) + 1
    index = np.minimum(np.searchsorted(ends, np.arange(rows) / TRACK_RATE, side="right"), len(spoken) - 1)
    left_s = ends[index] - np.arange(rows) / TRACK_RATE
    sounds = [_sound_now(spoken[at].phone, left) for at, left in zip(index, left_s, strict=True)]
    mouths = [_row(_mouth_of(spoken, at)) for at in index]
    return PhoneTrack(
        tuple(spoken[at].phone.name for at in index),
        _smooth_sound(np.array([_row(sound) for sound in sounds])),
        _smooth(np.array(mouths), _MOUTH_SMOOTHING_S),
    )


def _syllable(random: np.random.Generator) -> list[Phone]:
    vowel = _VOWELS[random.integers(len(_VOWELS))]
    onset = [_CONSONANTS[random.integers(len(_CONSONANTS))]] if random.random() < 0.9 else []
    coda = [_CODAS[random.integers(len(_CODAS))]] if random.random() < 0.25 else []
    return [*onset, vowel, *coda]


def _sound_now(phone: Phone, left_s: float) -> Sound:
    return phone.burst if phone.burst is not None and left_s <= _BURST_S else phone.sound


def _mouth_of(spoken: list[Spoken], at: int) -> Mouth:
    """The phone's mouth; `h` takes the shape of the vowel that follows it."""
    following = spoken[at + 1].phone if at + 1 < len(spoken) else PAUSE
    is_borrowed = spoken[at].phone.name == "h" and following.kind is Kind.VOWEL
    return following.mouth if is_borrowed else spoken[at].phone.mouth


def _row(values: Sound | Mouth) -> list[float]:
    return [float(getattr(values, field.name)) for field in fields(values)]


def _row_times(rows: Floats) -> Floats:
    return np.arange(len(rows)) / TRACK_RATE


def _smooth_sound(rows: Floats) -> Floats:
    is_strength = np.isin(_SOUND_FIELDS, ("voice", "breath", "noise"))
    return np.where(is_strength, _smooth(rows, _STRENGTH_SMOOTHING_S), _smooth(rows, _FORMANT_SMOOTHING_S))


def _smooth(rows: Floats, duration_s: float) -> Floats:
    """Each column convolved with a Hann window of that length; ends are repeated."""
    half = round(duration_s * TRACK_RATE / 2)
    window = np.hanning(2 * half + 3)[1:-1]
    padded = np.pad(rows, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window / window.sum(), "valid") for column in padded.T], axis=1)
