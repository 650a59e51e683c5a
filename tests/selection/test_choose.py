"""Choosing a map: budgets, guards, ties, the Pareto front."""

import math

import pytest

from qsens.core.errors import BudgetError, SpecError
from qsens.core.maps import int8_share
from qsens.core.metric_names import headline_metric
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.selection.budget import Budget, Limit
from qsens.selection.choose import cheapest_within, pareto_front
from qsens.testing import example_layers

FP32, FP16, INT8 = Precision
LAYERS = example_layers(4)  # 1000, 2000, 3000 and 4000 multiply-accumulates
NAMES = [layer.name for layer in LAYERS]
FP32_MAP, FP16_MAP, INT8_MAP = (PrecisionMap(precision) for precision in Precision)


def int8_in(*places, rest=FP16):
    return PrecisionMap(rest, tuple((NAMES[place], INT8) for place in places))


def fid(value, error=None, *, against="real", metric="fid[lite0]"):
    return Score(metric, value, 100, against, lower_is_better=True, difference_standard_error=error)


def damage(value):
    return fid(value, metric="fid-fp32[lite0]", against="fp32")


def psnr(value):
    return Score("psnr", value, 100, "fp32", lower_is_better=False)


def study_of(*entries):
    """A study whose trials are (map, scores) in order; a map of two is (requested, applied)."""
    trials = []
    for number, (maps, *scores) in enumerate(entries):
        requested, applied = maps if isinstance(maps, tuple) else (maps, maps)
        trials.append(Trial(number, requested, applied, Outcome.SCORED, tuple(scores)))
    return Study("spec", LAYERS, tuple(trials))


def choose(study, budget, **options):
    return cheapest_within(study, budget=Budget.parse(budget), **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", Budget(2.0)),
        ("2.5", Budget(2.5)),
        (".5", Budget(0.5)),
        ("5%", Budget(0.05, True)),
        ("0", Budget(0)),
        ("psnr=45", Budget(45, metric="psnr")),
        ("fid[lite0] = 5%", Budget(0.05, True, "fid[lite0]")),
        ("5%, psnr=45", Budget(0.05, True, also=(Budget(45, metric="psnr"),))),
    ],
)
def test_a_budget_is_points_or_a_share(text, expected):
    assert Budget.parse(text) == expected
    assert Budget.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "two", "-1", "5 percent", "nan", "1e3", "5%%", "9" * 400, "fid=", "=5%", "5%,"]
)
def test_another_budget_is_refused(text):
    with pytest.raises(SpecError, match="cannot read the budget"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["5%, 3%", "fid=5%, psnr=45, fid=3%"])
def test_two_budgets_on_one_score_are_refused(text):
    with pytest.raises(SpecError, match=r"two budgets on (the same score|fid)"):
        Budget.parse(text)


def of_two_scores():
    """FP32, FP16, then maps that fid or psnr likes best."""
    return study_of(
        (FP32_MAP, fid(10.0), psnr(math.inf)),
        (FP16_MAP, fid(10.1), psnr(60.0)),
        (int8_in(0), fid(10.2), psnr(44.0)),
        (int8_in(0, 1), fid(10.4), psnr(41.0)),
        (int8_in(0, 1, 2), fid(10.5), psnr(30.0)),
        (INT8_MAP, fid(19.0), psnr(40.0)),
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 4),
        ("psnr=40", 5),
        ("1, psnr=40", 3),
        ("psnr=40, fid=10%", 3),
        ("fid=1, psnr=43", 2),
        ("fid[lite0]=1, psnr=50", 1),
    ],
)
def test_all_of_several_limits_hold(text, number):
    assert choose(of_two_scores(), text).trial.number == number


def test_the_limit_on_the_headline_goes_first_whatever_the_order():
    one, other = (choose(of_two_scores(), text) for text in ("psnr=40, fid=1", "fid=1, psnr=40"))
    assert one.limits == other.limits
    assert one.limit.metric == "fid[lite0]"


@pytest.mark.parametrize(
    ("text", "message"),
    [("fid=1, 2", "two budgets on fid"), ("lpips=1", "no score named 'lpips'"), ("psnr=5%", "no amount")],
)
def test_a_budget_that_no_score_answers_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        choose(of_two_scores(), text)


def test_nothing_within_names_each_limit_that_is_missed():
    with pytest.raises(BudgetError, match=r"fid\[lite0\] 10.1, the limit is 10.05; psnr 60, the limit is 70"):
        choose(of_two_scores(), "fid=0.05, psnr=70")


def test_a_limit_is_worse_than_fp32_in_the_direction_of_the_metric():
    assert Limit("fid", 10, 2, lower_is_better=True).threshold == 12
    assert Limit("ssim", 1.0, 0.02, lower_is_better=False).threshold == 0.98
    assert Limit("psnr", math.inf, 35, lower_is_better=False).threshold == 35


def test_the_most_int8_macs_within_the_budget_win():
    study = study_of(
        (FP32_MAP, fid(10)),
        (INT8_MAP, fid(20)),
        (int8_in(0, 1, 2), fid(11.9)),
        (int8_in(3), fid(10.1)),
        (int8_in(2, 3), fid(12.5)),
    )
    chosen = choose(study, "2")
    assert chosen.trial.number == 2
    assert chosen.int8_macs_share == pytest.approx(0.6)
    assert chosen.excess == pytest.approx(-0.1)
    assert chosen.precision_map == int8_in(0, 1, 2)
    assert choose(study, "30%").trial.number == 4
    assert choose(study, "100%").trial.number == 1


def test_a_score_exactly_at_the_limit_is_within():
    study = study_of((FP32_MAP, fid(0.1)), (INT8_MAP, fid(0.1 + 0.2)))
    assert choose(study, "0.2").trial.number == 1


def test_equal_int8_shares_are_told_by_fp32_then_by_score_then_by_number():
    study = study_of(
        (FP32_MAP, fid(10)),
        (int8_in(3, rest=FP32), fid(10)),
        (int8_in(3), fid(10.5)),
        (int8_in(0, 2), fid(10.4)),
        (PrecisionMap(FP16, ((NAMES[3], INT8), (NAMES[0], FP32))), fid(9)),
    )
    assert choose(study, "2").trial.number == 3


def test_what_was_built_counts_not_what_was_asked():
    study = study_of((FP32_MAP, fid(10)), ((INT8_MAP, int8_in(0)), fid(10)), (int8_in(3), fid(10)))
    chosen = choose(study, "1")
    assert chosen.trial.number == 2
    assert int8_share(study, study.trials[1]) == pytest.approx(0.1)


def test_equal_built_maps_are_one_candidate():
    study = study_of((FP32_MAP, fid(10)), ((INT8_MAP, int8_in(3)), fid(10, 1.0)), (int8_in(3), fid(10, 1.0)))
    chosen = choose(study, "1")
    assert chosen.trial.number == 1
    assert chosen.ties == ()


def test_the_guard_refuses_damage_that_the_score_hides():
    study = study_of(
        (FP32_MAP, fid(10), damage(0)),
        (INT8_MAP, fid(9.5), damage(6)),
        (int8_in(3), fid(10.5), damage(1)),
    )
    chosen = choose(study, "2")
    assert chosen.trial.number == 2
    assert chosen.guard.metric == "fid-fp32[lite0]"
    assert chosen.damage == 1
    assert choose(study, "2", guard=Budget(7)).trial.number == 1


def test_a_guard_may_be_a_share_of_the_headline_score():
    study = study_of((FP32_MAP, fid(10), damage(0)), (INT8_MAP, fid(10), damage(4)))
    assert choose(study, "1", guard=Budget.parse("50%")).trial.number == 1
    with pytest.raises(BudgetError):
        choose(study, "1", guard=Budget.parse("10%"))


def test_a_guard_without_its_score_is_refused():
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(10)))
    with pytest.raises(SpecError, match="needs the score 'fid-fp32'"):
        choose(study, "1", guard=Budget(1))


def test_without_real_images_the_distance_to_fp32_is_the_headline():
    study = study_of(
        (FP32_MAP, psnr(math.inf)), (INT8_MAP, damage(3), psnr(30)), (int8_in(0), damage(1), psnr(40))
    )
    assert headline_metric(study) == "fid-fp32[lite0]"
    assert choose(study, "2").trial.number == 2
    assert choose(study, "3").trial.number == 1


@pytest.mark.parametrize("capped", [math.inf, 100])
def test_a_psnr_budget_is_the_least_decibels(capped):
    study = study_of((FP32_MAP, psnr(capped)), (INT8_MAP, psnr(30)), (int8_in(0), psnr(40)))
    assert choose(study, "35").trial.number == 2
    assert choose(study, "30", metric="psnr").trial.number == 1
    with pytest.raises(SpecError, match="is no amount") as caught:
        choose(study, "5%")
    assert "points" in caught.value.hint


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_scores_that_overflowed_are_never_chosen(value):
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(value)), (int8_in(0), fid(10)))
    assert choose(study, "100").trial.number == 2


def test_failed_trials_are_never_chosen():
    study = study_of((FP32_MAP, fid(10)), (int8_in(0), fid(10)))
    failed = Trial(2, INT8_MAP, None, Outcome.FAILED, error="no kernel")
    assert choose(Study("spec", LAYERS, (*study.trials, failed)), "1").trial.number == 1


def test_scores_against_something_else_are_never_compared():
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(1, against="other")), (int8_in(0), fid(10)))
    assert choose(study, "1").trial.number == 2


def test_fp32_alone_is_no_choice():
    with pytest.raises(BudgetError, match="no map besides FP32") as caught:
        choose(study_of((FP32_MAP, fid(10))), "5")
    assert caught.value.exit_code == 3


def test_a_missed_budget_names_the_nearest_map():
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(20)), (int8_in(0), fid(13)))
    with pytest.raises(BudgetError, match=r"trial 2 \(10% INT8\).*13, the limit is 12") as caught:
        choose(study, "2")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("value", "shown", "limit"),
    [(12.0004, "12.0004", "12"), (12.3, "12.3", "12"), (12 + 1e-12, "12.000000000001", "12")],
)
def test_a_budget_missed_by_a_hair_shows_by_how_much(value, shown, limit):
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(value)))
    with pytest.raises(BudgetError, match=rf" {shown}, the limit is {limit}"):
        choose(study, "2")


def test_a_missed_guard_is_named_too():
    study = study_of((FP32_MAP, fid(10), damage(0)), (INT8_MAP, fid(10), damage(3)))
    with pytest.raises(BudgetError, match=r"fid-fp32\[lite0\] 3, the limit is 2"):
        choose(study, "2")


def test_ties_are_maps_whose_difference_covers_zero():
    study = study_of(
        (FP32_MAP, fid(10)),
        (int8_in(3), fid(11, 0.3)),
        (int8_in(2), fid(10.2, 0.3)),  # 0.8 apart, 1.96 * 0.424 = 0.83
        (int8_in(1), fid(10.1, 0.3)),
        (int8_in(0), fid(10.9)),
    )
    chosen = choose(study, "1")
    assert chosen.trial.number == 1
    assert [trial.number for trial in chosen.ties] == [2]


@pytest.mark.parametrize(("error", "expected"), [(0.4, True), (0.6, False), (None, None)])
def test_whether_the_interval_lies_within_the_budget(error, expected):
    study = study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(11, error)))
    assert choose(study, "2").is_interval_within is expected


@pytest.mark.parametrize(("error", "expected"), [(0.4, True), (0.6, False)])
def test_a_distance_from_fp32_is_itself_the_difference(error, expected):
    distance = Score("fid-fp32", 1, 100, "fp32", lower_is_better=True, standard_error=error)
    assert (
        choose(study_of((FP32_MAP, psnr(math.inf)), (INT8_MAP, distance)), "2").is_interval_within is expected
    )


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(SpecError, match="'lpips'") as caught:
        choose(study_of((FP32_MAP, fid(10)), (INT8_MAP, fid(10))), "1", metric="lpips")
    assert "fid[lite0]" in caught.value.hint


def test_a_study_without_fp32_or_scores_says_so():
    with pytest.raises(SpecError, match="no scores yet"):
        choose(Study("spec", LAYERS, ()), "1")
    with pytest.raises(SpecError, match="FP32 was not scored"):
        choose(study_of((INT8_MAP, fid(10))), "1")


def test_the_front_holds_what_nothing_beats_in_share_and_score():
    study = study_of(
        (FP32_MAP, fid(10)),
        (INT8_MAP, fid(20)),
        (int8_in(3), fid(12)),
        (int8_in(2), fid(13)),
        (int8_in(0, 1, 2), fid(12)),
        (FP16_MAP, fid(10.5)),
        (int8_in(0), fid(10)),
    )
    assert [trial.number for trial in pareto_front(study, "fid[lite0]")] == [6, 4, 1]


def test_the_front_of_a_metric_that_is_better_when_higher():
    study = study_of((FP32_MAP, psnr(math.inf)), (INT8_MAP, psnr(30)), (int8_in(3), psnr(29)))
    assert [trial.number for trial in pareto_front(study, "psnr")] == [0, 1]
