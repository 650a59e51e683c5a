"""What `guided` searches for: budgets, guards, savings, milliseconds, time, a front."""

import math
from dataclasses import replace

import pytest
from guided_problems import (
    FP32_FID,
    Problem,
    best_boundary,
    best_found,
    best_there_is,
    chain,
    effort,
    fid_scores,
    in_precision,
    int8_in,
    likeness_scores,
    noisy,
    psnr_scores,
    random_problem,
    scored,
    searched,
)

from qsens.core.errors import SpecError
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Screen
from qsens.search.guided.strategy import Guided

LAYERS = chain([150, 200, 300, 400, 500, 600])
OWN = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]


def own(chosen) -> float:
    return float(sum(OWN[place] for place in chosen))


def found_with(strategy, problem, limit):
    return best_found(problem, searched(strategy, problem), limit)


@pytest.mark.parametrize("seed", range(4))
def test_a_least_saving_is_reached_with_no_more_damage_than_the_best_boundary(seed):
    problem = random_problem(seed, 8)
    trials = searched(Guided(least_saving=0.7), problem)
    sets = [int8_in(problem.layers, trial.requested) for trial in scored(trials)]
    found = min(problem.damage(chosen) for chosen in sets if problem.saving(chosen) >= 0.7)
    count = len(problem.layers)
    cuts = [frozenset(range(cut)) for cut in range(count + 1)] + [
        frozenset(range(cut, count)) for cut in range(count)
    ]
    assert found <= min(problem.damage(cut) for cut in cuts if problem.saving(cut) >= 0.7)
    # The found damage leaves no room to save as much for a tenth less.
    assert best_there_is(problem, 0.9 * found) < 0.7
    assert effort(trials) < 0.2 * 2**8


def test_a_saving_of_everything_is_int8_everywhere():
    assert len(searched(Guided(least_saving=1.0), Problem(LAYERS, own))) == 3 + len(LAYERS) + 3


def test_psnr_alone_is_a_budget_of_squared_errors():
    # 30 dB is a damage of 1: 5 of it are 23.01 dB.
    problem = Problem(LAYERS, own, scores=psnr_scores)
    trials = searched(Guided(budget="23.0"), problem)
    assert best_found(problem, trials, 5.01) == {0, 3, 5}
    assert not any(own(int8_in(LAYERS, trial.requested)) > 5.01 for trial in scored(trials[3:]))


def test_a_score_whose_larger_values_are_better():
    problem = Problem(LAYERS, own, scores=likeness_scores, screen=noisy(0))
    assert found_with(Guided(budget="5.0"), problem, 5.0) == {0, 3, 5}


def test_a_share_of_the_distance_of_fp32_is_a_budget():
    assert found_with(Guided(budget="50%"), Problem(LAYERS, own), 0.5 * FP32_FID) == {0, 3, 5}


@pytest.mark.parametrize(("options", "limit"), [({}, 5.0), ({"budget": "noise:1"}, 9.0)])
def test_a_budget_is_what_an_alteration_costs_and_without_one_what_nobody_sees(options, limit):
    problem = Problem(LAYERS, own, yardsticks={"jpeg:95": 5.0, "noise:1": 9.0})
    assert found_with(Guided(**options), problem, limit) == found_with(
        Guided(budget=f"{limit}"), problem, limit
    )


def test_the_guard_decides_where_it_is_tighter_than_the_budget():
    def scores(damage, error=0.0):
        """The distance to real images hides most of the damage."""
        fid, far = fid_scores(damage, error)
        return replace(fid, value=FP32_FID + 0.1 * damage, difference=0.1 * damage), far

    problem = Problem(LAYERS, own, scores=scores)
    assert found_with(Guided(budget="1.1", guard="5.0"), problem, 5.0) == {0, 3, 5}
    # Without a guard the points of the budget are one; with a looser guard the budget decides.
    assert found_with(Guided(budget="5.0"), problem, 5.0) == {0, 3, 5}
    assert found_with(Guided(budget="0.5", guard="50"), problem, 5.0) == {0, 3, 5}


def test_an_alteration_that_was_not_scored_is_named():
    with pytest.raises(SpecError, match="jpeg:95 was not scored") as caught:
        searched(Guided(), Problem(LAYERS, own, scores=psnr_scores))
    assert "--yardsticks jpeg:95" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "shown"),
    [({"least_saving": 0.0}, "0.0"), ({"least_saving": 1.5}, "1.5"), ({"front": -1}, "-1")],
)
def test_options_that_mean_nothing_are_refused_with_their_value(options, shown):
    with pytest.raises(SpecError, match=shown) as caught:
        Guided(**options)
    assert caught.value.hint


def test_a_time_limit_ends_the_search_with_the_trials_so_far():
    problem = replace(random_problem(0, 8), duration_s=10.0)
    options = {"budget": f"{0.3 * problem.everything:.9f}"}
    whole = searched(Guided(**options), problem)
    stopped = searched(Guided(**options, time_limit_s=50.0), problem)
    assert stopped == whole[: len(stopped)]
    assert 3 < len(stopped) < len(whole)
    # FP16 and INT8 everywhere took 20 s, and a screen is a quarter of 10 s; FP32 is no part of the search.
    taken = [trial.duration_s for trial in stopped[1:]]
    assert sum(taken) >= 50.0 > sum(taken[: 2 + 8])
    assert searched(Guided(**options, time_limit_s=0.0), problem) == whole[:3]
    assert searched(Guided(**options, time_limit_s=1e9), problem) == whole


def test_a_front_adds_maps_that_save_less_and_more():
    problem = Problem(LAYERS, own)
    plain = searched(Guided(budget="5.0"), problem)
    trials = searched(Guided(budget="5.0", front=4), problem)
    assert trials[: len(plain)] == plain
    assert 1 <= len(scored(trials)) - len(scored(plain)) <= 4
    shares = [problem.saving(int8_in(LAYERS, trial.requested)) for trial in scored(trials)]
    for wanted in (0.2, 0.4, 0.6, 0.8):
        assert min(share for share in shares if share >= wanted - 1e-9) < wanted + 0.2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_explanations_fewer_maps_are_asked(seed):
    problem = random_problem(seed, 8)
    budget = f"{0.3 * problem.everything:.9f}"
    whole = searched(Guided(budget=budget), problem)
    short = searched(Guided(budget=budget, explain=False), problem)
    assert short == whole[: len(short)]
    best = best_found(problem, whole, 0.3 * problem.everything)
    tried = {int8_in(problem.layers, trial.requested) for trial in whole}
    screens_left = 24 - sum(trial.outcome is Outcome.SCREENED for trial in whole)
    for place in set(range(8)) - best if screens_left else ():
        assert best | {place} in tried or problem.damage(frozenset([place])) > 0.3 * problem.everything


def test_a_plan_says_what_is_screened_first():
    trials = [
        replace(Problem(LAYERS, own).trial(number, requested), scores=())
        for number, requested in enumerate(anchor_maps(LAYERS).values())
    ]
    planned = Guided(budget="1.0").propose(LAYERS, trials)
    assert all(isinstance(request, Screen) for request in planned)
    assert [int8_in(LAYERS, request.precision_map) for request in planned] == [{place} for place in range(6)]


def test_best_boundaries_are_no_better_under_any_of_several_budgets():
    problem = random_problem(6, 7)
    for share in (0.1, 0.5, 0.9):
        limit = share * problem.everything
        found = problem.saving(found_with(Guided(budget=f"{limit:.9f}"), problem, limit))
        assert found >= best_boundary(problem, limit)
        assert math.isclose(found, best_there_is(problem, limit), abs_tol=0.02)


def test_int8_is_free_where_nothing_is_damaged():
    problem = Problem(LAYERS, lambda chosen: 0.0)
    trials = searched(Guided(least_saving=0.5), problem)
    assert not in_precision(problem, trials[2].requested, Precision.FP16)
    assert problem.saving(best_found(problem, trials, 0.0)) == 1.0
