import math

import numpy as np
import pytest

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.mel import MEL_BANDS, mel_filters, mel_frame_count, mel_spectrogram


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0.0, 0.1, samples)


def slow_filter(band):
    """One mel filter by the definition: edges on the Slaney scale, a triangle, area one."""

    def to_mel(hz):
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000, 6.4)

    def to_hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    low, high = to_mel(55), to_mel(7600)
    left, centre, right = (to_hz(low + (high - low) * (band + step) / 81) for step in range(3))
    weights = []
    for k in range(401):
        hz = k * 20.0
        if left < hz <= centre:
            height = (hz - left) / (centre - left)
        elif centre < hz < right:
            height = (right - hz) / (right - centre)
        else:
            height = 0.0
        weights.append(height * 2 / (right - left))
    return weights


def slow_mel_frame(samples, frame):
    """One mel frame of reflect-padded samples, by the definition of the discrete Fourier transform."""
    emphasised = [samples[0]] + [samples[n] - 0.97 * samples[n - 1] for n in range(1, len(samples))]
    last = len(emphasised) - 1

    def at(n):
        n = -n if n < 0 else n
        return emphasised[2 * last - n if n > last else n]

    window = [at(frame * 200 - 400 + n) * (0.5 - 0.5 * math.cos(2 * math.pi * n / 800)) for n in range(800)]
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(401), np.arange(800)) / 800)
    magnitudes = np.abs(matrix @ np.array(window))
    values = []
    for band in range(80):
        level = 20 * math.log10(max(1e-5, float(np.dot(slow_filter(band), magnitudes)))) - 20
        values.append(min(4.0, max(-4.0, 8 * (level + 100) / 100 - 4)))
    return values


def test_silence_is_exactly_minus_four():
    mel = mel_spectrogram(np.zeros(32_000))
    assert mel.shape == (80, 161)
    assert mel.dtype == np.float32
    assert np.all(mel == -4.0)


@pytest.mark.parametrize(("samples", "frames"), [(401, 3), (599, 3), (600, 4), (3000, 16), (32_000, 161)])
def test_frame_count(samples, frames):
    assert mel_frame_count(samples) == frames
    assert mel_spectrogram(noise(samples)).shape == (MEL_BANDS, frames)


@pytest.mark.parametrize("frame", [0, 1, 2, 7, 13, 15])
def test_frames_agree_with_the_definition(frame):
    samples = noise(3000)
    np.testing.assert_allclose(mel_spectrogram(samples)[:, frame], slow_mel_frame(samples, frame), atol=1e-6)


def test_filters_agree_with_the_definition_and_have_area_one():
    filters = mel_filters()
    np.testing.assert_allclose(filters, [slow_filter(band) for band in range(80)], atol=1e-12)
    wide = filters[60:]  # narrow triangles are sampled too coarsely for a sum
    np.testing.assert_allclose(wide.sum(axis=1) * 20.0, 1.0, atol=0.03)


def test_a_tone_is_loudest_in_the_band_around_it():
    tone = 0.5 * np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000)
    band = int(mel_spectrogram(tone)[:, 40].argmax())
    assert mel_filters()[band, 100] > 0  # bin 100 is 2000 Hz


def test_ten_times_louder_is_twenty_decibels_more():
    quiet = mel_spectrogram(noise(16_000) * 0.1)
    loud = mel_spectrogram(noise(16_000))
    inside = (quiet > -3.9) & (loud < 3.9)
    assert inside.mean() > 0.9
    np.testing.assert_allclose((loud - quiet)[inside], 8 * 20 / 100, atol=1e-5)


def test_only_the_two_outer_frames_depend_on_the_padding():
    samples = noise(16_000)
    reflect, zero = mel_spectrogram(samples), mel_spectrogram(samples, padding="zero")
    differs = np.abs(reflect - zero).max(axis=0) > 1e-6
    assert np.flatnonzero(differs).tolist() == [0, 1, 79, 80]
    assert np.abs(reflect - zero)[:, [0, -1]].max() > 0.3


def test_long_sound_is_the_same_as_its_parts():
    samples = noise(200 * 4200)  # more frames than are computed at once
    whole = mel_spectrogram(samples)
    part = mel_spectrogram(samples[200 * 4090 : 200 * 4110])
    np.testing.assert_allclose(whole[:, 4093:4107], part[:, 3:17], atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_number_are_refused(bad):
    samples = noise(3000)
    samples[5] = bad
    with pytest.raises(DataError, match="1 of 3000 samples are NaN or infinite"):
        mel_spectrogram(samples)


def test_too_short_and_stereo_are_refused():
    with pytest.raises(DataError, match="400 samples are too few"):
        mel_spectrogram(np.zeros(400))
    with pytest.raises(DataError, match=r"\(3000, 2\)"):
        mel_spectrogram(np.zeros((3000, 2)))


def test_an_unknown_padding_is_refused():
    with pytest.raises(SpecError, match="'edge'"):
        mel_spectrogram(np.zeros(3000), padding="edge")
