"""Mel-frequency cepstral coefficients as the evaluation SyncNet was trained on.

These are the defaults of the package python_speech_features 0.6: windows of 25 ms every 10 ms without a
taper, pre-emphasis 0.97, 26 triangular filters on 257 bins up to 8 kHz, an orthonormal cosine transform, a
lifter of 22, and the log energy of the window in place of the first coefficient.
"""

from functools import cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from qsens.core.errors import DataError
from qsens.zoo.audio.wave import SAMPLE_RATE

COEFFICIENTS = 13
RATE = 100
WINDOW = SAMPLE_RATE // 40
STEP = SAMPLE_RATE // RATE
TRANSFORM = 512
FILTERS = 26
PRE_EMPHASIS = 0.97
LIFTER = 22
# Stands in for an energy of exactly zero, whose logarithm does not exist.
LEAST_ENERGY = float(np.finfo(np.float64).eps)

FloatArray = NDArray[np.float64]


def mfcc(samples: NDArray[Any]) -> FloatArray:
    """Coefficients (frames, 13), 100 frames a second, of sound (N,) at 16 kHz.

    `samples` are the integers of a 16-bit file, -32768..32767, not scaled: the first coefficient depends on
    the scale. The last window is filled up with zeros.

    Raises:
        DataError: for sound with more than one channel or without any sample.
    """
    if samples.ndim != 1 or not samples.size:
        raise DataError(f"sound of shape {samples.shape}", "pass at least one sample of one channel, (N,)")
    signal = samples.astype(np.float64)
    emphasised = np.append(signal[0], signal[1:] - PRE_EMPHASIS * signal[:-1])
    power = np.abs(np.fft.rfft(_windows(emphasised), TRANSFORM)) ** 2 / TRANSFORM
    energy = _never_zero(power.sum(axis=1))
    filtered = _never_zero(power @ mel_filters().T)
    cepstra = scipy.fft.dct(np.log(filtered), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    lifted: FloatArray = cepstra * (1.0 + LIFTER / 2.0 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER))
    lifted[:, 0] = np.log(energy)
    return lifted


@cache
def mel_filters() -> FloatArray:
    """Triangles (26, 257) over the bins of the transform, corners rounded down to whole bins."""
    highest = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2.0 / 700.0)
    corners_hz = 700.0 * (10.0 ** (np.linspace(0.0, highest, FILTERS + 2) / 2595.0) - 1.0)
    corners = np.floor((TRANSFORM + 1) * corners_hz / SAMPLE_RATE)
    bins = np.arange(TRANSFORM // 2 + 1)
    filters = np.zeros((FILTERS, len(bins)))
    for index, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (low <= bins) & (bins < middle), (middle <= bins) & (bins < high)
        filters[index, rising] = (bins[rising] - low) / (middle - low)
        filters[index, falling] = (high - bins[falling]) / (high - middle)
    return filters


def _windows(signal: FloatArray) -> FloatArray:
    count = 1 + max(0, -(-(len(signal) - WINDOW) // STEP))
    padded = np.pad(signal, (0, (count - 1) * STEP + WINDOW - len(signal)))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]


def _never_zero(values: FloatArray) -> FloatArray:
    return np.where(values == 0.0, LEAST_ENERGY, values)
