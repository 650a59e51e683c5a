"""The synthesiser: formants, pitch, level and noise are found again by other means."""

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz
from scipy.signal import butter, sosfilt, welch

from qsens.zoo.corpus.phones import PHONES, Spoken, speak, track_of
from qsens.zoo.corpus.speech import SAMPLE_RATE, Voice, synthesise

MONOTONE = Voice(
    pitch_hz=110, tract=1.0, breathiness=0.0, intonation=0.0, rate=1.0, level_db=-20, noise_db=-90
)


def voice(**changes):
    return Voice(**{**MONOTONE.__dict__, **changes})


def sound_of(*names, speaker=MONOTONE, seconds=0.6):
    track = track_of([Spoken(PHONES[name], seconds) for name in names])
    return synthesise(track, speaker, np.random.default_rng(0), duration_s=seconds * len(names) - 0.02)


def formants_by_linear_prediction(samples):
    """Hertz, rising: the narrow poles of an all-pole model of order 14."""
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1]) * np.hanning(len(samples))
    correlation = np.correlate(emphasised, emphasised, "full")[len(samples) - 1 :][:15]
    poles = np.roots(np.append(1, -solve_toeplitz(correlation[:-1] * (1 + 1e-9), correlation[1:])))
    poles = poles[(poles.imag > 0) & (np.abs(poles) > 0.93)]
    return np.sort(np.angle(poles) * SAMPLE_RATE / 2 / np.pi)


@pytest.mark.parametrize("tract", [0.95, 1.0, 1.2])
@pytest.mark.parametrize("name", ["i", "e", "ae", "a", "uh", "oo", "er"])
def test_linear_prediction_finds_the_formants_of_a_vowel(name, tract):
    samples = sound_of(name, speaker=voice(tract=tract))[3200:8000]
    found = formants_by_linear_prediction(samples)
    sound = PHONES[name].sound
    for hertz in (sound.f1_hz * tract, sound.f2_hz * tract, sound.f3_hz * tract):
        assert np.abs(found - hertz).min() < max(45, 0.06 * hertz), (hertz, found)


@pytest.mark.parametrize("pitch_hz", [95, 140, 230])
def test_the_pitch_is_the_period_of_the_sound(pitch_hz):
    samples = sound_of("a", speaker=voice(pitch_hz=pitch_hz))[3200:8000]
    correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :]
    shortest = SAMPLE_RATE // 350
    period = shortest + int(correlation[shortest : SAMPLE_RATE // 70].argmax())
    assert SAMPLE_RATE / period == pytest.approx(pitch_hz, rel=0.03)


@pytest.mark.parametrize("level_db", [-30, -20])
def test_the_level_is_the_one_asked_for(level_db):
    samples = sound_of("a", "i", speaker=voice(level_db=level_db))
    assert 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2))) == pytest.approx(level_db, abs=0.1)


def test_the_loudest_voice_does_not_clip():
    for seed in range(4):
        random = np.random.default_rng(seed)
        track = speak(random, 1.0)
        samples = synthesise(track, voice(level_db=-3.0, noise_db=-20), random, duration_s=1.0)
        assert 0.5 < np.abs(samples).max() <= 0.97


def test_a_pause_holds_only_the_background():
    samples = sound_of("a", "_", "a", speaker=voice(noise_db=-55))
    pause = samples[round(0.7 * SAMPLE_RATE) : round(1.1 * SAMPLE_RATE)]
    assert 20 * np.log10(np.sqrt(np.mean(pause.astype(float) ** 2))) == pytest.approx(-55, abs=1.5)


def centroid_hz(samples):
    frequencies, power = welch(samples, SAMPLE_RATE, nperseg=512)
    return float((frequencies * power).sum() / power.sum())


def test_fricatives_lie_where_their_noise_is():
    bands = {name: centroid_hz(sound_of(name)) for name in ("s", "sh", "h")}
    assert bands["s"] > 5000
    assert 2400 < bands["sh"] < 3800
    assert bands["h"] < 2400


def test_a_gliding_formant_makes_no_click():
    """Above the formants a glide has no more energy than the vowels on its two sides."""
    samples = sound_of("u", "i", "a", seconds=0.3)
    high = sosfilt(butter(8, 6500, "high", fs=SAMPLE_RATE, output="sos"), samples) ** 2
    frames = high[: len(high) // 400 * 400].reshape(-1, 400).mean(axis=1)[2:-1]
    assert frames.max() < 4 * np.median(frames[20:])


@pytest.mark.parametrize("name", ["a", "i"])
def test_breath_is_noise_beside_the_voice_and_most_of_it_is_high(name):
    clear, breathy = (
        sound_of(name, speaker=voice(breathiness=amount)).astype(float) for amount in (0.0, 0.35)
    )
    added = breathy / breathy.std() - clear / clear.std()
    frequencies, voiced = welch(clear / clear.std(), SAMPLE_RATE, nperseg=1024)
    noise = welch(added, SAMPLE_RATE, nperseg=1024)[1]
    low, high = frequencies < 1000, (frequencies > 3000) & (frequencies < 5000)
    assert 10 * np.log10(noise[low].sum() / voiced[low].sum()) < -30
    assert -24 < 10 * np.log10(noise[high].sum() / voiced[high].sum()) < -10


def test_voices_differ_and_depend_on_the_build():
    low = [Voice.draw(np.random.default_rng(seed), 1.0) for seed in range(20)]
    high = [Voice.draw(np.random.default_rng(seed), 0.0) for seed in range(20)]
    assert len({each.pitch_hz for each in low}) == 20
    assert max(each.pitch_hz for each in low) < min(each.pitch_hz for each in high)
    assert max(each.tract for each in low) < min(each.tract for each in high)
