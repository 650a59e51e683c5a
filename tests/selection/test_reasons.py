"""Why layers have their precision: each kind of evidence, which goes first, and that texts hold."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_tables import measured, write_table
from reason_studies import LAYERS, LIMIT, NAMES, anchors, failed, score, screened, study_of, tried

from qsens.core.precision import Precision
from qsens.core.trial import Outcome, RepairSummary, Study
from qsens.selection.budget import Budget, Limit
from qsens.selection.choose import cheapest_within, violation
from qsens.selection.reasons import ReasonKind, reasons_of, reasons_of_selection
from qsens.selection.timings import read_latency_table, timings_of
from qsens.testing import example_layers

CHOSEN = tried(9, {0, 1}, 1.7)


def reason_of(place, *trials, chosen=CHOSEN, limits=(LIMIT,), first=None, layers=LAYERS, timings=None):
    study = study_of(*trials, chosen, first=first, layers=layers)
    return reasons_of(study, chosen, limits, timings)[layers[place].name]


def test_the_chosen_map_with_the_layer_too_is_beyond_the_limit():
    reason = reason_of(2, tried(3, {0, 1, 2}, 2.31))
    assert str(reason) == "with it in INT8 too (trial 3): fid-fp32 2.31, limit 2"
    assert (reason.kind, reason.trials) == (ReasonKind.COSTLY, (3,))


@pytest.mark.parametrize("is_taken", [True, False])
def test_what_stays_costly_after_repair_says_so(is_taken):
    repaired = RepairSummary("Repair: ranges", is_taken=is_taken)
    study = replace(study_of(tried(3, {0, 1, 2}, 2.31), CHOSEN), repair=repaired)
    reasons = reasons_of(study, CHOSEN, [LIMIT])
    start = "costly even after repair: " if is_taken else ""
    assert str(reasons[NAMES[2]]) == f"{start}with it in INT8 too (trial 3): fid-fp32 2.31, limit 2"
    assert "even after repair" not in str(reasons[NAMES[0]])


def test_a_few_more_layers_are_named_and_the_fewest_count():
    trials = [tried(3, {0, 1, 2, 3, 4}, 9.0), tried(4, {0, 1, 2, 3}, 3.0)]
    expected = "with block1.conv0 and block1.conv1 in INT8 too (trial 4): fid-fp32 3, limit 2"
    assert str(reason_of(2, *trials)) == str(reason_of(3, *trials)) == expected


def test_an_interval_is_shown_and_one_over_the_limit_cannot_be_told_from_it():
    clear = reason_of(2, tried(3, {0, 1, 2}, score(2.31, error=0.1)))
    unclear = reason_of(2, tried(3, {0, 1, 2}, score(2.31, error=0.2)))
    assert str(clear).endswith("fid-fp32 2.31 ± 0.2, limit 2")
    ending = "fid-fp32 2.31 ± 0.39, limit 2, cannot be told from the limit at this sample size"
    assert str(unclear).endswith(ending)


def test_the_limit_that_is_missed_most_is_named():
    fid = Limit("fid", 20.0, 1.0, lower_is_better=True)
    scores = [score(20.5, metric="fid"), score(5.0)]
    first = [
        replace(trial, scores=(score(20.0, metric="fid"), score(0.0))) if trial.number == 0 else trial
        for trial in anchors()
    ]
    reason = reason_of(2, tried(3, {0, 1, 2}, *scores), limits=(fid, LIMIT), first=first)
    assert str(reason).endswith("fid-fp32 5, limit 2")
    reason = reason_of(
        2, tried(3, {0, 1, 2}, score(29.0, metric="fid"), 5.0), limits=(fid, LIMIT), first=first
    )
    assert str(reason).endswith("fid 29, limit 21")


def test_a_screen_tells_where_nothing_else_does_and_says_so():
    chosen = replace(CHOSEN, screen_scores=(score(1.2, images=32),))
    reason = reason_of(2, screened(3, {0, 1, 2}, 4.1), chosen=chosen)
    assert str(reason) == ("with it in INT8 too fid-fp32 about 5.808 (trial 3, from 32 images), limit 2")


def test_a_screen_that_shows_less_than_all_images_is_scaled_by_the_chosen_map():
    chosen = replace(CHOSEN, screen_scores=(score(0.85, images=32),))
    reason = reason_of(2, screened(3, {0, 1, 2}, 1.5), chosen=chosen)
    assert str(reason).endswith("fid-fp32 about 3 (trial 3, from 32 images), limit 2")
    reason = reason_of(2, screened(3, {0, 1, 2}, 0.95), chosen=chosen)
    assert str(reason) == (
        "with it in INT8 too fid-fp32 about 1.9 (trial 3, from 32 images), limit 2: "
        "so few images do not tell, and no full score was made"
    )


def test_the_limit_that_a_scaled_screen_misses_most_is_named():
    fid = Limit("fid", 20.0, 1.0, lower_is_better=True)
    first = anchors()
    first[0] = replace(first[0], scores=(score(20.0, metric="fid"), score(0.0)))
    few = (score(41.0, metric="fid", images=32, difference=1.0), score(0.2, images=32))
    chosen = replace(CHOSEN, scores=(score(20.3, metric="fid"), score(1.0)), screen_scores=few)
    scores = (score(41.5, metric="fid", images=32, difference=1.5), score(0.6, images=32))
    trial = replace(screened(3, {0, 1, 2}, 0.0), scores=scores)
    text = str(reason_of(2, trial, chosen=chosen, limits=(fid, LIMIT), first=first))
    assert text.endswith("fid-fp32 about 3 (trial 3, from 32 images), limit 2")


def test_a_chosen_map_that_costs_next_to_nothing_scales_no_screen():
    chosen = replace(CHOSEN, scores=(score(0.1),), screen_scores=(score(0.001, images=32),))
    assert "do not tell" in str(reason_of(2, screened(3, {0, 1, 2}, 1.5), chosen=chosen))
    reason = reason_of(2, screened(3, {0, 1, 2}, 2.5), chosen=chosen)
    assert str(reason).endswith("fid-fp32 2.5 on 32 images, limit 2; the chosen map has 0.001 there")


def test_a_screen_that_is_no_worse_than_the_chosen_maps_own_is_not_beyond():
    chosen = replace(CHOSEN, screen_scores=(score(4.2, images=32),))
    reason = reason_of(2, screened(3, {0, 1, 2}, 4.1), chosen=chosen)
    assert str(reason).startswith(
        "with it in INT8 too fid-fp32 about 1.66 (trial 3, from 32 images), limit 2"
    )
    assert reason.kind is ReasonKind.NOT_TRIED


def test_a_screen_over_the_limit_that_nothing_scales_does_not_seem_within():
    chosen = replace(CHOSEN, scores=(score(0.1),), screen_scores=(score(4.2, images=32),))
    assert reason_of(2, screened(3, {0, 1, 2}, 4.1), chosen=chosen).kind is ReasonKind.TOGETHER


def test_a_score_on_all_images_takes_the_place_of_the_maps_screen():
    screen, full = screened(3, {0, 1, 2}, 9.9), tried(4, {0, 1, 2}, 2.5)
    assert reason_of(2, screen, full).trials == (4,)
    assert reason_of(2, screen, replace(full, scores=(score(1.0),))).kind is ReasonKind.FREE


def test_the_limit_on_a_screen_starts_from_fp32_on_the_same_images():
    fid = Limit("fid", 20.0, 1.0, lower_is_better=True)
    first = anchors()
    first[0] = replace(first[0], scores=(score(20.0, metric="fid"),))
    trial = screened(3, {0, 1, 2}, 0.0)
    few = replace(trial, scores=(score(53.0, metric="fid", images=32, difference=3.0),))
    assert str(reason_of(2, few, limits=(fid,), first=first)).endswith("fid 53 on 32 images, limit 51")
    few = replace(trial, scores=(score(53.0, metric="fid", images=32, difference=0.5),))
    assert reason_of(2, few, limits=(fid,), first=first).kind is ReasonKind.NOT_TRIED


def test_a_screen_of_the_chosen_map_with_the_layer_that_seems_within_goes_before_what_is_weaker():
    weaker = [
        tried(5, {0, 1, 3, 4, 5}, 9.1),
        tried(6, {0, 1, 2, 4, 5}, 9.0),
        tried(7, {0, 1, 2, 4}, 5.0),
        tried(8, {1, 2}, 2.6),
    ]
    reason = reason_of(2, screened(3, {0, 1, 2}, 0.4), *weaker)
    assert str(reason) == (
        "with it in INT8 too 0.4 of the 2 allowed (trial 3, on 32 images): "
        "so few images do not tell, and no full score was made"
    )
    assert (reason.kind, reason.trials) == (ReasonKind.NOT_TRIED, (3,))
    beyond = reason_of(2, screened(3, {0, 1, 2}, 0.4), tried(4, {0, 1, 2}, 2.5), *weaker)
    assert (beyond.kind, beyond.trials) == (ReasonKind.COSTLY, (4,))


def test_a_screen_with_more_of_its_block_that_seems_within_names_them():
    text = str(reason_of(2, screened(3, {0, 1, 2, 3}, 0.4)))
    assert text.startswith("with block1.conv0 and block1.conv1 in INT8 too 0.4 of the 2 allowed (trial 3,")
    assert text.endswith("so few images do not tell, and no full score was made")


def test_next_to_a_map_without_int8_alone_is_the_chosen_map_with_the_layer():
    chosen = replace(tried(9, (), 0.03), screen_scores=(score(0.039, images=16),))
    alone = [screened(3, {2}, 0.0386), tried(4, {4}, 0.5), screened(5, {0}, 5.16)]
    curve = [tried(6, {0, 1, 2, 3}, 7.0)]
    reason = reason_of(2, *alone, *curve, chosen=chosen)
    assert str(reason) == (
        "alone in INT8 0.0386 of the 2 allowed (trial 3, on 32 images): "
        "so few images do not tell, and no full score was made"
    )
    assert (reason.kind, reason.trials) == (ReasonKind.NOT_TRIED, (3,))
    full = reason_of(4, *alone, *curve, chosen=chosen)
    assert str(full).startswith("with it in INT8 (trial 4) the limits are kept: fid-fp32 0.5, limit 2")
    assert reason_of(0, *alone, *curve, chosen=chosen).kind is ReasonKind.COSTLY
    untried = reason_of(1, *alone, *curve, chosen=chosen)
    assert str(untried).startswith("tried in INT8 only on top of block0.conv0, which is too much already")


def test_decibels_of_a_screen_that_seems_within_are_shown_as_they_are():
    psnr = Limit("psnr", math.inf, 35.0, lower_is_better=False)
    first = [replace(anchors()[0], scores=(score(100.0, metric="psnr", lower_is_better=False),))]
    chosen = replace(CHOSEN, scores=(score(36.0, metric="psnr", lower_is_better=False),))
    few = score(41.0, metric="psnr", images=32, lower_is_better=False)
    trial = replace(screened(3, {0, 1, 2}, 0.0), scores=(few,))
    assert str(reason_of(2, trial, chosen=chosen, limits=(psnr,), first=first)) == (
        "with it in INT8 too psnr 41 on 32 images, limit 35 (trial 3): "
        "so few images do not tell, and no full score was made"
    )


def test_scores_against_something_else_are_no_evidence():
    other = replace(score(9.9), against="another extractor")
    assert 3 not in reason_of(2, tried(3, {0, 1, 2}, other)).trials


def test_alone_it_is_beyond():
    reason = reason_of(2, tried(7, {2}, 5.2))
    assert str(reason) == "alone in INT8 (trial 7): fid-fp32 5.2, limit 2"
    assert reason.kind is ReasonKind.COSTLY


def test_its_block_alone_is_beyond_unless_another_layer_of_it_is_already():
    block = tried(7, {2, 3}, 5.2)
    assert str(reason_of(2, block)).startswith("block1.conv0 and block1.conv1 alone in INT8 (trial 7)")
    assert str(reason_of(2, block, tried(8, {3}, 5.0))).startswith(
        "tried in INT8 only on top of block1.conv1,"
    )
    assert reason_of(3, block, tried(8, {3}, 5.0)).trials == (8,)


def test_part_of_the_chosen_map_with_it_is_beyond():
    reason = reason_of(2, tried(5, {1, 2}, 2.6))
    assert str(reason) == (
        "in INT8 with block0.conv1 of the chosen map's INT8 layers (trial 5): fid-fp32 2.6, limit 2"
    )


def test_a_cost_that_the_chosen_map_leaves_no_room_for():
    first = anchors(int8=math.inf)
    reason = reason_of(2, tried(6, {2}, 0.8), first=first)
    assert str(reason) == (
        "alone in INT8 (trial 6) it costs 0.8 of 2 allowed (fid-fp32); the chosen map (trial 9) costs 1.7"
    )
    assert reason.trials == (6, 9)
    assert "would" not in str(reason)


def test_the_cost_on_a_screen_is_shown_beside_the_chosen_maps_there():
    chosen = replace(CHOSEN, screen_scores=(score(1.9, images=32),))
    reason = reason_of(2, screened(6, {2}, 0.8), chosen=chosen, first=anchors(int8=math.inf))
    assert str(reason).endswith(
        "costs 0.8 of 2 allowed (fid-fp32, 32 images); the chosen map (trial 9) costs 1.9 there"
    )


def test_decibels_are_shown_as_they_are():
    psnr = Limit("psnr", math.inf, 35.0, lower_is_better=False)
    values = {0: 100.0, 1: 80.0}
    first = [
        replace(trial, scores=(score(values[trial.number], metric="psnr", lower_is_better=False),))
        for trial in anchors()[:2]
    ]
    alone = tried(6, {2}, score(41.0, metric="psnr", lower_is_better=False))
    chosen = replace(CHOSEN, scores=(score(36.0, metric="psnr", lower_is_better=False),))
    reason = reason_of(2, alone, chosen=chosen, limits=(psnr,), first=first)
    told = "alone in INT8 (trial 6): psnr 41, limit 35; the chosen map (trial 9) has 36"
    assert str(reason) == f"{told}; next to it no trial tells"
    worse = tried(7, {0, 1, 2}, score(34.0, metric="psnr", lower_is_better=False))
    reason = reason_of(2, alone, worse, chosen=chosen, limits=(psnr,), first=first)
    assert str(reason) == "with it in INT8 too (trial 7): psnr 34, limit 35"


def test_behind_a_layer_that_is_too_much_already():
    curve = [tried(2 + cut, set(range(cut)), 1.9 + cut) for cut in (3, 4, 5)]
    reason = reason_of(4, *curve)
    assert reason.kind is ReasonKind.NOT_TRIED
    only = "tried in INT8 only on top of block1.conv0, which is too much already"
    assert str(reason) == f"{only} (trial 5): fid-fp32 4.9, limit 2"
    detailed = reason_of(4, *curve, tried(8, {4}, 0.01))
    assert str(detailed).startswith("alone in INT8 (trial 8) it costs 0.01 of 2 allowed")
    assert str(detailed).endswith("next to it no trial tells")
    assert (detailed.kind, detailed.trials) == (ReasonKind.NOT_TRIED, (8, 9))


def test_only_with_everything_else_or_many_others():
    assert str(reason_of(2)) == "with everything else in INT8 (trial 2): fid-fp32 14.8, limit 2"
    layers = example_layers(12)
    chosen = tried(9, {0, 1}, 1.7, layers=layers)
    many = tried(3, range(8), 4.0, layers=layers)
    spared = tried(4, set(range(12)) - {2}, 5.0, layers=layers)
    reason = reason_of(2, many, spared, chosen=chosen, first=anchors(layers), layers=layers)
    assert str(reason).startswith("with 6 layers (block1.conv0 to block3.conv1) in INT8 too (trial 3)")
    assert reason.kind is ReasonKind.TOGETHER


def test_a_reason_rests_on_the_nearest_map_that_blames_the_layer():
    trials = [
        tried(3, {0, 1, 2, 3, 4}, 9.0),
        tried(4, {0, 2, 3}, 4.0),
        tried(5, {1, 2}, 3.0),
        tried(6, {0, 1, 2, 3}, 2.5),
    ]
    assert reason_of(2, *trials).trials == (5,)
    assert reason_of(2, *trials[:2], trials[3]).trials == (6,), "it has all of the chosen map"
    assert reason_of(2, *trials[:2]).trials == (4,)
    # trial 5 explains what is beyond in the others, whatever layer 3 does
    assert reason_of(3, *trials).trials == (4,)
    assert reason_of(4, *trials).kind is ReasonKind.NOT_TRIED


def test_a_map_that_fails_without_the_layer_does_not_blame_it_however_it_was_put_together():
    apart = [tried(3, {2, 4}, 3.0), tried(4, {2, 3, 4, 5}, 5.0)]
    assert reason_of(2, *apart).trials == (3,)
    assert 4 not in reason_of(3, *apart).trials


def test_fp32_everywhere_is_never_all_but_some_layers():
    layers = example_layers(2)
    both = tried(9, (), 0.0, layers=layers)
    for place in (0, 1):
        reason = reason_of(place, chosen=both, first=anchors(layers), layers=layers)
        assert str(reason) == "block0.conv0 and block0.conv1 alone in INT8 (trial 2): fid-fp32 14.8, limit 2"


def test_a_map_without_int8_that_is_beyond_blames_nothing_and_excuses_nothing():
    floats = tried(7, (), 5.0, other=Precision.FP32)
    assert reason_of(2, floats, tried(3, {0, 1, 2}, 2.5)).trials == (3,)


def test_no_trial_tells():
    first = anchors(int8=math.inf)[:2]
    assert str(reason_of(2, first=first)) == "no trial tells: not tried in INT8"
    elsewhere = tried(3, {2, 4}, 0.5)
    assert str(reason_of(2, elsewhere, first=first)) == (
        "no trial tells: not tried in INT8 next to the INT8 layers of the chosen map"
    )


def test_the_nearest_evidence_goes_first():
    trials = [
        tried(3, {0, 1, 2}, 2.5),
        tried(6, {1, 2}, 2.6),
        tried(4, {2}, 2.4),
        tried(7, {0, 1, 2, 4}, 2.7),
    ]
    found = [reason_of(2, *trials[skip:]) for skip in range(5)]
    assert [reason.trials[0] for reason in found] == [3, 6, 4, 7, 2]
    assert [reason.kind for reason in found] == 3 * [ReasonKind.COSTLY] + 2 * [ReasonKind.TOGETHER]


def test_a_pinned_layer_is_pinned_whatever_trials_say():
    only = replace(LAYERS[2], allowed=frozenset({Precision.FP16}))
    layers = (*LAYERS[:2], only, *LAYERS[3:])
    chosen = tried(9, {0, 1}, 1.7, layers=layers)
    reason = reason_of(2, chosen=chosen, first=anchors(layers), layers=layers)
    assert (str(reason), reason.trials) == ("pinned to FP16", ())
    wide = replace(only, allowed=frozenset({Precision.FP16, Precision.FP32}))
    layers = (*LAYERS[:2], wide, *LAYERS[3:])
    reason = reason_of(2, chosen=tried(9, {0, 1}, 1.7, layers=layers), first=anchors(layers), layers=layers)
    assert str(reason) == "INT8 is not allowed here, only FP32 or FP16"


def test_a_layer_in_fp32_because_fp16_overflowed():
    chosen = replace(CHOSEN, requested=CHOSEN.requested.with_layers([NAMES[2]], Precision.FP32))
    chosen = replace(chosen, applied=chosen.requested)
    overflows = replace(anchors()[1], fp16_overflows=((NAMES[2], 12),))
    first = [anchors()[0], overflows, anchors()[2]]
    reason = reason_of(2, tried(3, {2}, 7.0), chosen=chosen, first=first)
    assert str(reason) == (
        "FP16 cannot hold 12 values there (trial 1), so it is FP32; "
        "in INT8: alone in INT8 (trial 3): fid-fp32 7, limit 2"
    )
    assert (reason.kind, reason.trials) == (ReasonKind.COSTLY, (1, 3))


def test_fp16_that_does_harm_by_itself_is_no_evidence_against_int8():
    chosen = replace(CHOSEN, requested=CHOSEN.requested.with_layers([NAMES[5]], Precision.FP32))
    chosen = replace(chosen, applied=chosen.requested)
    added = tried(3, {0, 1, 2}, 7.0)
    assert reason_of(2, added, chosen=chosen).trials == (3,)
    assert 3 not in reason_of(2, added, chosen=chosen, first=anchors(fp16=6.0)).trials


def test_what_the_engine_runs_otherwise_is_said():
    chosen = replace(CHOSEN, applied=CHOSEN.requested.with_layers([NAMES[1]], Precision.FP16))
    reason = reason_of(1, chosen=chosen)
    assert str(reason) == "the engine runs it in FP16 although INT8 was asked (trial 9)"
    assert reason.kind is ReasonKind.CANNOT


def test_a_trial_that_failed_is_a_reason_with_its_error():
    reason = reason_of(2, failed(3, {0, 1, 2}, "no kernel for it\nlong trace"))
    assert str(reason) == "with it in INT8 too (trial 3): failed: no kernel for it"
    assert reason.kind is ReasonKind.CANNOT
    assert str(reason_of(2, failed(3, {0, 1, 2}, " \n"))).endswith("failed: no message")


def test_a_score_that_is_not_a_number_is_beyond():
    reason = reason_of(2, tried(3, {0, 1, 2}, math.nan))
    assert str(reason) == "with it in INT8 too (trial 3): fid-fp32 is not a number"


def test_layers_in_int8_say_what_they_cost_alone_or_that_the_map_holds():
    reason = reason_of(0, tried(5, {0}, 0.02))
    assert str(reason) == "alone 0.02 of the 2 allowed (trial 5)"
    assert reason.trials == (5,)
    reason = reason_of(0, tried(5, {0, 1, 2}, 1.0), screened(6, {0}, 0.03))
    assert str(reason) == "alone 0.03 of the 2 allowed (trial 6, on 32 images)"
    reason = reason_of(2, tried(5, {2, 3}, 0.5), chosen=tried(9, {0, 2, 3}, 1.7))
    assert str(reason) == "block1.conv0 and block1.conv1 alone 0.5 of the 2 allowed (trial 5)"
    reason = reason_of(1)
    assert str(reason) == "part of the chosen map (trial 9): fid-fp32 1.7, limit 2"
    assert reason.kind is ReasonKind.FREE


def test_what_a_layer_in_int8_costs_of_the_guard_names_it():
    fid = Limit("fid", 20.0, 1.0, lower_is_better=True)
    first = [
        replace(trial, scores=(score(20.0, metric="fid"), score(0.0))) if trial.number == 0 else trial
        for trial in anchors()
    ]
    alone = tried(5, {0}, score(20.1, metric="fid"), 0.6)
    assert str(reason_of(0, alone, limits=(fid, LIMIT), first=first)) == (
        "alone 0.6 of the 2 allowed (trial 5, fid-fp32)"
    )
    alone = tried(5, {0}, score(20.4, metric="fid"), 0.6)
    assert str(reason_of(0, alone, limits=(fid, LIMIT), first=first)) == (
        "alone 0.4 of the 1 allowed (trial 5)"
    )


def test_decibels_of_a_layer_in_int8_are_shown_as_they_are():
    psnr = Limit("psnr", math.inf, 35.0, lower_is_better=False)
    first = [replace(anchors()[0], scores=(score(100.0, metric="psnr", lower_is_better=False),))]
    alone = tried(6, {0}, score(41.0, metric="psnr", lower_is_better=False))
    chosen = replace(CHOSEN, scores=(score(36.0, metric="psnr", lower_is_better=False),))
    reason = reason_of(0, alone, chosen=chosen, limits=(psnr,), first=first)
    assert str(reason) == "alone psnr 41, limit 35 (trial 6)"


def test_a_map_that_is_no_faster_is_not_chosen_by_time(tmp_path):
    more = tried(3, {0, 1, 2}, 1.8)
    entries = [
        measured("MORE", more.requested, LAYERS, 3.2, half_width=0.01),
        measured("CHOSEN", CHOSEN.requested, LAYERS, 3.0, half_width=0.01),
    ]
    table = read_latency_table(write_table(tmp_path / "board.json", entries, LAYERS))
    timings = timings_of(study_of(more, CHOSEN), table)
    assert str(reason_of(2, more, timings=timings)) == (
        "with it in INT8 too (trial 3) the limits are kept, but no faster: 3.2 ms instead of 3 ms: "
        "fid-fp32 1.8, limit 2; the chosen map has 1.7"
    )
    unmeasured = tried(4, {0, 1, 3}, 1.8)
    assert "was not measured on Test Board" in str(reason_of(3, more, unmeasured, timings=timings))


def test_a_selection_brings_its_limits():
    first = [replace(trial, scores=(*trial.scores, score(9.0, metric="psnr"))) for trial in anchors()]
    study = study_of(tried(3, {0, 1, 2}, 2.31), CHOSEN, first=first)
    selection = cheapest_within(study, budget=Budget(2.0), metric="fid-fp32")
    assert selection.trial is CHOSEN
    assert reasons_of_selection(study, selection)[NAMES[2]].trials == (3,)


VALUES = st.one_of(st.just(math.nan), st.floats(0, 6).map(lambda value: round(value, 3)))


@st.composite
def random_studies(draw):
    masks = draw(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=25))
    makers = {"scored": tried, "screened": screened, "failed": lambda number, int8, _: failed(number, int8)}
    trials = []
    for number, mask in enumerate(masks, 3):
        kind = draw(st.sampled_from(["scored", "scored", "screened", "failed"]))
        trials.append(makers[kind](number, mask, draw(VALUES)))
    chosen = tried(len(masks) + 3, draw(st.sets(st.integers(0, 5))), draw(st.floats(0, 2)))
    return Study("s", LAYERS, (*anchors(), *trials, chosen)), chosen


def int8_of(trial):
    return {place for place, name in enumerate(NAMES) if trial.requested[name] is Precision.INT8}


def is_beyond(trial):
    scores = replace(trial, outcome=Outcome.SCORED)
    return trial.outcome is Outcome.FAILED or violation(scores, [LIMIT]) > 0


@settings(max_examples=60, deadline=None)
@given(random_studies())
def test_every_layer_has_one_reason_and_its_trials_hold_what_it_says(drawn):
    study, chosen = drawn
    reasons = reasons_of(study, chosen, [LIMIT])
    by_number = {trial.number: trial for trial in study.trials}
    assert list(reasons) == NAMES
    for place, reason in enumerate(reasons.values()):
        named = {int(number) for number in re.findall(r"trial (\d+)", str(reason))}
        assert named == set(reason.trials) <= set(by_number)
        trials = [by_number[number] for number in reason.trials]
        check_claim(reason, place, trials, int8_of(chosen))
        exact = [trial for trial in study.trials if int8_of(trial) == int8_of(chosen) | {place}]
        scored = [trial for trial in exact if trial.outcome is Outcome.SCORED]
        if (
            place not in int8_of(chosen)
            and scored
            and is_beyond(scored[0])
            and blames(scored[0], place, study)
        ):
            assert reason.kind in (ReasonKind.COSTLY, ReasonKind.CANNOT)
            assert trials[0] in scored


def blames(trial, place, study):
    """Whether no part of the map without the layer is beyond the limit too."""
    parts = [other for other in study.trials if int8_of(other) < int8_of(trial) and is_beyond(other)]
    return all(place in int8_of(other) for other in parts if int8_of(other))


def check_claim(reason, place, trials, chosen):
    extra = int8_of(trials[0]) - chosen if trials else set()
    value = trials[0].score("fid-fp32").value if trials and trials[0].scores else math.nan
    shown = re.search(r"fid-fp32 ([\d.]+)", reason.text)
    if reason.text.startswith(("with", "in INT8")) and not math.isnan(value) and shown:
        assert float(shown[1]) == pytest.approx(value, rel=1e-3)
    claims = {
        ReasonKind.COSTLY: lambda: is_beyond(trials[0]) and extra == {place},
        ReasonKind.TOGETHER: lambda: place in extra and (is_beyond(trials[0]) or "it costs" in reason.text),
        ReasonKind.FREE: lambda: place in chosen or (not is_beyond(trials[0]) and place in extra),
        ReasonKind.CANNOT: lambda: trials[0].outcome is Outcome.FAILED and place in extra,
        ReasonKind.NOT_TRIED: lambda: place not in chosen,
    }
    assert claims[reason.kind]()


def test_hundreds_of_trials_of_many_layers():
    layers = example_layers(150)
    curve = [tried(3 + cut, range(cut), 0.1 * cut, layers=layers) for cut in range(1, 150)]
    singles = [tried(200 + place, {place}, 0.1, layers=layers) for place in range(1, 150)]
    study = study_of(*curve, *singles, layers=layers, first=anchors(layers))
    kinds = [reason.kind for reason in reasons_of(study, curve[19], [LIMIT]).values()]
    assert kinds[:148] == [ReasonKind.FREE] * 20 + [ReasonKind.COSTLY] + [ReasonKind.TOGETHER] * 127
