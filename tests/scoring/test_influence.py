import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from qsens.core.errors import DataError, SpecError
from qsens.core.metric_names import FRECHET_CALIBRATION, images_needed
from qsens.scoring.frechet import Reference, frechet_distance
from qsens.scoring.influence import FrechetMeasurement, measure_pair, measure_to_reference
from qsens.scoring.intervals import (
    effective_groups,
    few_groups_factor,
    first_order_error,
    heavy_tailed_error,
    interval,
    paired_standard_error,
    standard_error,
)

SPREAD = np.sqrt(40.0 * np.arange(1, 257) ** -1.3)


def gaussians(seed: int, rows: int, dimension: int = 256) -> np.ndarray:
    return np.random.RandomState(seed).randn(rows, dimension) * SPREAD[:dimension]


def leave_one_out(measure: Callable[[np.ndarray], FrechetMeasurement], count: int) -> np.ndarray:
    """(N - 1) (d - d without i): the jackknife's estimate of the influence of image i."""
    everything = np.arange(count)
    full = measure(everything).distance
    without = np.array([measure(np.delete(everything, i)).distance for i in everything])
    return (count - 1) * (full - without)


def agreement(influence: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Correlation and slope."""
    return np.corrcoef(influence, jackknife)[0, 1], np.polyfit(influence, jackknife, 1)[0]


def weighted_distance(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """Distance of two weighted samples from singular values: no root, no Gram, no closed form."""
    scale = len(weights) / (len(weights) - 1)
    means = [weights @ side for side in (first, second)]
    rows = [
        (side - mean) * np.sqrt(scale * weights)[:, None]
        for side, mean in zip((first, second), means, strict=True)
    ]
    step = means[0] - means[1]
    overlap = scipy.linalg.svdvals(rows[0] @ rows[1].T).sum()
    return step @ step + sum((side**2).sum() for side in rows) - 2 * overlap


def derivative_towards(image: int, count: int, distance: Callable[[np.ndarray], float]) -> float:
    """Numerical derivative as weight moves from all images to one."""
    uniform = np.full(count, 1.0 / count)
    step = 1e-4 / count
    target = np.eye(count)[image]
    ends = [distance((1 - sign * step) * uniform + sign * step * target) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize(("rows", "dimension"), [(30, 100), (40, 38), (60, 20)])
def test_paired_influence_is_the_derivative(rows, dimension):
    first = gaussians(2, rows, dimension)
    second = 1.1 * first + 0.5 * gaussians(3, rows, dimension) + 0.05
    influence = measure_pair(first, second).influence
    numerical = [
        derivative_towards(image, rows, lambda weights: weighted_distance(first, second, weights))
        for image in range(rows)
    ]
    np.testing.assert_allclose(influence, numerical, rtol=1e-4, atol=1e-4 * np.abs(influence).max())


@pytest.mark.parametrize(("rows", "dimension"), [(30, 100), (40, 38), (60, 20)])
def test_influence_is_the_derivative(rows, dimension):
    reference_rows = gaussians(1, 400, dimension)
    reference = Reference.from_features(reference_rows, "t")
    features = gaussians(2, rows, dimension) + 0.1
    root = scipy.linalg.sqrtm(np.cov(reference_rows, rowvar=False)).real

    def distance(weights: np.ndarray) -> float:
        mean = weights @ features
        centred = (features - mean) * np.sqrt(rows / (rows - 1) * weights)[:, None]
        step = mean - reference_rows.mean(0)
        return step @ step + (centred**2).sum() - 2 * scipy.linalg.svdvals(centred @ root).sum()

    influence = measure_to_reference(reference, features).influence
    numerical = [derivative_towards(image, rows, distance) for image in range(rows)]
    np.testing.assert_allclose(influence, numerical, rtol=1e-4, atol=1e-4 * np.abs(influence).max())


@pytest.mark.parametrize(("rows", "dimension"), [(60, 256), (60, 55), (150, 20)])
def test_influence_predicts_leaving_an_image_out(rows, dimension):
    reference = Reference.from_features(gaussians(1, 1500, dimension), "t")
    features = gaussians(2, rows, dimension)
    measured = measure_to_reference(reference, features)
    assert measured.distance == pytest.approx(frechet_distance(reference, features), rel=1e-7)
    assert abs(measured.influence.mean()) < 1e-10
    correlation, slope = agreement(
        measured.influence, leave_one_out(lambda kept: measure_to_reference(reference, features[kept]), rows)
    )
    assert correlation > 0.9
    assert 0.85 < slope < 1.1


@pytest.mark.parametrize(("rows", "dimension"), [(60, 256), (60, 55), (150, 20)])
def test_paired_influence_predicts_leaving_an_image_out(rows, dimension):
    first = gaussians(2, rows, dimension)
    second = 1.1 * first + 0.5 * gaussians(3, rows, dimension) + 0.05
    measured = measure_pair(first, second)
    one_sided = frechet_distance(Reference.from_features(second, "t"), first)
    assert measured.distance == pytest.approx(one_sided, rel=1e-7)
    correlation, slope = agreement(
        measured.influence, leave_one_out(lambda kept: measure_pair(first[kept], second[kept]), rows)
    )
    assert correlation > 0.94
    assert 0.9 < slope < 1.1


@pytest.mark.parametrize(("rows", "dimension"), [(60, 256), (150, 20)])
def test_paired_measurement_is_symmetric(rows, dimension):
    first, second = gaussians(2, rows, dimension), gaussians(4, rows, dimension) + 0.1
    one, other = measure_pair(first, second), measure_pair(second, first)
    assert one.distance == pytest.approx(other.distance, rel=1e-8)
    np.testing.assert_allclose(one.influence, other.influence, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [30, 300])
def test_pair_of_equal_features_is_zero(rows):
    features = gaussians(5, rows, 60)
    measured = measure_pair(features, features)
    assert measured.distance < 1e-8
    assert np.abs(measured.influence).max() < 1e-6


def test_pair_needs_equal_shapes():
    with pytest.raises(DataError, match=r"\(4, 256\) and \(5, 256\)"):
        measure_pair(gaussians(1, 4), gaussians(1, 5))


def test_constant_sides_do_not_crash():
    constant, varied = np.ones((9, 3)), np.random.default_rng(0).standard_normal((9, 3))
    for first, second in ((constant, varied), (varied, constant), (constant, constant)):
        assert np.isfinite(measure_pair(first, second).influence).all()
        assert np.isfinite(measure_to_reference(Reference.from_features(second, "t"), first).influence).all()


def draw_pair(generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    base = generator.standard_normal((rows, 4)) * [2.0, 1.5, 1.0, 0.5]
    return base, 1.3 * base + 0.4 * generator.standard_normal((rows, 4)) + [0.5, 0.0, -0.3, 0.1]


def test_paired_interval_covers_the_true_distance():
    """Gaussian pairs whose covariances commute: the true distance is known in closed form."""
    deviations = np.array([2.0, 1.5, 1.0, 0.5])
    moved = np.sqrt((1.3 * deviations) ** 2 + 0.16)
    truth = 0.25 + 0.09 + 0.01 + ((moved - deviations) ** 2).sum()
    generator = np.random.default_rng(0)
    covered, errors, values = [], [], []
    for _ in range(200):
        measured = measure_pair(*draw_pair(generator, 400))
        error = standard_error(measured.influence)
        low, high = interval(measured.distance, FRECHET_CALIBRATION * error)
        covered.append(low <= truth <= high)
        errors.append(error)
        values.append(measured.distance)
    assert 0.92 <= np.mean(covered) <= 1.0
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize(("rows", "dimension"), [(60, 100), (250, 20)])
def test_error_of_a_difference_is_the_spread_over_fresh_draws(rows, dimension):
    """Two maps scored on the same inputs against one reference, in both regimes of N and D."""
    reference = Reference.from_features(gaussians(1, 1200, dimension), "t")
    differences, errors, unpaired = [], [], []
    for seed in range(100, 160):
        base = 0.9 * gaussians(seed, rows, dimension)
        noise = gaussians(seed + 1000, rows, dimension)
        first, second = (measure_to_reference(reference, base + size * noise) for size in (0.1, 0.4))
        differences.append(second.distance - first.distance)
        errors.append(paired_standard_error(second.influence, first.influence))
        unpaired.append(np.hypot(standard_error(second.influence), standard_error(first.influence)))
    ratio = np.mean(errors) / np.std(differences)
    assert 0.75 < ratio < 1.25
    assert np.mean(errors) < 0.7 * np.mean(unpaired)


def test_standard_error_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).standard_normal(50)
    textbook = values.std(ddof=1) / np.sqrt(50)
    assert first_order_error(values - values.mean()) == pytest.approx(textbook)
    error = standard_error(values - values.mean())
    expected = scipy.stats.t.interval(0.95, 49, loc=3.0, scale=textbook)
    assert interval(3.0, error) == pytest.approx(expected)


def test_few_clips_make_a_wide_interval():
    assert few_groups_factor(10) == pytest.approx(2.2622 / 1.9600, rel=1e-4)
    assert few_groups_factor(10**6) == pytest.approx(1.0, rel=1e-4)
    values, clips = np.random.default_rng(3).standard_normal(60), np.repeat(np.arange(6), 10)
    ratio = standard_error(values, clips) / first_order_error(values, clips)
    assert ratio == pytest.approx(few_groups_factor(6))


def test_values_of_short_tails_have_the_textbook_interval_with_either_error():
    values = np.random.default_rng(2).uniform(size=60)
    clips = np.repeat(np.arange(12), 5)
    assert heavy_tailed_error(values) == pytest.approx(standard_error(values))
    sums = values.reshape(12, 5).sum(axis=1)
    assert scipy.stats.kurtosis(sums) < 0
    assert heavy_tailed_error(values, clips) == pytest.approx(standard_error(values, clips))
    assert effective_groups(np.zeros(7)) == 7.0


def test_clips_count_by_the_kurtosis_of_their_sums():
    values, clips = np.random.default_rng(4).uniform(size=80), np.repeat(np.arange(20), 4)
    values[10] = 8.0
    sums = values.reshape(20, 4).sum(axis=1)
    degrees = 2.0 / (2.0 / 19.0 + scipy.stats.kurtosis(sums) / 20.0)
    assert 2.0 < degrees < 15.0
    ratio = heavy_tailed_error(values, clips) / first_order_error(values, clips)
    assert ratio == pytest.approx(scipy.stats.t.ppf(0.975, degrees) / scipy.stats.norm.ppf(0.975))
    assert heavy_tailed_error(values[:4], clips[:4]) is None


def test_the_effective_number_predicts_how_uncertain_a_variance_is():
    random = np.random.default_rng(5)
    draws = random.exponential(size=(20_000, 100))
    # Of the exponential law, whose excess kurtosis is 6: 1 + 2 / (2 / 99 + 6 / 100).
    variances = draws.var(axis=1, ddof=1)
    assert 1.0 + 2.0 / variances.var() == pytest.approx(25.9, rel=0.05)
    many = random.exponential(size=10**6)
    weight = (effective_groups(many) - 1.0) / 10**6
    assert weight == pytest.approx(2.0 / (2.0 + 6.0), rel=0.05)


def test_images_needed_shrink_the_interval_to_what_was_asked():
    assert images_needed(0.5, 400, 1.96 * 0.5) == 400
    assert images_needed(0.5, 400, 1.96 * 0.05) == pytest.approx(40_000, rel=1e-3)
    with pytest.raises(SpecError, match="half_width=0"):
        images_needed(0.5, 400, 0.0)


def test_repeated_frames_do_not_make_the_error_smaller():
    values = np.random.default_rng(1).standard_normal(40)
    values -= values.mean()
    clips = np.repeat(np.arange(40), 7)
    assert standard_error(np.repeat(values, 7), clips) == pytest.approx(standard_error(values))
    assert standard_error(np.repeat(values, 7)) < 0.5 * standard_error(values)


def test_one_clip_has_no_standard_error():
    assert standard_error(np.array([1.0, -1.0]), np.array([3, 3])) is None
    assert standard_error(np.array([0.0])) is None


def test_labels_and_pairs_must_fit():
    with pytest.raises(DataError, match="2 cluster labels for 3 images"):
        standard_error(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="influence of 3 and of 4 images"):
        paired_standard_error(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(("error", "half_width"), [(1e308, 1e-300), (1e200, 1.0), (math.inf, 1.0)])
def test_images_needed_stays_a_number(error, half_width):
    assert images_needed(error, 400, half_width) > 1e9
