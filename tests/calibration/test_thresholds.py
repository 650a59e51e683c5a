import math

import numpy as np
import pytest

from qsens.calibration.thresholds import (
    BINS,
    FALLBACK_AMAX,
    Histogram,
    Method,
    amax_from_histogram,
    entropy,
    minmax,
    mse,
    parse_method,
    percentile,
)
from qsens.core.errors import SpecError


def histogram_of(values, bins=BINS):
    """Independent of the collector: numpy's own histogram of magnitudes."""
    magnitudes = np.abs(np.asarray(values, dtype=np.float64))
    maximum = float(magnitudes.max())
    return Histogram(np.histogram(magnitudes, bins=bins, range=(0.0, maximum))[0].astype(np.int64), maximum)


def uniform_histogram(maximum=2.0, count=1000):
    return Histogram(np.full(BINS, count, dtype=np.int64), maximum)


DISTRIBUTIONS = {
    "normal": lambda random: random.normal(size=40_000),
    "laplace": lambda random: random.laplace(size=40_000),
    "relu": lambda random: np.maximum(random.normal(size=40_000), 0.0),
    "student": lambda random: random.standard_t(3, size=40_000),
    "bimodal": lambda random: np.concatenate([random.normal(1, 0.1, 9000), random.normal(9, 0.1, 500)]),
}


@pytest.fixture(params=DISTRIBUTIONS)
def measured(request):
    return histogram_of(DISTRIBUTIONS[request.param](np.random.default_rng(5)))


def test_minmax_is_the_largest_magnitude():
    assert minmax(-3.0, 2.0) == 3.0
    assert minmax(0.5, 0.75) == 0.75
    assert minmax(-0.75, -0.5) == 0.75


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.9999, 1.0])
def test_percentile_of_a_uniform_histogram_is_that_share_of_the_range(fraction):
    assert percentile(uniform_histogram(), fraction) == pytest.approx(2.0 * fraction, rel=1e-6)


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_percentile_agrees_with_sorted_values(name):
    values = np.abs(DISTRIBUTIONS[name](np.random.default_rng(5)))
    histogram = histogram_of(values)
    exact = float(np.quantile(values, 0.999))
    assert abs(percentile(histogram, 0.999) - exact) <= 2 * histogram.width


def test_percentile_one_ignores_empty_bins_only():
    counts = np.zeros(BINS, dtype=np.int64)
    counts[[0, 1000, BINS - 1]] = (500, 300, 200)
    assert percentile(Histogram(counts, BINS), 0.8) == pytest.approx(1001.0)
    assert percentile(Histogram(counts, BINS), 1.0) == pytest.approx(BINS)


def test_percentile_of_a_nearly_always_zero_tensor_keeps_one_bin():
    counts = np.zeros(BINS, dtype=np.int64)
    counts[[0, BINS - 1]] = (10_000_000, 1)
    assert percentile(Histogram(counts, 4.0), 0.5) == pytest.approx(4.0 / BINS)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_percentile_refuses_what_is_no_fraction(fraction):
    with pytest.raises(SpecError, match="percentile"):
        percentile(uniform_histogram(), fraction)


def test_mse_of_a_uniform_density_leaves_half_a_step_above_the_last_level():
    # The last level then serves the cells on both its sides, like every other: amax + amax / 254 = maximum.
    assert mse(uniform_histogram(1.0)) == pytest.approx(127 / 127.5, abs=0.5 / BINS)


def slow_squared_errors(histogram, points=8):
    """Brute force: every threshold, every bin sampled evenly, one rounding at a time."""
    fine = (np.arange(BINS * points) + 0.5) / points * histogram.width
    weights = np.repeat(histogram.counts, points) / points
    errors = np.empty(BINS)
    for index in range(BINS):
        step = (index + 1) * histogram.width / 127.0
        codes = np.clip(np.rint(fine / step), -128, 127)
        errors[index] = (weights * (fine - codes * step) ** 2).sum()
    return errors


@pytest.mark.parametrize("name", ["laplace", "relu", "student"])
def test_mse_finds_what_brute_force_finds(name):
    histogram = histogram_of(DISTRIBUTIONS[name](np.random.default_rng(5)))
    errors = slow_squared_errors(histogram)
    chosen = errors[round(mse(histogram) / histogram.width) - 1]
    # The sampled error differs a little from the exact one, so the best two may change places.
    assert chosen <= errors.min() * 1.002
    assert errors.min() < 0.95 * errors[-1]


def test_mse_of_two_points_puts_a_level_on_the_many():
    # A level lies on 63.5 where amax = 127 * 63.5 / k; the widest below the maximum: 2016.1 (k = 4).
    counts = np.zeros(BINS, dtype=np.int64)
    counts[63], counts[-1] = 1_000_000, 1
    assert mse(Histogram(counts, float(BINS))) == 2016.0
    # As many at 2047.5: clipped to 2016 they lose 31.5 each, 63.5 is never over half a step (8.1) off.
    counts[-1] = 1_000_000
    assert mse(Histogram(counts, float(BINS))) > 2039.0


def test_mse_of_a_single_value_keeps_it():
    counts = np.zeros(BINS, dtype=np.int64)
    counts[-1] = 10
    assert mse(Histogram(counts, 1.0)) == pytest.approx(1.0, rel=0.005)


def slow_divergences(counts):
    """The slides' pseudo-code read aloud, with explicit lists."""
    total = sum(counts)
    divergences = []
    for size in range(128, len(counts) + 1):
        kept = counts[:size]
        reference = list(kept)
        reference[-1] += total - sum(kept)
        mass, filled = [0.0] * 128, [0] * 128
        level_of = [bin_number * 128 // size for bin_number in range(size)]
        for level, count in zip(level_of, kept, strict=True):
            mass[level] += count
            filled[level] += count > 0
        candidate = [
            mass[level] / filled[level] if count else 0.0 for level, count in zip(level_of, kept, strict=True)
        ]
        candidate_total = sum(candidate)
        divergence = 0.0
        for p, q in zip(reference, candidate, strict=True):
            if p and not q:
                divergence = math.inf
                break
            if p:
                divergence += p / total * math.log(p / total * candidate_total / q)
        divergences.append(divergence)
    return divergences


@pytest.mark.parametrize(("name", "drop_zero_spike"), [("laplace", True), ("student", False)])
def test_entropy_finds_what_the_pseudo_code_finds(name, drop_zero_spike):
    histogram = histogram_of(DISTRIBUTIONS[name](np.random.default_rng(5)), bins=640)
    counts = histogram.counts.tolist()
    if drop_zero_spike:
        counts[0] = counts[1]
    divergences = slow_divergences(counts)
    size = 128 + max(i for i, value in enumerate(divergences) if value <= min(divergences) + 1e-12)
    wanted = min((size + 0.5) * histogram.width, histogram.maximum)
    assert entropy(histogram, drop_zero_spike=drop_zero_spike) == pytest.approx(wanted, rel=1e-6)


def test_entropy_keeps_the_whole_range_of_a_uniform_distribution():
    assert entropy(uniform_histogram(2.0)) == 2.0


def test_entropy_clips_a_heavy_tail_far_below_the_largest_value():
    random = np.random.default_rng(11)
    values = np.append(random.laplace(size=200_000), 100.0)
    chosen = entropy(histogram_of(values))
    # Nearly all mass lies below 10; without clipping the 128 levels would be 0.8 apart.
    assert 8.0 < chosen < 14.0


def test_the_zeros_of_a_relu_do_not_pull_the_entropy_threshold_down():
    random = np.random.default_rng(3)
    values = np.abs(random.normal(size=100_000))
    with_zeros = np.append(values, np.zeros(400_000))
    plain, spiked = entropy(histogram_of(values)), entropy(histogram_of(with_zeros))
    assert spiked == pytest.approx(plain, rel=0.02)
    assert entropy(histogram_of(with_zeros), drop_zero_spike=False) < 0.5 * plain


def test_equal_divergences_are_resolved_as_asked():
    counts = np.zeros(BINS, dtype=np.int64)
    counts[-2:] = 7
    histogram = Histogram(counts, float(BINS))
    # All 2048 bins: P = Q = 1/2, 1/2. The first 2047: P = Q = 1. Any fewer end in an empty bin.
    assert entropy(histogram) == BINS
    assert entropy(histogram, prefer_wider=False) == 2047.5


@pytest.mark.parametrize("method", list(Method))
def test_a_tensor_of_zeros_gets_the_fallback(method):
    zeros = Histogram(np.zeros(BINS, dtype=np.int64), 0.0)
    assert amax_from_histogram(zeros, method) == FALLBACK_AMAX


@pytest.mark.parametrize("method", list(Method))
def test_every_method_gives_a_positive_float32_within_the_range(method, measured):
    amax = amax_from_histogram(measured, method)
    assert 0.0 < amax <= measured.maximum * (1 + 1e-6)
    assert float(np.float32(amax)) == amax


@pytest.mark.parametrize("method", list(Method))
def test_scaling_the_data_scales_the_threshold(method, measured):
    larger = Histogram(measured.counts, measured.maximum * 1024.0)
    assert amax_from_histogram(larger, method) == pytest.approx(
        1024.0 * amax_from_histogram(measured, method), rel=1e-6
    )


def test_an_unknown_method_names_the_closest():
    with pytest.raises(SpecError) as caught:
        parse_method("entropie")
    assert caught.value.hint == "did you mean 'entropy'?"
