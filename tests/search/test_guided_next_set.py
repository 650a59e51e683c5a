"""Sets that a search looks at, and which of them it takes."""

import math
from itertools import combinations

import numpy as np
import pytest

from qsens.search.guided.next_set import Observation, Question, Surrogate, next_candidate, pool_of
from qsens.search.knapsack import Items

NOTHING = frozenset()


def items_of(seed, count):
    random = np.random.default_rng(seed)
    return Items(tuple(random.lognormal(-1, 1, count)), tuple(random.dirichlet(np.ones(count))))


def test_all_sets_of_few_units_each_once():
    pool = pool_of(items_of(0, 6), 1.0, ()).sets
    assert len(pool) == len(set(pool)) == 2**6


def test_units_that_cannot_be_chosen_are_in_no_set():
    few = Items((0.1, math.inf, 0.2), (0.5, 0.3, 0.2))
    assert set(pool_of(few, 1.0, (frozenset({1, 2}),)).sets) == {NOTHING, *map(frozenset, ({0}, {2}, {0, 2}))}
    many = items_of(1, 15)
    many = Items((math.inf, *many.damages[1:]), many.savings)
    pool = pool_of(many, 1.0, (frozenset(range(4)), frozenset({0}))).sets
    assert not any(0 in units for units in pool)
    assert frozenset({1, 2, 3}) in pool


@pytest.mark.parametrize("seed", range(3))
def test_of_many_units_all_neighbours_of_known_sets_are_looked_at(seed):
    known = frozenset({1, 4, 7, 11})
    items = items_of(seed, 16)
    pool = pool_of(items, 1.0, (known,)).sets
    assert len(pool) == len(set(pool))
    outside = sorted(set(range(16)) - known, key=lambda place: -items.savings[place] / items.damages[place])
    wanted = {known, *(known | {place} for place in outside), *(known - {place} for place in known)}
    wanted |= {known - {gone} | {new} for gone in known for new in outside[:6]}
    assert wanted <= set(pool)


def test_two_for_one_takes_the_units_that_save_most_for_their_damage():
    items = Items((0.3,) * 20, tuple(0.01 * (1 + place) for place in range(20)))
    pool = set(pool_of(items, 0.3, (frozenset({0}),)).sets)
    assert {frozenset(pair) for pair in combinations(range(14, 20), 2)} <= pool


def question(**changes):
    values = {
        "items": Items((0.3, 0.4, 0.5), (0.2, 0.3, 0.5)),
        "room": 1.0,
        "near": (),
        "closed": frozenset(),
        "best": NOTHING,
        "use": 0.0,
        "least_saving": None,
        "surrogate": Surrogate(0.0, (0.3, 0.4, 0.5), (0.0,) * 3, ()),
    }
    return Question(**{**values, **changes})


def test_the_largest_expected_gain_is_taken():
    # {1, 2} saves 0.8 and was seen at 0.9; everything takes 1.2, which is hardly within the budget.
    near = Surrogate(0.0, (0.3, 0.4, 0.5), (0.0,) * 3, (Observation(frozenset({1, 2}), 0.9, 0.05),))
    found = next_candidate(question(surrogate=near))
    assert found.units == {1, 2}
    assert 0.9 < found.chance < 1.0
    assert found.gain == pytest.approx(0.8)


def test_closed_sets_and_sets_that_save_no_more_are_not_taken():
    closed = frozenset([frozenset({1, 2})])
    assert next_candidate(question(closed=closed)).units == {0, 2}
    # Only everything saves more than 0.8, and it was seen beyond the budget.
    beyond = Surrogate(0.0, (0.3, 0.4, 0.5), (0.0,) * 3, (Observation(frozenset(range(3)), 1.5),))
    assert next_candidate(question(best=frozenset({1, 2}), surrogate=beyond)) is None


def test_the_least_use_of_sets_that_save_enough():
    found = next_candidate(question(least_saving=0.5, best=frozenset(range(3)), use=1.2))
    # {2} and {0, 1} save 0.5, for 0.5 and for 0.7.
    assert found.units == {2}
    assert next_candidate(question(least_saving=0.5, best=frozenset({2}), use=0.05)) is None


def test_where_nothing_was_scored_the_least_mean_is_taken():
    found = next_candidate(question(least_saving=0.6, use=math.inf))
    assert found.units == {0, 2}
    assert found.chance == 1.0
