"""Budgets in words: what an alteration of FP32's own pictures costs, and scores at a value."""

import math
from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial, Yardstick
from qsens.selection.budget import Budget, parse_guard
from qsens.selection.choose import cheapest_within, limits_of
from qsens.selection.yardsticks import (
    fineness_notes,
    hearing_sentence,
    ladder_of,
    place_of,
    place_sentence,
)
from qsens.testing import example_layers

LAYERS = example_layers(3)
FLOATS = PrecisionMap(Precision.FP16)
INT8 = PrecisionMap(Precision.INT8)
LOWER = {"fid": True, "fid-fp32": True, "psnr": False, "ssim": False}


def scores(**values):
    return tuple(
        score_of(name, value, error=0.01)
        for name, value in ((name.replace("_", "-"), value) for name, value in values.items())
    )


def score_of(name, value, error=None):
    """A score on 100 images; FP32 has fid 26."""
    difference = value - 26.0 if name == "fid" else None
    more = {"difference": difference, "difference_standard_error": error}
    return Score(name, value, 100, "same", LOWER[name], **more)


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


def test_an_alteration_that_does_a_score_good_allows_as_much_loss_as_it_moves_the_score():
    found = limits("jpeg:95", study(jpeg={"fid": 25.0}))

    assert found["fid"].threshold == 27.0
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


def graded(*, fid=(33.0, 34.5, 48.0), psnr=(47.0, 45.0, 35.0), error=0.1, noise=(66.0, 48.0)):
    """A study whose FP32 has fid 26, with the scores of JPEG 98, 95 and 75, and of noise."""

    def after(first, second):
        return tuple(score_of(name, value, error) for name, value in (("fid", first), ("psnr", second)))

    steps = zip(("jpeg:98", "jpeg:95", "jpeg:75"), fid, psnr, strict=True)
    yardsticks = [Yardstick(name, after(*values)) for name, *values in steps]
    fp32 = trial(0, PrecisionMap(Precision.FP32), fid=26.0, psnr=100.0)
    fp32 = replace(fp32, yardsticks=(*yardsticks, Yardstick("noise:1", after(*noise))))
    return Study("", LAYERS, (fp32, trial(1, INT8, fid=30.0, psnr=46.0)))


def place(value, of, metric="fid"):
    return place_of(score_of(metric, value), ladder_of(of))


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("fid", 30.0, "less than JPEG 98"),
        ("fid", 34.6, "about as much as JPEG 95"),
        ("fid", 40.0, "more than JPEG 95 and less than JPEG 75"),
        ("fid", 90.0, "more than JPEG 75"),
        ("psnr", 60.0, "less than JPEG 98"),
        ("psnr", 40.0, "more than JPEG 95 and less than JPEG 75"),
        ("psnr", 30.0, "more than JPEG 75"),
    ],
)
def test_a_score_is_told_by_the_steps_of_the_ladder_beside_it(metric, value, said):
    assert place(value, graded(), metric) == said


def test_what_the_intervals_cannot_tell_apart_costs_as_much():
    assert place(31.0, graded(error=2.0)) == "about as much as JPEG 98"


def test_scores_that_do_not_agree_are_said_to():
    told = place_sentence(graded(), "INT8", graded().trials[1])
    agreeing = place_sentence(graded(), "INT8", trial(1, INT8, fid=30.0, psnr=55.0))

    assert told == (
        "INT8 costs less than JPEG 98 (fid); more than JPEG 98 and less than JPEG 95 (psnr): "
        "these scores do not agree."
    )
    assert agreeing == "INT8 costs less than JPEG 98 (fid, psnr)."
    assert place_sentence(replace(graded(), trials=graded().trials[1:]), "INT8", graded().trials[1]) is None


def test_a_score_that_hears_noise_of_one_level_is_said_to_with_what_to_use_instead():
    limits = limits_of(graded(), Budget.parse("jpeg:95"), None, None)

    assert hearing_sentence(graded(), limits) == (
        "Noise of 1 level, which nobody sees, uses up the budget (fid 66, allowed 34.5): for these pictures "
        "that is too sharp an ear. Of the scores of this run psnr would do: --budget psnr=jpeg:95."
    )
    assert hearing_sentence(graded(noise=(30.0, 48.0)), limits) is None


def test_a_budget_finer_than_its_interval_says_how_many_images_would_do():
    of = graded(error=20.0)
    (note,) = fineness_notes(of, limits_of(of, Budget.parse("jpeg:95"), None, None))

    told = "JPEG 95 costs 8.5 ± 39 of fid: these 100 images cannot tell it from FP32, about 2,127"
    assert note.startswith(told)


def test_an_alteration_that_does_good_is_said_to():
    of = graded(fid=(25.0, 25.5, 48.0))
    (note,) = fineness_notes(of, limits_of(of, Budget.parse("jpeg:95"), None, None))

    assert "JPEG 95 does fid good here (25.5, FP32 26)" in note
    assert note.endswith("as it moves the score, 0.5.")
