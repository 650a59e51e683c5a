"""Use of the budget against numbers worked out by hand."""

import math

import pytest

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial
from qsens.search.budget_use import BudgetShare, BudgetUse
from qsens.selection.budget import Budget
from qsens.testing import example_layers

LAYERS = example_layers(2)
INT8 = PrecisionMap(Precision.INT8)


def score(metric, value, *, lower=True, **more):
    return Score(metric, value, 48, "", lower_is_better=lower, **more)


def fp32(*scores, screen=()):
    requested = PrecisionMap(Precision.FP32)
    return Trial(0, requested, requested, Outcome.SCORED, scores, screen_scores=screen)


def full(*scores, screen=()):
    return Trial(1, INT8, INT8, Outcome.SCORED, scores, screen_scores=screen)


def screened(*scores):
    return Trial(1, INT8, INT8, Outcome.SCREENED, scores)


def use_of(baseline, budget, guard=None):
    limits = [None if text is None else Budget.parse(text) for text in (budget, guard)]
    return BudgetUse.of_run(LAYERS, [baseline], *limits)


def test_a_difference_is_used_as_it_is_with_its_own_error():
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    found = use.full(
        full(score("fid", 23.5, difference=3.0, standard_error=2.0, difference_standard_error=1.0))
    )
    assert found == BudgetShare(0.75, 0.25)


def test_without_a_difference_it_is_taken_from_the_score_of_fp32():
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    assert use.full(full(score("fid", 23.0, standard_error=2.0))) == BudgetShare(0.75, 0.5)


def test_a_share_of_the_score_of_fp32():
    use = use_of(fp32(score("fid", 20.0)), "10%")
    assert use.full(full(score("fid", 23.0))) == BudgetShare(1.5, 0.0)


def test_better_than_fp32_uses_nothing():
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    assert use.full(full(score("fid", 19.0))) == BudgetShare(0.0, 0.0)


def test_where_larger_is_better_a_fall_is_the_damage():
    use = use_of(fp32(score("ssim", 0.9, lower=False)), "0.2")
    found = use.full(full(score("ssim", 0.8, lower=False, difference=-0.1)))
    assert found.share == pytest.approx(0.5)
    assert use.full(full(score("ssim", 0.95, lower=False))).share == 0.0


def test_decibels_count_as_the_squared_errors_that_they_stand_for():
    use = use_of(fp32(score("psnr", 100.0, lower=False)), "30")
    assert use.full(full(score("psnr", 40.0, lower=False))).share == pytest.approx(0.1)
    found = use.full(full(score("psnr", 27.0, lower=False, standard_error=0.5)))
    assert found.share == pytest.approx(10**0.3)
    # d(10^((30-x)/10))/dx = -ln(10)/10 of it.
    assert found.error == pytest.approx(10**0.3 * 0.230258509 * 0.5)
    assert use.full(full(score("psnr", math.inf, lower=False))).share == 0.0


@pytest.mark.parametrize(("value", "share"), [(20.0, 0.0), (19.0, 0.0), (20.1, math.inf)])
def test_a_budget_of_zero_points_allows_no_damage(value, share):
    assert use_of(fp32(score("fid", 20.0)), "0").full(full(score("fid", value))) == BudgetShare(share, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_uses_more_than_can_be_told(value):
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    assert use.full(full(score("fid", value))).share == math.inf
    assert use.full(full(score("other", 1.0))).share == math.inf


def test_of_budget_and_guard_the_larger_use_counts():
    use = use_of(fp32(score("fid", 20.0), score("fid-fp32", 0.0)), "4.0", "2.0")
    assert use.full(full(score("fid", 21.0), score("fid-fp32", 1.5))).share == 0.75
    assert use.full(full(score("fid", 23.8), score("fid-fp32", 1.5))).share == pytest.approx(0.95)
    assert use.full(full(score("fid", 21.0))).share == math.inf


def test_a_guard_without_its_score_is_refused():
    with pytest.raises(SpecError, match="fid-fp32"):
        use_of(fp32(score("fid", 20.0)), "4.0", "2.0")


def test_a_screen_is_compared_with_fp32_on_the_same_inputs():
    use = use_of(fp32(score("fid", 20.0), screen=(score("fid", 50.0),)), "4.0")
    assert use.screened(screened(score("fid", 53.0))).share == 0.75
    assert use.screened(full(score("fid", 29.0), screen=(score("fid", 53.0),))).share == 0.75
    assert use.screened(full(score("fid", 29.0))) is None
    assert use.full(screened(score("fid", 53.0))) is None


def test_a_failed_trial_has_no_use():
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    failed = Trial(1, INT8, None, Outcome.FAILED, error="no kernel")
    assert use.full(failed) is None
    assert use.screened(failed) is None


def test_shares_of_another_unit():
    use = BudgetUse(use_of(fp32(score("fid", 20.0)), "4.0").limits, (), unit=0.5)
    assert use.full(full(score("fid", 21.0, standard_error=0.4))) == BudgetShare(0.5, 0.2)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_not_known_is_left_out(error):
    use = use_of(fp32(score("fid", 20.0)), "4.0")
    assert use.full(full(score("fid", 22.0, difference_standard_error=error))) == BudgetShare(0.5, 0.0)
