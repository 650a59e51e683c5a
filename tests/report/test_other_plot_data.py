from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from report_studies import (
    METRICS,
    anchors,
    boundary_study,
    ends_study,
    isolating_study,
    map_of,
    pictures,
    student_layers,
)

from qsens.core.layer import macs_share
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.report.difference_maps import LEVELS, difference_of
from qsens.report.figures.ends import ends_grid
from qsens.report.figures.strip import (
    StripChoice,
    amplification_for,
    image_strip,
    strip_choices,
    strip_figure,
)
from qsens.report.figures.tradeoff import Family, tradeoff

LAYERS = student_layers()
FID, FID_FP32, PSNR = METRICS


def test_the_ends_grid_finds_each_map_by_its_two_counts():
    study = ends_study(LAYERS, 4)
    grid = ends_grid(study, FID, chosen=9)
    assert (grid.firsts, grid.lasts) == ((0, 1, 2, 3), (0, 1, 2, 3))
    assert len(grid.cells) == 16
    cell = next(cell for cell in grid.cells if (cell.first, cell.last) == (2, 3))
    assert study.trials[cell.trial].requested == map_of(LAYERS, range(2, 20))
    assert cell.value == study.trials[cell.trial].score(FID).value
    assert grid.chosen.trial == 9


def test_boundaries_beside_the_ends_do_not_widen_the_grid():
    ends, boundaries = ends_study(LAYERS, 3), boundary_study(LAYERS)
    tried = {trial.requested for trial in ends.trials}
    added = [trial for trial in boundaries.trials if trial.requested not in tried]
    trials = [*ends.trials, *(replace(trial, number=100 + place) for place, trial in enumerate(added))]
    grid = ends_grid(replace(ends, trials=tuple(trials)), FID)
    assert (grid.firsts, grid.lasts) == ((0, 1, 2), (0, 1, 2))
    assert {(cell.first, cell.last) for cell in grid.cells} == set(product(range(3), range(3)))


@pytest.mark.parametrize("study", [boundary_study(LAYERS), isolating_study(LAYERS)])
def test_other_strategies_have_no_ends_grid(study):
    assert ends_grid(study, FID) is None


@pytest.mark.parametrize("metric", METRICS)
def test_the_front_holds_exactly_the_points_that_nobody_beats(metric):
    study = boundary_study(LAYERS)
    data = tradeoff(study, metric)
    sign = 1 if data.lower_is_better else -1
    everyone = [
        (macs_share(LAYERS, trial.applied, Precision.INT8), sign * trial.score(metric).value)
        for trial in study.trials
    ]

    def is_beaten(point):
        own = (point.share, sign * point.value)
        return any(share >= own[0] and cost <= own[1] and (share, cost) != own for share, cost in everyone)

    assert {point.trial for point in data.front} == {
        point.trial for point in data.points if not is_beaten(point)
    }
    shares = [point.share for point in data.front]
    assert shares == sorted(shares)


def test_tradeoff_points_use_what_ran_and_know_their_family():
    study = boundary_study(LAYERS)
    data = tradeoff(study, FID, chosen=43)
    families = {point.trial: point.family for point in data.points}
    assert (families[2], families[3], families[4]) == (
        Family.UNIFORM,
        Family.INT8_FIRST,
        Family.FLOAT_FIRST,
    )
    assert data.chosen.share == pytest.approx(macs_share(LAYERS, study.trials[43].applied, Precision.INT8))
    assert {point.label for point in data.points} == {"FP32", "all FP16", "all INT8", None}


def test_strips_show_the_anchors_the_chosen_map_and_cuts_between():
    choices = {choice.trial: choice.title for choice in strip_choices(boundary_study(LAYERS), FID, 43)}
    assert len(choices) <= 8
    assert [choices[number] for number in (0, 1, 2, 43)] == ["FP32", "all FP16", "all INT8", "chosen map"]
    assert sum(title.startswith("boundary") for title in choices.values()) == 3
    only = Study("s", LAYERS, tuple(anchors(LAYERS)))
    assert [choice.title for choice in strip_choices(only, FID, 1)] == [
        "FP32",
        "all FP16 (chosen)",
        "all INT8",
    ]
    assert strip_choices(Study("s", LAYERS, ()), FID) == ()


def test_strips_of_other_strategies_take_maps_from_the_front():
    choices = strip_choices(ends_study(LAYERS), FID)
    assert len(choices) > 3


def test_errors_are_the_mean_absolute_difference_over_colours():
    dark = np.zeros((1, 3, 2, 2), np.uint8)
    other = dark.copy()
    other[0, :, 0, 1] = (30, 0, 3)
    strip = image_strip([StripChoice(0, "FP32"), StripChoice(5, "x")], {0: dark, 5: other}, 0)
    assert strip.columns[0].errors.max() == 0
    assert strip.columns[1].errors.tolist() == [[[0, 11], [0, 0]]]


def test_errors_are_flips_where_the_run_scored_it():
    pytest.importorskip("flip_evaluator")
    from qsens.scoring.flip import difference_map

    scored = Trial(
        0, PrecisionMap(Precision.FP32), None, Outcome.SCORED, scores=(Score("flip", 0.0, 1, "x", True),)
    )
    assert difference_of(Study("s", LAYERS, ())) is LEVELS
    difference = difference_of(Study("s", LAYERS, (scored,)))
    first, second = np.random.default_rng(0).integers(0, 256, (2, 1, 3, 16, 16), dtype=np.uint8)
    strip = image_strip([StripChoice(0, "FP32"), StripChoice(5, "x")], {0: first, 5: second}, 0, difference)
    assert strip.columns[0].errors.max() == 0
    np.testing.assert_array_equal(strip.columns[1].errors[0], difference_map(second[0], first[0]))
    texts = [axes.get_ylabel() for axes in strip_figure(strip, "title").axes]
    assert "FLIP x1" in texts
    assert "against FP32: FLIP error, 0 to 1" in texts


def test_strips_leave_out_what_cannot_be_compared():
    study = boundary_study(LAYERS)
    samples = pictures(study, count=1, size=8)
    samples[43] = samples[43][:, :, :4]
    choices = strip_choices(study, FID, 43)
    assert 43 not in [column.choice.trial for column in image_strip(choices, samples, 0).columns]
    assert image_strip(choices, samples, None) is None
    assert image_strip(choices, {2: samples[2]}, 0) is None


@pytest.mark.parametrize(("peak", "factor"), [(0.0, 1), (255.0, 1), (63.0, 4), (16.0, 8), (0.5, 64)])
def test_amplification_is_a_power_of_two_that_fills_the_scale(peak, factor):
    assert amplification_for([np.full((2, 4, 4), peak)]) == factor
