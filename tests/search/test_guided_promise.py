"""The promise of `guided`: two screens a unit and half a full score, whatever the scores are."""

import numpy as np
import pytest
from guided_problems import Problem, best_found, chain, searched

from qsens.core.trial import Outcome
from qsens.search.guided import next_set
from qsens.search.guided.knowledge import Allowance
from qsens.search.guided.next_set import Surrogate
from qsens.search.guided.strategy import Guided


def alike(seed, count, *, noise=0.03) -> Problem:
    """Layers of the same size that do 0.9 to 1.1 each; every map's score and screen are noisy."""
    own = np.random.default_rng(seed).uniform(0.9, 1.1, count)

    def factor(chosen, which):
        places = np.zeros(count, np.int64)
        places[list(chosen)] = 1
        return 1.0 + noise * np.random.default_rng([seed, which, *places]).standard_normal()

    def damage(chosen):
        return max(float(own[list(chosen)].sum()) * factor(chosen, 1), 0.0)

    return Problem(chain([100] * count), damage, screen=lambda chosen: factor(chosen, 2), error=0.03)


def asked(trials) -> tuple[int, int]:
    """Screens, and full scores that are no anchors."""
    screens = sum(trial.outcome is Outcome.SCREENED for trial in trials)
    return screens, len(trials) - 3 - screens


@pytest.mark.parametrize("count", [1, 2, 5, 9, 12, 18, 24, pytest.param(120, marks=pytest.mark.slow)])
def test_layers_that_are_alike_cost_no_more_than_is_promised(count):
    problem = alike(count, count)
    strategy = Guided(budget=f"{0.667 * count:.6f}")
    screens, scores = asked(searched(strategy, problem))
    most = max(count, 12)
    assert (screens <= 2 * most, scores <= most // 2) == (True, True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{"budget": "4.0"}, {"least_saving": 0.5}])
def test_scores_without_any_sense_cost_no_more_than_is_promised(seed, options):
    def damage(chosen):
        places = sum(1 << place for place in chosen)
        return float(np.random.default_rng([seed, places]).lognormal(1.4, 0.8)) if chosen else 0.0

    problem = Problem(chain([100] * 14), damage, screen=lambda chosen: 0.5 + (len(chosen) % 3))
    screens, scores = asked(searched(Guided(**options), problem))
    assert screens <= 28
    assert scores <= 7


def test_of_eighteen_alike_layers_a_few_scores_tell_how_many_may_be_in_int8():
    problem = alike(1, 18, noise=0.005)
    # Twelve use a little more than there is, whichever they are.
    limit = 11.5
    strategy = Guided(budget=f"{limit:.6f}")
    trials = searched(strategy, problem)
    assert len(best_found(problem, trials, limit)) == 11
    told = strategy.explain_search(problem.layers, trials)[-1].text
    assert told.startswith("Maps cannot be told apart at this sample size: ")
    assert asked(trials)[1] <= 9


def test_the_allowance_is_two_screens_and_half_a_score_a_unit():
    assert Allowance.of(100) == Allowance(screens=200, scores=50)
    assert Allowance.of(1) == Allowance.of(12) == Allowance(screens=24, scores=6)


def test_what_was_predicted_between_two_maps_is_not_predicted_again(monkeypatch):
    problem, strategy = alike(31, 18), Guided(budget="12.0")
    predicted, predict = [], Surrogate.predict

    def counted(surrogate, sets):
        predicted.append(len(sets))
        return predict(surrogate, sets)

    monkeypatch.setattr(Surrogate, "predict", counted)
    for memo in (next_set.chances_of, next_set.next_candidate, next_set.pool_of):
        memo.cache_clear()
    trials = searched(strategy, problem)
    assert 0 < len(predicted) < len(trials) / 2
    for memo in (next_set.chances_of, next_set.next_candidate, next_set.pool_of):
        memo.cache_clear()
    assert strategy.propose(problem.layers, trials) == []
