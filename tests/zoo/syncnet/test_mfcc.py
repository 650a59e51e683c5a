import math

import numpy as np
import pytest

from qsens.core.errors import DataError
from qsens.zoo.syncnet.lse import mel_filters, mfcc


def loops(samples):
    """The definition, written out with loops and without a fast transform of cosines."""
    signal = [float(samples[0])] + [
        float(samples[n]) - 0.97 * float(samples[n - 1]) for n in range(1, len(samples))
    ]
    count = 1 if len(signal) <= 400 else 1 + math.ceil((len(signal) - 400) / 160)
    signal += [0.0] * ((count - 1) * 160 + 400 - len(signal))
    corners = []
    for index in range(28):
        mel = 2595 * math.log10(1 + 8000 / 700) * index / 27
        corners.append(math.floor(513 * 700 * (10 ** (mel / 2595) - 1) / 16000))
    rows = []
    for frame in range(count):
        power = np.abs(np.fft.fft(signal[frame * 160 : frame * 160 + 400], 512)[:257]) ** 2 / 512
        logs = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            total = sum(power[b] * (b - low) / (middle - low) for b in range(low, middle))
            total += sum(power[b] * (high - b) / (high - middle) for b in range(middle, high))
            logs.append(math.log(total or np.finfo(float).eps))
        row = [math.log(power.sum() or np.finfo(float).eps)]
        for order in range(1, 13):
            turn = sum(value * math.cos(math.pi * order * (2 * k + 1) / 52) for k, value in enumerate(logs))
            row.append(math.sqrt(2 / 26) * turn * (1 + 11 * math.sin(math.pi * order / 22)))
        rows.append(row)
    return np.array(rows)


@pytest.fixture
def speech():
    generator = np.random.default_rng(0)
    tone = 5000 * np.sin(2 * np.pi * 220 * np.arange(3001) / 16_000)
    return np.round(tone + generator.normal(0, 800, 3001)).astype(np.int16)


def test_equals_the_definition_written_out(speech):
    assert np.abs(mfcc(speech) - loops(speech)).max() < 1e-9


def test_equals_python_speech_features(speech):
    package = pytest.importorskip("python_speech_features", reason="the package is not installed")
    assert np.abs(mfcc(speech) - package.mfcc(speech, 16_000)).max() < 1e-9


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16_000, 99), (16_080, 99)]
)
def test_a_window_every_10_ms_the_last_one_filled_up(samples, frames):
    assert mfcc(np.ones(samples)).shape == (frames, 13)


def test_silence_has_the_least_energy_and_no_shape():
    silent = mfcc(np.zeros(400))
    assert silent[0, 0] == pytest.approx(math.log(np.finfo(float).eps))
    assert np.abs(silent[0, 1:]).max() < 1e-9


def test_louder_sound_only_raises_the_energy(speech):
    quiet, loud = mfcc(speech), mfcc(speech.astype(float) * 4)
    assert np.allclose(loud[:, 0] - quiet[:, 0], math.log(16))
    assert np.allclose(loud[:, 1:], quiet[:, 1:])


def test_filters_are_triangles_that_reach_one_and_meet_at_their_corners():
    filters = mel_filters()
    assert filters.shape == (26, 257)
    assert filters.max(axis=1) == pytest.approx(1.0)
    between = filters.sum(axis=0)[filters[0].argmax() : filters[-1].argmax() + 1]
    assert between == pytest.approx(1.0)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 400))])
def test_refuses_what_is_no_mono_sound(samples):
    with pytest.raises(DataError, match="sound of shape"):
        mfcc(samples)
