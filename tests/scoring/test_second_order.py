"""The second-order factor: exact where the statistic is a plain mean or pure noise."""

import numpy as np
import pytest

from qsens.scoring.influence import halves_of, measure_pair, second_order_factor
from qsens.scoring.intervals import standard_error


def test_the_error_of_a_mean_is_left_alone():
    values = np.random.default_rng(0).standard_normal(4000)
    factor = second_order_factor(
        values - values.mean(), None, lambda rows: values[rows] - values[rows].mean()
    )
    assert factor == pytest.approx(1.0, abs=0.02)


def factor_of_noise(seed: int) -> float:
    values = np.random.default_rng(seed).standard_normal((400, 300))

    def influence_of(rows: np.ndarray) -> np.ndarray:
        mean = values[rows].mean(axis=0)
        influence = 2.0 * (values[rows] - mean) @ mean
        return influence - influence.mean()

    return second_order_factor(influence_of(np.arange(400)), None, influence_of)


def test_pure_noise_takes_the_root_of_a_half():
    """|mean|^2 of centred values is all second order: its first-order variance is twice the true one."""
    assert np.mean([factor_of_noise(seed) for seed in range(8)]) == pytest.approx(np.sqrt(0.5), abs=0.03)


@pytest.mark.parametrize("clips", [None, np.repeat(np.arange(12), 5)])
def test_halves_part_the_images_by_whole_clips(clips):
    first, second = halves_of(60, clips)
    assert sorted([*first, *second]) == list(range(60))
    assert len(first) == len(second) == 30
    if clips is not None:
        assert not set(clips[first]) & set(clips[second])
    np.testing.assert_array_equal(halves_of(60, clips)[0], first)


def test_few_clips_have_no_halves():
    assert halves_of(70, np.repeat(np.arange(7), 10)) == ()
    influence = np.random.default_rng(2).standard_normal(70)
    clips = np.repeat(np.arange(7), 10)
    assert second_order_factor(influence, clips, lambda rows: influence[rows]) == 1.0


def test_equal_features_have_a_factor_of_one():
    assert second_order_factor(np.zeros(40), None, lambda rows: np.zeros(len(rows))) == 1.0


def test_near_equality_the_corrected_error_is_the_spread():
    """A distance of noise alone: uncorrected, its error is 1.2 to 1.5 times too large."""
    random = np.random.default_rng(3)
    deviations = np.sqrt(40.0 * np.arange(1, 65) ** -1.3)
    values, plain, corrected = [], [], []
    for _ in range(120):
        fp32 = random.standard_normal((100, 64)) * deviations
        moved = fp32 + 0.1 * random.standard_normal((100, 64)) * deviations
        measured = measure_pair(moved, fp32)
        factor = second_order_factor(
            measured.influence,
            None,
            lambda rows, sides=(moved, fp32): measure_pair(*(side[rows] for side in sides)).influence,
        )
        values.append(measured.distance)
        plain.append(standard_error(measured.influence))
        corrected.append(factor * plain[-1])
    spread = np.std(values)
    assert np.mean(plain) / spread > 1.15
    assert 0.8 < np.mean(corrected) / spread < 1.15
