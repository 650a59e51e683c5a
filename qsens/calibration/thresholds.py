"""From a histogram of magnitudes to the clipping threshold (amax) of a tensor."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import SpecError, name_hint

BINS = 2048
LEVELS = 128
STEPS = 127
FALLBACK_AMAX = 127 / 128
SMALLEST_AMAX = 1e-30
DEFAULT_PERCENTILE = 0.9999
_TIE = 1e-12
_SMALLEST_NORMAL_HALF = 2.0**-14


class Method(StrEnum):
    """The ways to choose amax."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of |x|: int64 (bins,), equal bins over [0, maximum]; `maximum` itself is in the last bin."""

    counts: NDArray[np.int64]
    maximum: float

    @property
    def width(self) -> float:
        return self.maximum / len(self.counts)

    @property
    def is_zero(self) -> bool:
        """True where the tensor was zero (or below `SMALLEST_AMAX`) throughout."""
        return self.maximum < SMALLEST_AMAX or not self.counts.any()


def parse_method(text: str) -> Method:
    """Read a method's name. Raises `SpecError` for anything else."""
    try:
        return Method(text)
    except ValueError:
        hint = name_hint(text, Method, f"use {', '.join(Method)}")
        raise SpecError(f"no calibration method named {text!r}", hint) from None


def check_percentile(fraction: float) -> float:
    """Return `fraction` if it lies in (0, 1]. Raises `SpecError` otherwise."""
    if not 0.0 < fraction <= 1.0:
        raise SpecError(f"a percentile of {fraction}", "give a fraction above 0, at most 1, such as 0.9999")
    return fraction


def amax_from_histogram(histogram: Histogram, method: Method, fraction: float = DEFAULT_PERCENTILE) -> float:
    """The amax by the named method; `fraction` is used by `percentile` only."""
    if method is Method.PERCENTILE:
        return percentile(histogram, fraction)
    if method is Method.MSE:
        return mse(histogram)
    if method is Method.ENTROPY:
        return entropy(histogram)
    return minmax(0.0, histogram.maximum)


def minmax(minimum: float, maximum: float) -> float:
    """The largest magnitude."""
    return _positive(max(-minimum, maximum, 0.0))


def percentile(histogram: Histogram, fraction: float = DEFAULT_PERCENTILE) -> float:
    """The magnitude that `fraction` (0 to 1) of all values, zeros included, do not exceed.

    Linear within a bin, and never below the upper edge of the first bin: a tensor that is nearly always
    zero keeps what the histogram can resolve.
    """
    check_percentile(fraction)
    if histogram.is_zero:
        return FALLBACK_AMAX
    cumulative = np.cumsum(histogram.counts)
    target = fraction * float(cumulative[-1])
    index = int(np.searchsorted(cumulative, target))
    count = int(histogram.counts[index])
    position = index + 1.0 - (float(cumulative[index]) - target) / count
    return _positive(max(position, 1.0) * histogram.width)


def mse(histogram: Histogram) -> float:
    """The threshold, among the bin edges, with the least squared INT8 error.

    Values count as spread evenly within their bin; the grid is k * amax / 127 with k up to 127, clipped
    (the extra negative code -128 is left out, as magnitudes have no sign). Equal errors: the widest.
    Exact for that density: the error is a sum over the 128 levels of the density's moments between the
    level's borders, which cumulative sums give.
    """
    if histogram.is_zero:
        return FALLBACK_AMAX
    bins = len(histogram.counts)
    thresholds = np.arange(1, bins + 1, dtype=np.float64)
    step = thresholds[:, None] / STEPS
    levels = np.arange(STEPS + 1)
    borders = np.empty((bins, STEPS + 2))
    borders[:, 0] = 0.0
    borders[:, 1:-1] = (levels[1:] - 0.5) * step
    borders[:, -1] = bins
    mass, first_moment = _cumulative_moments(histogram.counts, borders)
    grid = levels * step
    # The second moment is the same for every threshold, so it is left out.
    errors = (grid * grid * np.diff(mass) - 2.0 * grid * np.diff(first_moment)).sum(axis=1)
    best = bins - 1 - int(np.argmin(errors[::-1]))
    return _positive(thresholds[best] * histogram.width)


def entropy(histogram: Histogram, *, drop_zero_spike: bool = True, prefer_wider: bool = True) -> float:
    """The threshold with the least Kullback-Leibler divergence, as TensorRT's entropy calibration.

    For i = 128 to the number of bins: P is the first i bins with the mass beyond added to the last of
    them; Q is the same i bins merged into 128 levels (bin j into level floor(128 j / i)) and spread back
    evenly over the non-empty bins; a candidate whose last bin is empty but receives mass is infinite.
    The threshold is (i + 1/2) bin widths, at most the maximum.

    `drop_zero_spike` overwrites bin 0 with bin 1, without which the zeros behind a ReLU pull the threshold
    down to where the levels are single bins; `prefer_wider` takes the last of equal divergences, the first
    otherwise. Both defaults are those of NVIDIA's pytorch-quantization.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 32 to 41. TensorRT's own code is
    closed, so equality with it is not claimed.
    """
    if histogram.is_zero:
        return FALLBACK_AMAX
    counts = histogram.counts.astype(np.float64)
    if drop_zero_spike:
        counts[0] = counts[1]
    sizes = np.arange(LEVELS, len(counts) + 1)
    divergences = _divergences(counts, sizes)
    equal = np.flatnonzero(divergences <= divergences.min() + _TIE)
    size = sizes[equal[-1] if prefer_wider else equal[0]]
    return _positive(min((float(size) + 0.5) * histogram.width, histogram.maximum))


def with_half_scale(amax: float) -> float:
    """The least amax, not below the given one, whose INT8 scale `amax / 127` is an FP16 number.

    Strongly typed engines hold scales in FP16; so every flavour of a graph has the same scale to the last
    bit. Scales that FP16 holds only with less precision (below 2^-14) or not at all are left alone.
    """
    scale = np.float32(amax) / np.float32(127)
    if not _SMALLEST_NORMAL_HALF <= scale <= np.finfo(np.float16).max:
        return amax
    half = np.float16(scale)
    if half < scale:
        half = np.nextafter(half, np.float16(np.inf))
    return float(np.float32(half) * np.float32(127)) if np.isfinite(half) else amax


def _positive(amax: float) -> float:
    """A float32 value above zero; `FALLBACK_AMAX` for a tensor without any signal."""
    return float(np.float32(amax)) if amax >= SMALLEST_AMAX else FALLBACK_AMAX


def _cumulative_moments(
    counts: NDArray[np.int64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Integrals of the density and of x times the density from 0 to each position, in bin widths."""
    bins = len(counts)
    density = counts.astype(np.float64)
    centres = np.arange(bins) + 0.5
    mass = np.concatenate(([0.0], np.cumsum(density)))
    first_moment = np.concatenate(([0.0], np.cumsum(density * centres)))
    index = np.minimum(positions.astype(np.intp), bins - 1)
    inside = density[index] * (positions - index)
    return mass[index] + inside, first_moment[index] + inside * (positions + index) / 2.0


def _divergences(counts: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P || Q) in nats for each number of kept bins.

    The sum over bins is regrouped by level, where Q is constant over the non-empty bins: cumulative sums
    of counts, of non-empty bins and of c log c give every candidate without a loop.
    """
    total = counts.sum()
    mass = np.concatenate(([0.0], np.cumsum(counts)))
    filled = np.concatenate(([0], np.cumsum(counts > 0)))
    own = np.concatenate(([0.0], np.cumsum(_times_log(counts))))
    borders = -(-np.arange(LEVELS + 1) * sizes[:, None] // LEVELS)
    level_mass = np.diff(mass[borders])
    level_filled = np.diff(filled[borders])
    kept = mass[sizes]
    outliers = total - kept
    last = counts[sizes - 1]
    reference_mass = level_mass.copy()
    reference_mass[:, -1] += outliers
    is_used = level_mass > 0
    log_candidate = np.zeros_like(level_mass)
    np.log(level_mass / np.maximum(level_filled, 1), out=log_candidate, where=is_used)
    cross = np.where(is_used, reference_mass, 0.0) * log_candidate
    own_term = own[sizes] - _times_log(last) + _times_log(last + outliers)
    scale = np.log(total) - np.log(np.maximum(kept, 1.0))
    divergence: NDArray[np.float64] = (own_term - cross.sum(axis=1)) / total - scale
    divergence[(last == 0) & (outliers > 0)] = np.inf
    return divergence


def _times_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The product x log x, zero at zero."""
    product: NDArray[np.float64] = values * np.log(np.where(values > 0, values, 1.0))
    return product
