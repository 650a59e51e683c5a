"""Strategy `guided` where FP16 overflows, or maps cannot be built or scored."""

import math

import pytest
from guided_problems import Problem, best_found, chain, in_precision, int8_in, scored, searched

from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome
from qsens.search.guided.strategy import Guided

LAYERS = chain([150, 200, 300, 400, 500, 600])
OWN = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]


def own(chosen) -> float:
    return float(sum(OWN[place] for place in chosen))


def names(*places) -> set[str]:
    return {LAYERS[place].name for place in places}


def fp16_in(problem, trial) -> set[str]:
    return set(in_precision(problem, trial.requested, Precision.FP16))


def test_layers_that_overflow_are_in_no_later_map_in_fp16():
    def overflows(requested):
        return {name: 7 for name in names(1, 4) if requested[name] is Precision.FP16}

    problem = Problem(LAYERS, own, overflows=overflows)
    trials = searched(Guided(budget="5.0"), problem)
    assert not any(fp16_in(problem, trial) & names(1, 4) for trial in trials[3:])
    assert any(fp16_in(problem, trial) for trial in trials[3:])
    assert any(trial.requested["conv4"] is Precision.INT8 for trial in trials[3:])
    told = Guided(budget="5.0").explain_search(LAYERS, trials)[0]
    assert (told.text, told.trials) == ("FP32 for conv1, conv4: FP16 overflows there", (1,))


def test_an_overflow_that_shows_only_after_widening_is_widened_too():
    def overflows(requested):
        if requested == PrecisionMap(Precision.FP32) or requested["conv0"] is Precision.INT8:
            return {}
        if requested["conv0"] is Precision.FP16:
            return {"conv0": 1}
        return {"conv2": 1} if requested["conv2"] is Precision.FP16 else {}

    problem = Problem(LAYERS, own, overflows=overflows)
    trials = searched(Guided(budget="5.0"), problem)
    assert fp16_in(problem, trials[3]) == names(1, 2, 3, 4, 5)
    assert all(fp16_in(problem, trial) <= names(1, 3, 4, 5) for trial in trials[4:])
    assert best_found(problem, trials, 5.0) == {0, 3, 5}


def test_overflow_that_never_ends_is_widened_a_few_times_only():
    def overflows(requested):
        halves = [layer.name for layer in LAYERS if requested[layer.name] is Precision.FP16]
        return {halves[0]: 1} if halves else {}

    trials = searched(Guided(budget="5.0"), Problem(LAYERS, own, overflows=overflows))
    assert sum(not int8_in(LAYERS, trial.requested) for trial in trials) == 2 + 3
    assert all({trial.requested[name] for name in names(0, 1, 2)} <= WIDE_OR_INT8 for trial in trials[6:])


WIDE_OR_INT8 = {Precision.FP32, Precision.INT8}


def test_fp16_beyond_the_budget_is_replaced_by_fp32():
    problem = Problem(LAYERS, own, fp16_damage=dict.fromkeys(names(0, 1, 2, 3, 4, 5), 1.0))
    trials = searched(Guided(budget="5.0"), problem)
    assert not any(fp16_in(problem, trial) for trial in trials[3:])
    assert best_found(problem, trials, 5.0) == {0, 3, 5}
    assert Guided(budget="5.0").explain_search(LAYERS, trials)[0].trials == (1,)


def test_fp16_that_uses_a_part_of_the_budget_leaves_the_rest_to_int8():
    problem = Problem(LAYERS, own, fp16_damage={"conv5": 2.5})
    trials = searched(Guided(budget="5.0"), problem)
    within = [trial for trial in scored(trials) if problem.damage_of(trial.requested) <= 5.0]
    best = max(within, key=lambda trial: problem.saving(int8_in(LAYERS, trial.requested)))
    # Layer 5 costs 3 in INT8 and 2.5 in FP16: INT8 it is, and 2 are left for layer 0 and 3.
    assert int8_in(LAYERS, best.requested) == {0, 3, 5}


@pytest.mark.parametrize("options", [{}, {"least_saving": 0.4}])
def test_a_unit_whose_map_fails_is_in_no_other_map(options):
    problem = Problem(LAYERS, own, fails=lambda requested: 3 in int8_in(LAYERS, requested))
    trials = searched(Guided(budget="5.0", **options), problem)
    failed = [trial.number for trial in trials if trial.outcome is Outcome.FAILED]
    # INT8 everywhere, which is an anchor, and the unit alone.
    assert len(failed) == 2
    assert any(len(int8_in(LAYERS, trial.requested)) > 1 for trial in scored(trials))


@pytest.mark.parametrize("options", [{"budget": "20.0"}, {"least_saving": 0.5}])
def test_of_many_units_one_that_fails_is_in_no_other_map(options):
    layers = chain([100] * 14)

    def fails(requested):
        return 7 in int8_in(layers, requested)

    problem = Problem(layers, lambda chosen: sum(1.0 + place for place in chosen), fails=fails)
    trials = searched(Guided(explain=False, **options), problem)
    assert sum(trial.outcome is Outcome.FAILED for trial in trials) == 2
    sets = [int8_in(layers, trial.requested) for trial in scored(trials)]
    if "budget" in options:
        assert max(len(chosen) for chosen in sets if problem.damage(chosen) <= 20.0) == 5
    else:
        assert min(problem.damage(chosen) for chosen in sets if len(chosen) >= 7) == 28.0


def test_every_unit_that_fails_leaves_nothing_to_choose():
    problem = Problem(LAYERS, own, fails=lambda requested: bool(int8_in(LAYERS, requested)))
    trials = searched(Guided(budget="5.0"), problem)
    assert len(trials) == 3 + len(LAYERS)
    assert "more than can be told" in Guided(budget="5.0").explain_search(LAYERS, trials)[0].text


def test_without_int8_everywhere_the_search_works_on():
    everywhere = anchor_maps(LAYERS)[Precision.INT8]
    problem = Problem(LAYERS, own, fails=lambda requested: requested == everywhere)
    assert best_found(problem, searched(Guided(budget="5.0"), problem), 5.0) == {0, 3, 5}


def test_without_fp16_everywhere_fp32_takes_its_place():
    everywhere = anchor_maps(LAYERS)[Precision.FP16]
    problem = Problem(LAYERS, own, fails=lambda requested: requested == everywhere)
    trials = searched(Guided(budget="5.0"), problem)
    assert not any(fp16_in(problem, trial) for trial in trials[2:])
    assert best_found(problem, trials, 5.0) == {0, 3, 5}


def test_a_map_whose_score_is_not_a_number_is_not_within_the_budget():
    def damage(chosen):
        return math.nan if {0, 3} <= chosen else own(chosen)

    problem = Problem(LAYERS, damage)
    trials = searched(Guided(budget="5.0"), problem)
    assert best_found(problem, trials, 5.0) == {4, 5}
