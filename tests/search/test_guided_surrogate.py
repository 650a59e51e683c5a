"""The model of sets: sums, interpolation, and its posterior against a plain Gaussian conditional."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import ndtr

from qsens.search.guided.next_set import PAIR, SCALE, SINGLE, Observation, Surrogate, indicator
from qsens.search.guided.steps import DISCARD

ALONE = (0.1, 0.4, 0.02, 0.7, 0.25)
ERRORS = (0.01, 0.05, 0.0, 0.02, 0.03)
FLOOR = 0.05
SETS = [frozenset(chosen) for count in range(6) for chosen in combinations(range(5), count)]


def model(*observations, alone=ALONE, errors=ERRORS, floor=FLOOR):
    return Surrogate(floor, alone, errors, observations)


def seen(places, use, error=0.0):
    return Observation(frozenset(places), use, error)


def features(sets, alone=ALONE):
    """What the deviations from the sum are linear in: the sum, each unit, each pair."""
    damages = np.asarray(alone)
    rows = indicator(sets, len(alone))
    pairs = [rows[:, i] * rows[:, j] for i, j in combinations(range(len(alone)), 2)]
    return np.column_stack([rows @ damages, rows, *pairs])


def weights_variance(alone=ALONE, errors=ERRORS):
    damages = np.asarray(alone)
    own = (SINGLE * damages) ** 2 + np.asarray(errors) ** 2
    pairs = [PAIR**2 * damages[i] * damages[j] for i, j in combinations(range(len(alone)), 2)]
    return np.concatenate([[SCALE**2], own, pairs])


def test_without_observations_it_is_the_sum_of_the_damages():
    mean, deviation = model().predict(indicator(SETS, 5))
    assert mean == pytest.approx([FLOOR + sum(ALONE[place] for place in chosen) for chosen in SETS])
    variance = (features(SETS) ** 2) @ weights_variance()
    assert deviation == pytest.approx(np.sqrt(variance + 1e-6))


def test_the_posterior_is_the_conditional_of_a_gaussian():
    observed = [
        seen({0, 1}, 0.8),
        seen({1, 3, 4}, 1.2, 0.1),
        seen(range(5), 2.5),
        seen((), FLOOR),
        seen({2, 3}, 0.6, 0.3),
    ]
    mean, deviation = model(*observed).predict(indicator(SETS, 5))
    uses = np.array([observation.use for observation in observed])
    errors = np.array([observation.error for observation in observed])
    covariance = np.diag(weights_variance())
    across, at_seen = features(SETS), features([observation.units for observation in observed])
    noise = np.diag(errors**2 + (0.005 * uses) ** 2 + 1e-6)
    gain = across @ covariance @ at_seen.T @ np.linalg.inv(at_seen @ covariance @ at_seen.T + noise)
    sums = FLOOR + indicator(SETS, 5) @ np.asarray(ALONE)
    expected = sums + gain @ (uses - FLOOR - at_seen[:, 0])
    left = across @ covariance @ across.T - gain @ at_seen @ covariance @ across.T
    assert mean == pytest.approx(np.maximum(expected, 0.0), abs=1e-9)
    assert deviation**2 == pytest.approx(np.diag(left) + 1e-6, abs=2e-6)


def test_full_scores_are_met_and_screens_are_weighed():
    sets = indicator([frozenset({0, 1}), frozenset({1, 3})], 5)
    mean, deviation = model(seen({0, 1}, 0.9), seen({1, 3}, 2.0, 0.3)).predict(sets)
    assert mean[0] == pytest.approx(0.9, abs=0.01)
    assert deviation[0] < 0.02
    assert FLOOR + 1.1 < mean[1] < 2.0
    assert 0.02 < deviation[1] < 0.3


def test_a_scale_that_was_seen_carries_over_to_other_sets():
    (mean,), _ = model(seen({0, 1, 3}, FLOOR + 2 * 1.2)).predict(indicator([frozenset({2, 4})], 5))
    assert FLOOR + 0.27 < mean < FLOOR + 2 * 0.27


@pytest.mark.parametrize("huge", [1e3, 1e12])
def test_predictions_stay_finite_and_at_least_zero(huge):
    observed = [seen({0, 1}, 0.0), seen({0, 1}, 0.0, 0.5), seen({3}, huge), seen(range(5), huge)]
    mean, deviation = model(*observed, alone=(0.1, 0.4, 0.0, huge, 0.25)).predict(indicator(SETS, 5))
    assert np.isfinite(mean).all()
    assert (mean >= 0.0).all()
    assert (deviation > 0.0).all()


def test_sets_as_rows():
    rows = indicator([frozenset(), frozenset({2}), frozenset({0, 3})], 4)
    assert rows.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]
    assert indicator([], 3).shape == (0, 3)


def test_of_sets_given_up_after_a_screen_no_more_are_within_the_budget_than_stated():
    """Truths drawn from the model, screens with the noise that it believes in."""
    random = np.random.default_rng(0)
    given_up = within = 0
    for _ in range(1200):
        size = int(random.integers(3, 7))
        alone = random.lognormal(0.0, 0.8, size)
        alone *= random.uniform(0.7, 1.6) / alone.sum()
        errors = 0.1 * alone
        deviations = np.sqrt(weights_variance(alone, errors)) * random.standard_normal(
            1 + size + size * (size - 1) // 2
        )
        units = frozenset(range(size))
        truth = float(alone.sum() + features([units], alone)[0] @ deviations)
        error = 0.1 * abs(truth)
        screen = seen(units, truth + error * random.standard_normal(), error)
        found = Surrogate(0.0, tuple(alone), tuple(errors), (screen,))
        (mean,), (deviation,) = found.predict(indicator([units], size))
        if ndtr((1.0 - mean) / deviation) < DISCARD:
            given_up += 1
            within += truth <= 1.0
    assert given_up > 200
    # Three standard errors of a share of DISCARD.
    assert within <= DISCARD * given_up + 3 * np.sqrt(DISCARD * (1 - DISCARD) * given_up)
