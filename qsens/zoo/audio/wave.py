"""Wave files to mono samples at 16 kHz, and back."""

import warnings
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

from qsens.calibration.files import refuse_special
from qsens.core.errors import DataError
from qsens.device.errors import reason_of

SAMPLE_RATE = 16_000
# Resampling takes memory in proportion to the rates; sound is recorded between these.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
_HINT = "give a PCM or float wave file; convert others with: ffmpeg -i INPUT -ac 1 -ar 16000 audio.wav"
_LOUDEST_FLOAT = 1.5  # some float files overshoot full scale a little; integer values in float are refused


@dataclass(frozen=True, eq=False)
class Wave:
    """Sound as generators take it.

    `samples`: float32 (N,), -1 to 1, mono, 16 kHz. `source_rate` is the rate of the file in Hz; where it is
    not 16,000 the samples were resampled with `scipy.signal.resample_poly`.
    """

    samples: NDArray[np.float32]
    source_rate: int

    @property
    def was_resampled(self) -> bool:
        """Whether the file had another rate."""
        return self.source_rate != SAMPLE_RATE

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE


def read_wave(path: Path) -> Wave:
    """Read a wave file of 8, 16, 24 or 32 bits or float, any rate; channels are averaged.

    Raises:
        DataError: if the file is missing, no wave file, cut short, empty, or holds NaN or infinite values.
    """
    rate, values = _read_file(path)
    if values.size == 0 or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(f"{path} holds {values.size} samples at {rate} Hz", _HINT)
    samples = _full_scale(path, values)
    if samples.ndim > 1:
        samples = samples.mean(axis=1)
    return Wave(to_sample_rate(samples, rate), int(rate))


def write_wave(path: Path, samples: NDArray[Any]) -> None:
    """Write mono samples (N,), -1 to 1, as 16-bit PCM at 16 kHz; louder values are clipped."""
    levels = np.round(np.asarray(samples, dtype=np.float64) * 32768.0)
    wavfile.write(path, SAMPLE_RATE, np.clip(levels, -32768, 32767).astype(np.int16))


def to_sample_rate(samples: NDArray[Any], rate: int) -> NDArray[np.float32]:
    """Mono samples (N,) of any rate in Hz as float32 at 16 kHz, clipped to -1 to 1."""
    if rate != SAMPLE_RATE:
        common = gcd(SAMPLE_RATE, rate)
        samples = resample_poly(samples, SAMPLE_RATE // common, rate // common)
    return np.asarray(np.clip(samples, -1.0, 1.0), dtype=np.float32)


def _read_file(path: Path) -> tuple[int, NDArray[Any]]:
    refuse_special(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rate, values = wavfile.read(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", "check the path") from error
    except Exception as error:  # scipy raises several classes on broken headers, struct.error among them
        raise DataError(f"{path} is no wave file that can be read: {error}", _HINT) from error
    if any("EOF prematurely" in str(warning.message) for warning in caught):
        raise DataError(f"{path} is cut short: its header promises more samples", "write the file again")
    return rate, values


def _full_scale(path: Path, values: NDArray[Any]) -> NDArray[np.float64]:
    """File values as -1 to 1; scipy gives 8 bits unsigned and 24 bits in the upper bytes of 32."""
    if values.dtype == np.uint8:
        return (values.astype(np.float64) - 128.0) / 128.0
    if values.dtype.kind == "i":
        return values.astype(np.float64) / -float(np.iinfo(values.dtype).min)
    samples = values.astype(np.float64)
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise DataError(f"{path}: {bad} samples are NaN or infinite", "write the file again")
    peak = float(np.abs(samples).max())
    if peak > _LOUDEST_FLOAT:
        raise DataError(f"{path}: float samples reach {peak:g}", "scale them to -1..1")
    return samples
