"""A search that starts from the map of another checkpoint: what it saves, and what if that map fails."""

import json
import math
from dataclasses import replace

import pytest
from guided_problems import best_found, chain, int8_in, random_problem, searched, with_pairs

from qsens.core.precision import Precision
from qsens.core.start import KnownUse, MappedLayer, StartingPoint
from qsens.core.trial import Outcome
from qsens.search.enumerations import Chain, StartingMap
from qsens.search.guided.strategy import Guided

LIMIT = 8.0


def start_from(problem, chosen, uses=None):
    """The start that a run of a problem would hand on, whose map has the layers `chosen` in INT8."""
    mapped = tuple(
        MappedLayer(layer.name, Precision.INT8 if layer.index in chosen else Precision.FP16)
        for layer in problem.layers
    )
    known = tuple(
        KnownUse((layer.name,), problem.damage(frozenset([layer.index])) / LIMIT, 0.0)
        for layer in problem.layers
    )
    return StartingPoint("yesterday", mapped, known if uses is None else uses)


def started(start, **options):
    guided = Guided(budget=str(LIMIT), guard="100", **options)
    return Chain([StartingMap(start, Precision.FP16), guided.starting_from(start)])


def counts(trials):
    full = sum(trial.outcome is Outcome.SCORED for trial in trials)
    return full, len(trials) - full


@pytest.fixture(scope="module")
def yesterday():
    """A problem, what a search from nothing found for it, and the trials that took."""
    problem = random_problem(3, 16)
    trials = searched(Guided(budget=str(LIMIT), guard="100"), problem)
    return problem, best_found(problem, trials, LIMIT), trials


def test_a_map_that_still_holds_saves_the_screens_of_units_and_boundaries(yesterday):
    problem, best, before = yesterday
    # Tomorrow's checkpoint: every layer costs a little else.
    tomorrow = replace(problem, damage=lambda chosen: 0.97 * problem.damage(chosen))
    trials = searched(started(start_from(problem, best)), tomorrow)
    assert int8_in(problem.layers, trials[3].requested) == best
    assert tomorrow.saving(best_found(tomorrow, trials, LIMIT)) >= tomorrow.saving(best)
    full, screens = counts(trials)
    assert full <= counts(before)[0]
    assert screens <= counts(before)[1] / 2


def test_a_map_that_no_longer_holds_is_left_for_one_that_does(yesterday):
    problem, best, _ = yesterday
    worse = max(best)

    def damage(chosen):
        return problem.damage(chosen) + (2 * LIMIT if worse in chosen else 0.0)

    tomorrow = replace(problem, damage=damage)
    start = start_from(problem, best)
    trials = searched(started(start), tomorrow)
    fresh = searched(Guided(budget=str(LIMIT), guard="100"), tomorrow)
    found = best_found(tomorrow, trials, LIMIT)
    assert worse not in found
    assert tomorrow.saving(found) >= 0.98 * tomorrow.saving(best_found(tomorrow, fresh, LIMIT))
    assert counts(trials)[0] <= counts(fresh)[0] + 1


def test_units_that_the_other_run_did_not_try_are_screened(yesterday):
    problem, best, _ = yesterday
    uses = start_from(problem, best).uses
    trials = searched(started(start_from(problem, best, uses[2:])), problem)
    alone = {chosen for trial in trials if len(chosen := int8_in(problem.layers, trial.requested)) == 1}
    assert {frozenset([0]), frozenset([1])} == alone


def test_the_decisions_name_the_run_that_was_started_from(yesterday):
    problem, best, _ = yesterday
    strategy = started(start_from(problem, best))
    trials = searched(strategy, problem)
    told = [decision.text for decision in strategy.explain_search(problem.layers, trials)]
    assert "Started from the map that yesterday chose" in told
    assert "What 16 layers use alone is taken from yesterday" in told


def test_a_least_saving_takes_a_start_that_saves_enough():
    problem = random_problem(5, 8)
    chosen = frozenset(range(2, 8))
    trials = searched(started(start_from(problem, chosen), least_saving=0.5), problem)
    assert int8_in(problem.layers, trials[3].requested) == chosen
    assert trials[-1].outcome in (Outcome.SCORED, Outcome.SCREENED)


def test_a_start_without_int8_is_none(yesterday):
    problem, _, before = yesterday
    trials = searched(started(start_from(problem, frozenset())), problem)
    assert [trial.requested for trial in trials] == [trial.requested for trial in before]


def test_layers_of_one_network_only_are_told_and_start_in_float():
    problem = replace(random_problem(3, 4), damage=with_pairs([1.0] * 4, [[0.0] * 4] * 4))
    start = start_from(problem, frozenset(range(4)))
    others = (*problem.layers[1:], replace(chain([1])[0], name="new", index=4))
    first = start.map_over(others, Precision.FP16)
    assert first["new"] is Precision.FP16
    assert first["conv1"] is Precision.INT8
    assert start.notes(others) == [
        "the layer conv0 of yesterday is not in this network",
        "the layer new is not in yesterday, and not in INT8 in the first map",
    ]
    assert start.matches(others)
    assert not start.matches((replace(others[0], name="other"),))


def test_a_start_survives_its_file(yesterday):
    problem, best, _ = yesterday
    start = start_from(problem, best)
    read = StartingPoint.from_json(json.loads(start.to_json()))
    assert read == start
    assert not any(math.isnan(use.share) for use in read.uses)
