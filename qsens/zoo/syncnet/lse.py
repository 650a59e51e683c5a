"""Lip-sync error, distance (LSE-D) and confidence (LSE-C), and the sound features of their SyncNet.

Chung & Zisserman 2016 for the network and the shifts, Prajwal et al. 2020 for the two names. One feature
stands for five frames (0.2 s) and starts one frame after the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
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
FRAME_RATE = 25
FRAMES_IN_WINDOW = 5
MFCC_PER_FRAME = 4
MFCC_IN_WINDOW = 20
REACH = 15
EPSILON = 1e-6


def mfcc(samples: NDArray[Any]) -> FloatArray:
    """Coefficients (frames, 13), 100 frames a second, of sound (N,) at 16 kHz.

    `samples` are the integers of a 16-bit file, -32768..32767, not scaled: the first coefficient depends on
    the scale. The last window is filled up with zeros.

    All else is the default of python_speech_features 0.6, with which the evaluation SyncNet was trained:
    windows of 25 ms every 10 ms without a taper, pre-emphasis 0.97, 26 triangular filters on 257 bins up to
    8 kHz, an orthonormal cosine transform, a lifter of 22, and the log energy of the window in place of the
    first coefficient.

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


"""Largest shift between picture and sound, in frames, either way."""

"""Added to every difference before its norm, as torch's pairwise distance does."""


@dataclass(frozen=True)
class SyncScore:
    """The agreement of picture and sound in a clip.

    `lse_d`: the smallest mean distance over all shifts, lower is better. `lse_c`: the median distance minus
    it, higher is better. `offset`: frames by which the sound comes early (below 0: late).
    """

    lse_d: float
    lse_c: float
    offset: int


def sync_scores(video_features: NDArray[Any], audio_features: NDArray[Any]) -> SyncScore:
    """LSE-D, LSE-C and offset of one clip from features (L, D) of its windows.

    For each shift of -15 to 15 frames the mean distance between a picture's feature and the shifted
    sound's; beyond its ends the sound's features are zeros, which count in the mean as in the published
    evaluation. They raise every mean but the one of shift 0, the more the shorter the clip.

    Raises:
        DataError: if the two differ in shape or are empty.
    """
    distances = shift_distances(video_features, audio_features)
    best = int(distances.argmin())
    least = float(distances[best])
    return SyncScore(least, float(np.median(distances)) - least, REACH - best)


def shift_distances(video_features: NDArray[Any], audio_features: NDArray[Any]) -> NDArray[np.float64]:
    """Mean distance at each shift (31,): entry k compares window i of the picture with i + k - 15."""
    if video_features.shape != audio_features.shape or video_features.ndim != 2 or not len(video_features):
        raise DataError(
            f"features of shapes {video_features.shape} (picture) and {audio_features.shape} (sound)",
            "pass one feature a window for both, (L, D)",
        )
    count = len(video_features)
    padded = np.pad(audio_features.astype(np.float64), ((REACH, REACH), (0, 0)))
    shifted = (padded[shift : shift + count] for shift in range(2 * REACH + 1))
    return np.array([np.linalg.norm(video_features - sound + EPSILON, axis=1).mean() for sound in shifted])


def window_count(frames: int, samples: int) -> int:
    """Windows of a clip of that many frames and sound samples at 16 kHz; 0 where it is too short.

    >>> window_count(50, 32_000)
    45
    """
    return max(0, min(frames, samples * FRAME_RATE // SAMPLE_RATE) - FRAMES_IN_WINDOW)


def audio_windows(samples: NDArray[Any], count: int) -> NDArray[np.float32]:
    """MFCC windows (count, 1, 13, 20) as the network takes them; `samples`: float (N,), -1 to 1, 16 kHz."""
    levels = np.clip(np.round(np.asarray(samples, np.float64) * 32768.0), -32768, 32767)
    cepstra = mfcc(levels)
    starts = MFCC_PER_FRAME * np.arange(count)
    windows = cepstra[starts[:, None] + np.arange(MFCC_IN_WINDOW)]
    return np.ascontiguousarray(windows.transpose(0, 2, 1)[:, None].astype(np.float32))
