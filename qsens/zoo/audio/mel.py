"""The mel spectrogram that Wav2Lip was trained on, in NumPy."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.wave import SAMPLE_RATE

MEL_BANDS = 80
FFT_SIZE = 800
HOP = 200
MEL_FRAMES_A_SECOND = SAMPLE_RATE // HOP
PADDINGS = ("reflect", "zero")
_PRE_EMPHASIS = 0.97
_LOWEST_HZ, _HIGHEST_HZ = 55.0, 7600.0
_FLOOR = 1e-5
_REFERENCE_DB, _LOWEST_DB, _LARGEST_VALUE = 20.0, -100.0, 4.0
_FRAMES_AT_ONCE = 4096  # bounds memory: 26 MB of windowed samples


def mel_frame_count(samples: int) -> int:
    """Mel frames of so many samples: 1 + floor(samples / 200)."""
    return 1 + samples // HOP


def mel_spectrogram(samples: NDArray[Any], *, padding: str = "reflect") -> NDArray[np.float32]:
    """Log-mel spectrogram of mono 16 kHz samples (N,), -1 to 1: float32 (80, 1 + N // 200), -4 to 4.

    Pre-emphasis 0.97; centred STFT of 800 samples, hop 200, periodic Hann; magnitudes through 80
    area-normalised Slaney mel filters, 55 to 7600 Hz; decibels from -100 to 0 mapped to -4 to 4. Digital
    silence is exactly -4. `padding` fills the 400 samples beyond either end: `reflect`, as librosa before
    0.9 and so the published weights, or `zero`, as librosa since; only the first and last two frames differ.

    Raises:
        SpecError: for an unknown padding.
        DataError: for samples that are not mono, fewer than 401, NaN or infinite.
    """
    if padding not in PADDINGS:
        raise SpecError(f"unknown padding {padding!r}", f"choose from {', '.join(PADDINGS)}")
    samples = _checked(samples)
    emphasised = np.concatenate([samples[:1], samples[1:] - _PRE_EMPHASIS * samples[:-1]])
    mode: Any = "reflect" if padding == "reflect" else "constant"
    padded = np.pad(emphasised, FFT_SIZE // 2, mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]
    mel = np.empty((MEL_BANDS, len(windows)), dtype=np.float32)
    for start in range(0, len(windows), _FRAMES_AT_ONCE):
        part = windows[start : start + _FRAMES_AT_ONCE]
        mel[:, start : start + len(part)] = _log_mel(np.abs(np.fft.rfft(part * _hann())))
    return mel


@cache
def mel_filters() -> NDArray[np.float64]:
    """The 80 triangular filters over the 401 frequencies of the STFT: float64 (80, 401), area one in Hz."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(_LOWEST_HZ), _hz_to_mel(_HIGHEST_HZ), MEL_BANDS + 2))
    frequencies = np.fft.rfftfreq(FFT_SIZE, 1.0 / SAMPLE_RATE)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - lower) / (centre - lower)
    falling = (upper - frequencies) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (upper - lower)


def _checked(samples: NDArray[Any]) -> NDArray[np.float64]:
    if samples.ndim != 1:
        raise DataError(f"samples have shape {samples.shape}", "give mono samples, one axis")
    if len(samples) <= FFT_SIZE // 2:
        raise DataError(f"{len(samples)} samples are too few", f"give more than {FFT_SIZE // 2} (25 ms)")
    bad = int(np.count_nonzero(~np.isfinite(samples)))
    if bad:
        raise DataError(f"{bad} of {len(samples)} samples are NaN or infinite", "write the sound again")
    return samples.astype(np.float64)


def _log_mel(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnitudes (frames, 401) to levels (80, frames)."""
    decibels = 20.0 * np.log10(np.maximum(_FLOOR, mel_filters() @ magnitudes.T)) - _REFERENCE_DB
    levels = 2.0 * _LARGEST_VALUE * (decibels - _LOWEST_DB) / -_LOWEST_DB - _LARGEST_VALUE
    return np.clip(levels, -_LARGEST_VALUE, _LARGEST_VALUE)


@cache
def _hann() -> NDArray[np.float64]:
    """Periodic Hann window (800,)."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)


# The Slaney scale: 200/3 Hz a mel up to 1 kHz, then a factor of 6.4 every 27 mel.
_LINEAR_HZ_A_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_A_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_START_HZ:
        return hz / _LINEAR_HZ_A_MEL
    return float(_LOG_START_MEL + np.log(hz / _LOG_START_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_A_MEL, logarithmic)
