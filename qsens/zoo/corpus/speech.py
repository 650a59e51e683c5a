"""A formant synthesiser: a glottal pulse and noise through resonators that follow a phone track.

The cascade of resonators is that of Klatt, "Software for a cascade/parallel formant synthesizer" (1980).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from qsens.zoo.corpus.phones import PhoneTrack

Floats = NDArray[np.float64]
SAMPLE_RATE = 16_000
_BLOCK = 40
_FORMANT_BANDWIDTHS_HZ = (70.0, 100.0, 150.0, 250.0, 350.0)
_HIGH_FORMANTS_HZ = (3500.0, 4500.0)
_LOUDEST = 0.97


@dataclass(frozen=True)
class Voice:
    """A speaker's voice.

    `tract` multiplies all formants (1 is an average man, 1.2 a child-like voice); `breathiness` 0..1 mixes
    breath into the voice; `level_db` and `noise_db` are the RMS of speech and background against full scale.
    """

    pitch_hz: float
    tract: float
    breathiness: float
    intonation: float
    rate: float
    level_db: float
    noise_db: float

    @classmethod
    def draw(cls, random: np.random.Generator, build: float) -> "Voice":
        """A random voice; `build` 0..1 goes from high and small to low and large."""
        level_db = random.uniform(-27, -17)
        return cls(
            pitch_hz=float(np.exp(np.log(235) + build * np.log(95 / 235)) * random.uniform(0.88, 1.12)),
            tract=1.19 - 0.20 * build + random.uniform(-0.05, 0.05),
            breathiness=random.uniform(0.0, 0.35),
            intonation=random.uniform(0.04, 0.16),
            rate=random.uniform(0.85, 1.15),
            level_db=level_db,
            noise_db=level_db - random.uniform(24, 50),
        )


def synthesise(
    track: PhoneTrack, voice: Voice, random: np.random.Generator, *, duration_s: float
) -> NDArray[np.float32]:
    """The sound of a track: float32 (samples,), 16 kHz mono, -1..1, never clipped."""
    count = round(duration_s * SAMPLE_RATE)
    times = np.arange(count) / SAMPLE_RATE
    pulses = _glottal_pulses(_pitch(times, voice, random))
    hiss = random.normal(0, 1, count)
    voiced = track.sound_at(times, "voice")
    breath = track.sound_at(times, "breath") + 0.12 * voice.breathiness * voiced
    throat = _cascade(pulses * voiced + 0.25 * breath * hiss, track, voice)
    teeth = _band_noise(random.normal(0, 1, count), track, voice) * track.sound_at(times, "noise")
    speech = _levelled(throat + teeth, voice.level_db)
    return (speech + _background(random, count, voice.noise_db)).clip(-1, 1).astype(np.float32)


def _pitch(times: Floats, voice: Voice, random: np.random.Generator) -> Floats:
    """Hertz: a slow melody around the voice's pitch, with a little jitter."""
    melody = np.zeros_like(times)
    for rate_hz in random.uniform(0.25, 2.2, 3):
        melody += np.sin(2 * np.pi * (rate_hz * times + random.random())) / 2
    knots = np.arange(0, times[-1] + 0.02, 0.01)
    jitter = np.interp(times, knots, random.normal(0, 0.006, len(knots)))
    return voice.pitch_hz * (1 + voice.intonation * melody + jitter)


def _glottal_pulses(pitch_hz: Floats) -> Floats:
    """The change of Rosenberg's glottal flow (1971): opens for 40 % of a period, closes for 16 %."""
    phase = np.cumsum(pitch_hz / SAMPLE_RATE) % 1
    opening = 0.5 * (1 - np.cos(np.pi * phase / 0.4))
    closing = np.cos(0.5 * np.pi * (phase - 0.4) / 0.16)
    flow = np.where(phase < 0.4, opening, np.where(phase < 0.56, closing, 0.0))
    return np.diff(flow, prepend=flow[0]) * SAMPLE_RATE / pitch_hz / 6


def _cascade(source: Floats, track: PhoneTrack, voice: Voice) -> Floats:
    times = np.arange(0, len(source), _BLOCK) / SAMPLE_RATE
    formants = [track.sound_at(times, name) * voice.tract for name in ("f1_hz", "f2_hz", "f3_hz")]
    formants += [np.full(len(times), hertz * voice.tract) for hertz in _HIGH_FORMANTS_HZ]
    damping = track.sound_at(times, "damping")
    output = source
    for hertz, bandwidth in zip(formants, _FORMANT_BANDWIDTHS_HZ, strict=True):
        output = _resonate(output, hertz, bandwidth * damping, is_unity_at_zero=True)
    return output


def _band_noise(hiss: Floats, track: PhoneTrack, voice: Voice) -> Floats:
    times = np.arange(0, len(hiss), _BLOCK) / SAMPLE_RATE
    # Frication comes from the front of the mouth, which differs less between speakers than the tract.
    hertz = track.sound_at(times, "noise_hz") * (1 + 0.4 * (voice.tract - 1))
    bandwidth = track.sound_at(times, "noise_bandwidth_hz")
    return _resonate(hiss, np.minimum(hertz, 7500), bandwidth, is_unity_at_zero=False)


def _resonate(samples: Floats, hertz: Floats, bandwidth_hz: Floats, *, is_unity_at_zero: bool) -> Floats:
    """A two-pole resonator that changes every block: gain 1 at 0 Hz, or white noise of RMS 1 stays near 1."""
    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
    first = 2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE)
    second = -(radius**2)
    at_peak = (1 - radius) * np.sqrt(1 - first + radius**2) / np.sqrt(np.pi * bandwidth_hz / SAMPLE_RATE)
    gain = 1 - first - second if is_unity_at_zero else at_peak
    output = np.zeros(len(samples) + 2)
    for block in range(len(hertz)):
        start, end = block * _BLOCK, min((block + 1) * _BLOCK, len(samples))
        before, last = output[start : start + 2]
        # The state from past output, not from the past filter: a change of formant then makes no click.
        state = [first[block] * last + second[block] * before, second[block] * last]
        feedback = [1.0, -first[block], -second[block]]
        output[start + 2 : end + 2], _ = lfilter([gain[block]], feedback, samples[start:end], zi=state)
    return output[2:]


def _levelled(samples: Floats, level_db: float) -> Floats:
    """Scaled to an RMS against full scale, or to just below clipping where the peaks do not allow it."""
    gain = 10 ** (level_db / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-9)
    return samples * min(gain, (_LOUDEST - 0.1) / max(float(np.abs(samples).max()), 1e-9))


def _background(random: np.random.Generator, count: int, level_db: float) -> Floats:
    """A room's noise, stronger at low frequencies."""
    noise = lfilter([1.0], [1.0, -random.uniform(0.3, 0.9)], random.normal(0, 1, count))
    scaled = noise / np.sqrt(np.mean(noise**2)) * 10 ** (level_db / 20)
    return np.asarray(np.clip(scaled, -0.1, 0.1))
