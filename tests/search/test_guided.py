"""Strategy `guided` finds what brute force finds, for a fraction of the maps."""

from dataclasses import replace
from itertools import product

import pytest
from guided_problems import (
    Problem,
    best_boundary,
    best_found,
    best_there_is,
    chain,
    effort,
    in_precision,
    int8_in,
    noisy,
    random_problem,
    scored,
    searched,
    with_pairs,
)

from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Screen, requested_map
from qsens.search.guided.steps import DISCARD
from qsens.search.guided.strategy import Guided

# Found saving within this share of the best saving there is.
NEAR = 0.02


def guided(limit, **options):
    return Guided(budget=f"{limit:.9f}", **options)


def missed(problem, trials, limit) -> float:
    return best_there_is(problem, limit) - problem.saving(best_found(problem, trials, limit))


@pytest.mark.parametrize("count", [6, 7, 8])
def test_the_optimum_of_all_maps_is_found_for_a_fifth_of_them(count):
    near, used = 0, 0.0
    for seed in range(10):
        problem = random_problem(seed, count)
        limit = 0.3 * problem.everything
        trials = searched(guided(limit), problem)
        near += missed(problem, trials, limit) <= NEAR
        used += effort(trials) / 2**count
    assert near == 10
    assert used / 10 < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_strong_interactions_and_noisy_screens_miss_the_optimum_rarely(share):
    near = 0
    for seed in range(25):
        problem = random_problem(seed, 9, interaction=0.25)
        limit = share * problem.everything
        near += missed(problem, searched(guided(limit), problem), limit) <= NEAR
    assert near >= 22


@pytest.mark.slow
def test_of_maps_given_up_after_a_screen_no_more_would_have_won_than_stated():
    given_up = within = 0
    for seed, count, share in product(range(8), (7, 9), (0.2, 0.3, 0.5)):
        problem = random_problem(seed, count, interaction=0.25, screen=noisy(seed, spread=0.1))
        limit = share * problem.everything
        trials = searched(guided(limit), problem)
        full = {trial.requested for trial in scored(trials)}
        best = problem.saving(best_found(problem, trials, limit))
        for trial in trials:
            chosen = int8_in(problem.layers, trial.requested)
            if trial.requested not in full and problem.saving(chosen) > best + 1e-9:
                given_up += 1
                within += problem.damage(chosen) <= limit
    assert given_up > 100
    # Three standard errors of a share of DISCARD.
    assert within <= DISCARD * given_up + 3 * (DISCARD * (1 - DISCARD) * given_up) ** 0.5


def test_a_fragile_layer_in_the_middle_is_left_in_float_where_boundaries_fail():
    own = [1.0, 1.2, 0.8, 40.0, 1.1, 0.9, 1.0, 1.0]
    problem = Problem(chain(range(1000, 9000, 1000)), with_pairs(own, [[0.02] * 8] * 8))
    limit = 10.0
    trials = searched(guided(limit), problem)
    assert best_found(problem, trials, limit) == {0, 1, 2, 4, 5, 6, 7}
    assert best_boundary(problem, limit) == pytest.approx(26 / 36)
    assert effort(trials) < 10


def test_a_run_that_does_not_screen_finds_the_same_optimum():
    problem = replace(random_problem(3, 7), screen=None)
    limit = 0.3 * problem.everything
    trials = searched(guided(limit), problem)
    assert all(trial.outcome is Outcome.SCORED for trial in trials)
    assert missed(problem, trials, limit) <= NEAR
    assert len(trials) < 0.3 * 2**7


def test_a_resumed_search_goes_the_same_way_from_every_prefix():
    problem = random_problem(4, 7, interaction=0.3)
    strategy = guided(0.3 * problem.everything)
    trials = searched(strategy, problem)
    assert len({trial.outcome for trial in trials}) == 2
    for count in range(3, len(trials)):
        nearest = strategy.propose(problem.layers, trials[:count])[0]
        assert requested_map(nearest) == trials[count].requested
        assert isinstance(nearest, Screen) == (trials[count].outcome is Outcome.SCREENED)


def test_screens_that_are_far_off_by_a_common_factor_do_not_mislead():
    for scale in (0.3, 4.0):
        problem = replace(random_problem(5, 7), screen=lambda chosen, factor=scale: factor)
        limit = 0.3 * problem.everything
        assert missed(problem, searched(guided(limit), problem), limit) <= NEAR


def test_twenty_units_beat_every_boundary():
    problem = random_problem(1, 20, interaction=0.05)
    limit = 0.3 * problem.everything
    trials = searched(guided(limit), problem)
    assert problem.saving(best_found(problem, trials, limit)) > best_boundary(problem, limit) + 0.1
    assert effort(trials) < 2 * (20 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_fifty_units_beat_every_boundary_for_less_than_one_boundary_curve(seed):
    problem = random_problem(seed, 50, interaction=0.02)
    limit = 0.3 * problem.everything
    trials = searched(guided(limit), problem)
    assert problem.saving(best_found(problem, trials, limit)) >= best_boundary(problem, limit)
    assert effort(trials) < 50


def test_by_block_its_layers_share_a_precision():
    layers = tuple(replace(layer, block=f"block{layer.index // 2}") for layer in chain([100] * 8))
    problem = Problem(layers, lambda chosen: float(sum(1 + place % 3 for place in chosen)))
    trials = searched(guided(6.0, by="block"), problem)
    for trial in trials:
        words = [trial.requested[layer.name] for layer in layers]
        assert words[::2] == words[1::2]
    # Blocks use 3, 4, 5 and 3.
    assert best_found(problem, trials, 6.0) == {0, 1, 6, 7}


def test_int8_everywhere_within_the_budget_ends_the_search():
    problem = random_problem(0, 6)
    assert len(searched(guided(1.01 * problem.everything), problem)) == 3


def test_nothing_is_asked_where_all_layers_are_pinned():
    layers = tuple(replace(layer, allowed=frozenset({Precision.FP16})) for layer in chain([1, 2, 3]))
    problem = Problem(layers, lambda chosen: 0.0)
    trials = searched(guided(1.0), problem)
    assert len(trials) == 2
    assert guided(1.0).explain_search(layers, trials)[-1].text.startswith("No unit may run in INT8")


def test_pinned_layers_keep_their_precision_in_every_map():
    pins = {1: Precision.FP16, 4: Precision.INT8, 5: Precision.FP32}
    layers = tuple(
        replace(layer, allowed=frozenset({pins[layer.index]})) if layer.index in pins else layer
        for layer in chain([300] * 8)
    )
    problem = Problem(layers, lambda chosen: float(sum(1 + place for place in chosen)))
    trials = searched(guided(14.0), problem)
    for trial in trials[1:]:
        assert all(trial.requested[layers[place].name] is pins[place] for place in pins)
    # Layer 4 takes 5 of the 14; 1 + 3 + 4 is what leaves most layers in INT8.
    assert best_found(problem, trials, 14.0) == {0, 2, 3, 4}


def test_a_budget_of_nothing_leaves_only_what_costs_nothing():
    problem = Problem(chain([100] * 5), lambda chosen: float(sum(place % 2 for place in chosen)))
    trials = searched(guided(0.0), problem)
    assert best_found(problem, trials, 0.0) == {0, 2, 4}


def test_the_float_side_is_what_was_asked_for():
    problem = random_problem(2, 5)
    trials = searched(guided(0.3 * problem.everything, float_precision="fp32"), problem)
    fp16 = [trial for trial in trials if in_precision(problem, trial.requested, Precision.FP16)]
    assert [trial.number for trial in fp16] == [1]
    assert any(int8_in(problem.layers, trial.requested) for trial in scored(trials[3:]))
