import math
from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.maps import anchor_maps, pin_layers
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial
from qsens.run.loop import plan_maps
from qsens.search.additive import Additive
from qsens.testing import check_strategy, example_layers

LAYERS = example_layers(6, per_block=1)
NAMES = [layer.name for layer in LAYERS]
# Units 1 and 4 hurt most of what they save; their MACs are 1000 to 6000.
DAMAGES = {"block0.conv0": 0.1, "block1.conv0": 4.0, "block2.conv0": 0.5, "block3.conv0": 0.4}
DAMAGES |= {"block4.conv0": 3.0, "block5.conv0": 1.0}


def damage_of(requested: PrecisionMap, among=LAYERS) -> float:
    return sum(DAMAGES[layer.name] for layer in among if requested[layer.name] is Precision.INT8)


def scored(number, requested, score):
    return Trial(number, requested, requested, Outcome.SCORED, (score,))


def fid_trial(number, requested, factor=1.0):
    score = Score("fid-fp32[lite0]", factor * damage_of(requested), 64, "", lower_is_better=True)
    return scored(number, requested, score)


def run(strategy, make=fid_trial, layers=LAYERS) -> list[list[str]]:
    """What the strategy proposes, round by round, each map as the numbers of its INT8 layers."""
    trials = [make(number, wanted) for number, wanted in enumerate(anchor_maps(layers).values())]
    rounds = []
    while proposed := strategy.propose(layers, trials):
        rounds.append([int8_in(requested) for requested in proposed])
        trials += [make(len(trials) + place, wanted) for place, wanted in enumerate(proposed)]
    return rounds


def int8_in(requested: PrecisionMap) -> str:
    return "".join(str(index) for index, name in enumerate(NAMES) if requested[name] is Precision.INT8)


def test_first_round_is_every_unit_alone_then_one_round_of_optima():
    rounds = run(Additive(points=3))
    assert rounds[0] == ["0", "1", "2", "3", "4", "5"]
    # At least 5.25, 10.5 and 15.75 of 21 thousand MACs: the least sums of damages, by hand.
    assert rounds[1:] == [["23", "035", "0345"]]


def test_all_but_this_proposes_each_unit_in_float_and_finds_the_same_optima():
    rounds = run(Additive(points=3, direction="all-but-this"))
    assert rounds == [["12345", "02345", "01345", "01245", "01235", "01234"], ["23", "035", "0345"]]


def test_both_directions_score_each_unit_twice():
    assert len(run(Additive(direction="both"))[0]) == 12


def test_a_budget_gives_the_cheapest_map_within_it_at_once_where_damages_add():
    assert run(Additive(budget="2.0"))[1:] == [["0235"]]


def test_a_sum_that_is_too_low_is_scaled_to_what_was_measured():
    def doubled_together(number, requested):
        return fid_trial(number, requested, 1.0 if len(int8_in(requested)) < 2 else 2.0)

    # 2.0 measures 4.0, so half the budget is aimed at: 0.1 + 0.4 + 0.5, which measures 2.0.
    assert run(Additive(budget="2.0"), doubled_together)[1:] == [["0235"], ["023"]]


def test_a_sum_that_is_too_high_is_scaled_too():
    def less_together(number, requested):
        return fid_trial(number, requested, 1.0 if len(int8_in(requested)) < 2 else 0.3)

    # 2.0 measures 0.6, so 6.7 is aimed at: everything but unit 1.
    assert run(Additive(budget="2.0"), less_together)[1:] == [["0235"], ["02345"]]


def test_negative_damage_counts_as_none():
    def lucky(number, requested):
        score = Score("fid", 9.0 - damage_of(requested), 64, "", lower_is_better=True)
        return scored(number, requested, score)

    assert run(Additive(budget="0.0"), lucky)[1:] == []  # everything is free, and INT8 is an anchor


def test_psnr_damages_are_errors_not_decibels():
    def by_psnr(number, requested):
        error = damage_of(requested)
        value = 10 * math.log10(1000 / error) if error else 100.0
        return scored(number, requested, Score("psnr", value, 64, "", lower_is_better=False))

    # 26.9 dB stands for an error of 2.04.
    assert run(Additive(budget="26.9"), by_psnr)[1:] == [["0235"]]


def test_negating_a_metric_changes_nothing():
    def negated(number, requested):
        score = Score("goodness", -damage_of(requested), 64, "", lower_is_better=False)
        return scored(number, requested, score)

    assert run(Additive(points=4), negated) == run(Additive(points=4))


def test_a_unit_that_failed_stays_in_float():
    def failing(number, requested):
        if "0" in int8_in(requested):
            return Trial(number, requested, None, Outcome.FAILED, error="no kernel")
        return fid_trial(number, requested)

    last = run(Additive(points=3), failing)[-1]
    assert last
    assert not any("0" in word for word in last)


def test_nothing_follows_where_the_float_map_failed():
    def failing(number, requested):
        if requested == anchor_maps(LAYERS)[Precision.FP16]:
            return Trial(number, requested, None, Outcome.FAILED, error="overflow")
        return fid_trial(number, requested)

    assert len(run(Additive(), failing)) == 1


def test_the_named_metric_is_used_with_or_without_its_extractor():
    def two_scores(number, requested):
        trial = fid_trial(number, requested)
        other = Score("kid", -trial.scores[0].value, 64, "", lower_is_better=True)
        return replace(trial, scores=(other, *trial.scores))

    plain = run(Additive(points=3))
    assert run(Additive(points=3, metric="fid-fp32"), two_scores) == plain
    assert run(Additive(points=3, metric="fid-fp32[lite0]"), two_scores) == plain
    assert run(Additive(points=3), two_scores) == plain
    assert run(Additive(points=3, metric="kid"), two_scores) != plain


def test_a_metric_that_was_not_scored_is_refused_with_those_that_were():
    with pytest.raises(SpecError, match="'ssim'") as caught:
        run(Additive(metric="ssim"))
    assert "fid-fp32[lite0]" in caught.value.hint


@pytest.mark.parametrize("budget", [None, "2.0"])
def test_a_plan_counts_the_units_and_says_that_more_follow(budget):
    planned = plan_maps(LAYERS, Additive(budget=budget))
    assert len(planned.maps) == 3 + 6
    assert not planned.is_complete


@pytest.mark.parametrize("options", [{"direction": "both"}, {"budget": "3.0"}, {"float_precision": "fp32"}])
@pytest.mark.parametrize("pins", [["block1.*=fp16"], ["block0.*=int8", "block3.conv0=fp32"]])
def test_the_contract_holds_with_options_and_pins(options, pins):
    layers = pin_layers(example_layers(8, per_block=2), pins)
    trials = check_strategy(Additive(by="block", points=3, **options), layers)
    assert len(trials) > 3 + 2


@pytest.mark.parametrize(("options", "shown"), [({"points": 0}, "0 maps"), ({"direction": "up"}, "'up'")])
def test_options_that_mean_nothing_are_refused(options, shown):
    with pytest.raises(SpecError, match=shown):
        Additive(**options)


def test_a_budget_that_cannot_be_read_is_refused():
    with pytest.raises(SpecError, match="'much'"):
        Additive(budget="much")
