"""Budgets in words: what an alteration of FP32's own pictures costs, and scores at a value."""

import math
from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial, Yardstick
from qsens.selection.budget import Budget, parse_guard
from qsens.selection.choose import cheapest_within, limits_of
from qsens.testing import example_layers

LAYERS = example_layers(3)
FLOATS = PrecisionMap(Precision.FP16)
INT8 = PrecisionMap(Precision.INT8)
LOWER = {"fid": True, "fid-fp32": True, "psnr": False, "ssim": False}


def scores(**values):
    return tuple(
        Score(name, value, 100, "same", LOWER[name], difference_standard_error=0.01)
        for name, value in ((name.replace("_", "-"), value) for name, value in values.items())
    )


def trial(number, requested, **values):
    return Trial(number, requested, requested, Outcome.SCORED, scores(**values))


def study(*, jpeg=None, **int8):
    fp32 = trial(0, PrecisionMap(Precision.FP32), fid=26.0, fid_fp32=0.0, psnr=100.0, ssim=1.0)
    after = {"fid": 34.0, "fid_fp32": 6.5, "psnr": 45.0, "ssim": 0.99} | (jpeg or {})
    noise = {"fid": 66.0, "fid_fp32": 41.0, "psnr": 48.0, "ssim": 0.995}
    fp32 = replace(
        fp32, yardsticks=(Yardstick("jpeg:95", scores(**after)), Yardstick("noise:1", scores(**noise)))
    )
    floats = trial(1, FLOATS, fid=26.1, fid_fp32=0.02, psnr=61.0, ssim=0.999)
    worst = {"fid": 83.0, "fid_fp32": 50.0, "psnr": 38.0, "ssim": 0.95} | int8
    return Study("", LAYERS, (fp32, floats, trial(2, INT8, **worst)))


def limits(text, of, guard=None):
    return {limit.metric: limit for limit in limits_of(of, Budget.parse(text), parse_guard(guard), None)}


@pytest.mark.parametrize(
    "text", ["jpeg:95", "noise:1", "fid=blur:0.5", "fid=jpeg:95, psnr=45", "psnr:45", "fid-fp32=5%"]
)
def test_a_budget_in_words_reads_back(text):
    assert str(Budget.parse(text)) == text


def test_an_alteration_limits_the_headline_and_the_distance_to_fp32_by_what_it_costs_there():
    found = limits("jpeg:95", study())

    assert (found["fid"].threshold, found["fid"].points, found["fid"].is_guard) == (34.0, 8.0, False)
    assert (found["fid-fp32"].threshold, found["fid-fp32"].is_guard) == (6.5, True)


def test_each_score_can_have_a_word_or_a_number_of_its_own():
    found = limits("fid=noise:1, psnr=jpeg:95, ssim=jpeg:95", study(), guard="jpeg:95")

    assert found["fid"].threshold == 66.0
    assert found["psnr"].threshold == 45.0
    assert found["ssim"].threshold == pytest.approx(0.99)
    assert found["fid-fp32"].threshold == 6.5


def test_a_score_at_a_value_is_that_value():
    found = limits("psnr:45, ssim:0.99, fid:30", study())

    assert [found[name].threshold for name in ("psnr", "fid")] == [45.0, 30.0]
    assert found["ssim"].threshold == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("int8", "chosen"), [({"fid": 33.9, "fid_fp32": 6.4}, 2), ({"fid": 33.9}, 1), ({"fid_fp32": 6.4}, 1)]
)
def test_a_map_must_cost_less_than_the_alteration_on_both(int8, chosen):
    assert cheapest_within(study(**int8), budget=Budget.parse("jpeg:95")).trial.number == chosen


def test_an_alteration_that_does_a_score_good_allows_no_loss_on_it():
    found = limits("jpeg:95", study(jpeg={"fid": 25.0}))

    assert found["fid"].threshold == 26.0
    assert found["fid-fp32"].threshold == 6.5


def test_an_alteration_that_was_not_scored_is_refused_with_those_that_were_and_the_way_to_it():
    with pytest.raises(SpecError) as refused:
        limits("jpeg:80", study())

    assert "jpeg:80 was not scored" in refused.value.message
    assert "scored: jpeg:95, noise:1" in refused.value.hint
    assert "--yardsticks jpeg:80" in refused.value.hint


def test_a_score_that_the_alteration_has_none_of_is_refused():
    with pytest.raises(SpecError, match="fid cannot score jpeg:95"):
        limits("jpeg:95", study(jpeg={"fid": math.nan}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jpg:95", "no alteration and no score"),
        ("fid=jpg:95", "no alteration"),
        ("jpeg:101", "quality"),
        ("psnr:x", "no value of psnr"),
    ],
)
def test_other_words_are_refused_with_what_there_is(text, said):
    with pytest.raises(SpecError) as refused:
        Budget.parse(text)

    assert said in refused.value.message
    assert "jpeg:X" in refused.value.hint or "psnr:9.9" in refused.value.hint
