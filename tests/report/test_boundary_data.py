import math
from dataclasses import replace

import pytest
from report_studies import (
    METRICS,
    anchors,
    boundary_study,
    damage_of,
    isolating_study,
    map_of,
    student_layers,
    trial,
)

from qsens.core.maps import Direction, anchor_trial
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Study
from qsens.report.figures.boundary_curve import axis_scale, boundary_curve, boundary_lines, screened_lines

LAYERS = student_layers()
TOTAL = len(LAYERS)
STUDY = boundary_study(LAYERS)
FID, FID_FP32, PSNR = METRICS


def lines_of(study, metric=FID):
    return {line.direction: line for line in boundary_lines(study, metric)}


def with_trial(study, number, **changes):
    trials = [replace(entry, **changes) if entry.number == number else entry for entry in study.trials]
    return replace(study, trials=tuple(trials))


def test_both_lines_run_from_0_to_n_and_meet_at_the_uniform_maps():
    lines = lines_of(STUDY)
    uniform = {precision: anchor_trial(STUDY, precision).score(FID).value for precision in Precision}
    for line in lines.values():
        assert [point.boundary for point in line.points] == list(range(TOTAL + 1))
        assert line.float_precision is Precision.FP16
    first, last = lines[Direction.INT8_FIRST].points, lines[Direction.FLOAT_FIRST].points
    assert (first[0].value, first[-1].value) == (uniform[Precision.FP16], uniform[Precision.INT8])
    assert (last[0].value, last[-1].value) == (uniform[Precision.INT8], uniform[Precision.FP16])


def test_a_point_is_the_damage_of_exactly_the_layers_before_the_cut():
    point = lines_of(STUDY, FID_FP32)[Direction.INT8_FIRST].points[21]
    assert point.value == pytest.approx(0.002 + 0.95 * damage_of(LAYERS, map_of(LAYERS, range(21))))
    error = STUDY.trials[point.trial].score(FID_FP32).standard_error
    assert point.half_width == pytest.approx(1.96 * error, rel=1e-4)


def test_points_follow_the_applied_map_and_are_marked():
    number = 3 + 2 * 9  # int8-first at boundary 10
    moved = with_trial(STUDY, number, applied=map_of(LAYERS, range(7)))
    line = lines_of(with_trial(moved, 3 + 2 * 6, applied=None))[Direction.INT8_FIRST]
    found = {point.boundary: point for point in line.points}
    assert found[7].trial == number
    assert found[7].differs
    assert 10 not in found
    assert not found[8].differs


def test_a_map_whose_engine_is_no_cut_stays_at_the_requested_boundary_and_is_marked():
    number = 3 + 2 * 9
    ragged = STUDY.trials[number].requested.with_layers([LAYERS[4].name], Precision.FP32)
    line = lines_of(with_trial(STUDY, number, applied=ragged))[Direction.INT8_FIRST]
    assert next(point for point in line.points if point.trial == number).boundary == 10
    assert [point.boundary for point in line.points if point.differs] == [10]


def test_scores_against_something_else_are_left_out():
    number = 3 + 2 * 9
    scores = tuple(replace(score, against="other") for score in STUDY.trials[number].scores)
    line = lines_of(with_trial(STUDY, number, scores=scores))[Direction.INT8_FIRST]
    assert number not in [point.trial for point in line.points]
    assert len(line.points) == TOTAL


def test_cuts_that_another_strategy_tries_by_the_way_make_no_line():
    assert boundary_lines(isolating_study(LAYERS), FID) == ()


def test_the_other_float_precision_is_a_line_of_its_own():
    wide = [trial(100 + cut, LAYERS, map_of(LAYERS, range(cut), Precision.FP32)) for cut in range(1, TOTAL)]
    study = replace(STUDY, trials=(*STUDY.trials, *wide))
    keys = {(line.direction, line.float_precision): line for line in boundary_lines(study, FID)}
    assert len(keys) == 3
    line = keys[(Direction.INT8_FIRST, Precision.FP32)]
    assert (line.points[0].trial, line.points[-1].trial) == (0, 2)


def test_reference_lines_name_the_uniform_maps_even_when_infinite():
    curve = boundary_curve(STUDY, PSNR)
    labels = {line.label: line.value for line in curve.references}
    assert labels["FP32"] == math.inf
    assert set(labels) == {"FP32", "all FP16", "all INT8"}
    assert curve.scale == "linear"


def test_a_capped_psnr_of_identical_images_is_infinite():
    scores = tuple(
        replace(score, value=100.0) if score.metric == PSNR else score for score in STUDY.trials[0].scores
    )
    study = with_trial(with_trial(STUDY, 0, scores=scores), 1, scores=scores)
    curve = boundary_curve(study, PSNR)
    assert {line.label for line in curve.references if line.value == math.inf} == {"FP32", "all FP16"}
    assert max(point.value for line in curve.lines for point in line.points) < 100


def test_intervals_count_as_paired_although_fp32_has_no_difference():
    scores = tuple(
        replace(score, difference=None, difference_standard_error=None) for score in STUDY.trials[0].scores
    )
    assert boundary_curve(with_trial(STUDY, 0, scores=scores), FID).is_paired
    assert not boundary_curve(with_trial(STUDY, 5, scores=scores), FID).is_paired


def test_distances_from_the_fp32_outputs_count_as_paired_differences():
    assert STUDY.trials[5].score(FID_FP32).difference is None
    assert boundary_curve(STUDY, FID_FP32).is_paired
    assert boundary_curve(STUDY, PSNR).is_paired
    scores = tuple(replace(score, standard_error=0.5) for score in STUDY.trials[0].scores)
    assert not boundary_curve(with_trial(STUDY, 0, scores=scores), PSNR).is_paired


def test_the_chosen_map_is_a_point_on_its_line_or_else_a_line_of_its_own():
    number = 3 + 2 * 20
    curve = boundary_curve(STUDY, FID, number)
    assert (curve.chosen.trial, curve.chosen.boundary) == (number, 21)
    extra = trial(len(STUDY.trials), LAYERS, map_of(LAYERS, [4, 9]))
    curve = boundary_curve(replace(STUDY, trials=(*STUDY.trials, extra)), FID, extra.number)
    assert curve.chosen is None
    assert curve.references[-1].trial == extra.number


def test_a_study_with_anchors_only_has_references_and_no_lines():
    curve = boundary_curve(Study("s", LAYERS, tuple(anchors(LAYERS))), FID)
    assert curve.lines == ()
    assert len(curve.references) == 3
    assert boundary_curve(Study("s", LAYERS, ()), FID) is None


@pytest.mark.parametrize(
    ("values", "is_ratio", "scale"),
    [
        ([5.3, 157.0], True, "log"),
        ([5.3, 100.0], True, "linear"),
        ([0.0, 0.002, 157.0], True, "symlog"),
        ([-3.0, 0.1, 157.0], True, "symlog"),
        ([1.0, 99.0], False, "linear"),
        ([5.3, math.inf], True, "linear"),
        ([], True, "linear"),
    ],
)
def test_the_axis_is_logarithmic_only_beyond_a_factor_of_20(values, is_ratio, scale):
    assert axis_scale(values, is_ratio=is_ratio) == scale


def screened(study):
    """The same study where only the anchors are scored on all images, everything on 32."""

    def on_few(entry):
        return tuple(replace(score, value=score.value + 5.0, images=32) for score in entry.scores)

    trials = [
        replace(entry, screen_scores=on_few(entry))
        if entry.number < 3
        else replace(entry, outcome=Outcome.SCREENED, scores=on_few(entry))
        for entry in study.trials
    ]
    return replace(study, trials=tuple(trials))


def test_screens_draw_the_curve_where_no_boundary_was_scored_in_full():
    study = screened(STUDY)
    assert boundary_lines(study, FID) == ()
    assert screened_lines(screened(replace(STUDY, trials=STUDY.trials[:4])), FID) == ()
    whole = {line.direction: line for line in boundary_curve(study, FID).lines}
    for direction, line in lines_of(STUDY).items():
        assert whole[direction].screen_images == 32
        # Their difference from FP32 on the same images is added to FP32's score on all.
        assert [point.value for point in whole[direction].points] == pytest.approx(
            [point.value for point in line.points]
        )
    assert all(line.screen_images is None for line in boundary_curve(STUDY, FID).lines)


def test_the_chosen_cut_of_a_search_is_no_line_but_a_mark_on_that_of_the_screens():
    """A search scores its last map on all images; where that is a cut, the others were screened."""
    few = screened(STUDY)
    chosen = next(entry for entry in STUDY.trials[3:] if entry.scores)
    trials = [chosen if entry.number == chosen.number else entry for entry in few.trials]
    curve = boundary_curve(replace(few, trials=tuple(trials)), FID, chosen=chosen.number)
    assert curve.lines
    assert all(line.screen_images == 32 for line in curve.lines)
    assert curve.chosen.value == pytest.approx(chosen.score(FID).value)


def test_a_few_cuts_scored_by_the_way_are_no_line_of_a_score_without_screens():
    few = replace(STUDY, trials=STUDY.trials[:4])
    assert boundary_lines(few, FID) == ()
    assert boundary_lines(replace(STUDY, trials=STUDY.trials[:7]), FID)
