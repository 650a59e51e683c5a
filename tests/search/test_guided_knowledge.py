"""What a search knows of sets, and the boundaries that it screens."""

import math

import pytest
from guided_problems import Problem, chain, int8_in

from qsens.core.precision import Precision, PrecisionMap
from qsens.search.budget_use import BudgetUse
from qsens.search.enumerations import units_of
from qsens.search.guided.boundaries import screen_boundaries
from qsens.search.guided.knowledge import NOTHING, SearchKnowledge, percent
from qsens.search.guided.replay import Replay
from qsens.search.unit_maps import UnitMaps
from qsens.selection.budget import Budget


class AskedProblem(Replay):
    """A walk that is answered at once; `sets` are those that were asked for."""

    def __init__(self, problem):
        super().__init__([])
        self._problem = problem
        self.sets = []

    def ask(self, requests):
        trials = [self._problem.trial(len(self.sets) + place, each) for place, each in enumerate(requests)]
        self.sets += [int8_in(self._problem.layers, trial.requested) for trial in trials]
        return trials


def known_of(problem, budget=1.0):
    """Knows nothing, everything and each unit alone."""
    baseline = problem.trial(0, PrecisionMap(Precision.FP32))
    maps = UnitMaps.of(units_of(problem.layers, "layer"), Precision.FP16)
    use = BudgetUse.of_run(problem.layers, [baseline], Budget(budget), None)
    count = len(problem.layers)
    known = SearchKnowledge(AskedProblem(problem), maps, use, (1 / count,) * count)
    known.score(NOTHING)
    known.score(frozenset(range(count)))
    known.screen(frozenset([place]) for place in range(count))
    known.learn_alone({})
    known.replay.sets.clear()
    return known


def asked_cuts(known, *, from_front=True):
    """Lengths of the sets that were asked for, of one direction."""
    count = len(known.maps.units)
    return [
        len(units)
        for units in known.replay.sets
        if units == frozenset(range(len(units)) if from_front else range(count - len(units), count))
    ]


def test_screens_are_scaled_by_the_maps_that_have_both():
    problem = Problem(chain([100] * 4), lambda chosen: 0.2 * len(chosen), screen=lambda chosen: 0.5)
    known = known_of(problem)
    assert known.screen_scale().ratio == pytest.approx(2.0)
    assert known.alone == pytest.approx((0.2,) * 4)
    # One map with both, which agrees with itself: 10 % three times in four.
    assert known.screen_scale().spread == pytest.approx(0.1 * math.sqrt(3 / 4))
    assert known.alone_errors == pytest.approx((0.2 * 0.1 * math.sqrt(3 / 4),) * 4)
    known.score(frozenset({0, 1}))
    assert known.screen_scale().spread == pytest.approx(0.1 * math.sqrt(3 / 5))
    assert known.estimate(frozenset({0, 1})).error == 0.0


def test_screens_without_a_usable_score_tell_nothing_of_the_scale():
    problem = Problem(chain([100] * 3), lambda chosen: 0.2 * len(chosen), screen=lambda chosen: math.inf)
    known = known_of(problem)
    assert known.screen_scale().ratio == 1.0
    assert known.alone == (math.inf,) * 3


def test_only_units_whose_map_alone_was_scored_are_candidates():
    def fails(requested):
        return int8_in(problem.layers, requested) == {1}

    problem = Problem(chain([100] * 3), lambda chosen: 0.2 * len(chosen), fails=fails)
    known = known_of(problem)
    assert known.candidates == {0, 2}
    assert known.estimate(frozenset({1})).share == math.inf
    (mean,), _ = known.surrogate().predict([[1.0, 0.0, 1.0]])
    assert 0.4 <= mean <= 0.6


def test_chances_are_those_of_the_budget():
    known = known_of(Problem(chain([100] * 4), lambda chosen: 0.4 * len(chosen)))
    low, even, high = known.chances([frozenset(range(3)), frozenset({0, 1}), frozenset({0})])
    assert low < 0.3 < 0.7 < even < high
    assert known.chances([]) == []


def test_long_lists_of_names_are_cut():
    known = known_of(Problem(chain([100] * 6), lambda chosen: 0.1 * len(chosen)))
    assert known.names({2, 1}) == "conv1, conv2"
    assert known.names(range(6)) == "conv0, conv1, conv2, conv3 and 2 more"


def test_shares_in_words():
    assert [percent(share) for share in (0.0, 0.0123, 0.5, 2.0)] == ["0%", "1.2%", "50%", "200%"]


def test_a_rising_curve_is_halved():
    known = known_of(Problem(chain([100] * 16), lambda chosen: 0.11 * len(chosen)))
    screen_boundaries(known)
    for from_front in (True, False):
        cuts = asked_cuts(known, from_front=from_front)
        # The grid, then the gap of 4 between 8 and 12 in ceil(log2(4)) cuts: 9 is the last one within.
        assert cuts == [4, 8, 12, 15, 10, 9]
    assert [decision.text.split("; ")[1] for decision in known.replay.decisions] == [
        "INT8 in 9 layers uses about 99% of the budget"
    ] * 2


def test_a_curve_that_falls_is_made_denser_instead():
    def damage(chosen):
        return 0.3 if len(chosen) >= 10 else 0.11 * len(chosen)

    known = known_of(Problem(chain([100] * 16), damage))
    screen_boundaries(known)
    # Twice the two intervals that bend most: 8-12 and 4-8, then 8-10 and 1-4.
    assert asked_cuts(known) == [4, 8, 12, 15, 10, 6, 9, 2]
    assert "denser where it bends; INT8 in 15 layers" in known.replay.decisions[0].text


def test_a_direction_ends_at_a_unit_that_is_beyond_the_budget_alone():
    def damage(chosen):
        return sum(3.0 if place == 6 else 0.1 for place in chosen)

    known = known_of(Problem(chain([100] * 12), damage))
    screen_boundaries(known)
    assert not any(6 in units for units in known.replay.sets)
    assert max(asked_cuts(known)) == 6
    assert max(asked_cuts(known, from_front=False)) == 5


def test_without_a_boundary_of_two_units_nothing_is_asked():
    known = known_of(Problem(chain([100] * 3), lambda chosen: 3.0 * len(chosen)))
    screen_boundaries(known)
    assert known.replay.sets == []
    assert known.replay.decisions == ()
