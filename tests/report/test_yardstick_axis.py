"""Yardsticks on the page and beside value axes: which are shown, and that none covers another."""

import re
from dataclasses import replace

import pytest
from report_studies import boundary_study, ends_study, isolating_study, student_layers

from qsens.core.alterations import Alteration
from qsens.core.maps import IsolationKind
from qsens.core.trial import Yardstick
from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import boundary_curve
from qsens.report.figures.ends import ends_figure, ends_grid
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.sensitivity_bars import sensitivity_figure
from qsens.report.figures.style import new_figure
from qsens.report.figures.tradeoff import tradeoff
from qsens.report.figures.yardstick_axis import (
    YardstickTick,
    draw_side_labels,
    tick_labels,
    yardstick_ticks,
)
from qsens.report.interactive_data import run_data
from qsens.report.page_content import PageContent
from qsens.report.page_ladder import ladder_list
from qsens.report.page_tables import score_table
from qsens.selection.budget import Limit
from qsens.selection.yardsticks import place_sentence


@pytest.fixture(scope="module")
def study():
    study = boundary_study(student_layers()[:6])
    fp32, *others = study.trials
    int8 = next(trial for trial in others if trial is study.anchors["int8"])
    yardsticks = (Yardstick("jpeg:95", others[-1].scores), Yardstick("noise:1", int8.scores))
    return replace(study, trials=(replace(fp32, yardsticks=yardsticks), *others))


def test_figures_have_the_yardsticks_of_their_metric(study):
    metric = study.metrics[0]
    expected = yardstick_ticks(study, metric)

    assert [tick.title for tick in expected] == ["JPEG 95", "noise of 1 level"]
    assert boundary_curve(study, metric).yardsticks == expected
    assert tradeoff(study, metric).yardsticks == expected


def test_the_boundary_figure_names_them_with_their_values(study):
    curve = boundary_curve(study, study.metrics[0])
    figure = boundary_figure([curve], study.layers, "title")
    texts = [text.get_text() for text in figure.axes[0].texts]

    assert any(text.startswith("noise of 1 level  ") for text in texts)


def with_yardsticks(study):
    fp32, *others = study.trials
    yardsticks = (Yardstick("jpeg:95", others[1].scores), Yardstick("noise:1", others[-2].scores))
    return replace(study, trials=(replace(fp32, yardsticks=yardsticks), *others))


def test_the_heat_map_of_ends_has_them_beside_its_scale():
    study = with_yardsticks(ends_study(student_layers()))
    grid = ends_grid(study, study.metrics[0])
    assert grid.yardsticks == yardstick_ticks(study, study.metrics[0])
    texts = [text.get_text() for axes in ends_figure([grid], "title").axes for text in axes.texts]
    assert any(text.startswith("JPEG 95  ") for text in texts)


def test_sensitivity_bars_have_what_they_cost_where_bars_start_from_fp32():
    study = with_yardsticks(isolating_study(student_layers()))
    metric = study.metrics[0]
    found = sensitivity_of(study, metric)
    own = study.anchors["fp32"].score(metric).value
    assert [tick.value for tick in found.yardsticks] == [
        tick.value - own for tick in yardstick_ticks(study, metric)
    ]
    panels = sensitivity_figure(found, "title").axes
    named = [[text.get_text() for text in panel.texts] for panel in panels]
    assert any("JPEG 95" in texts for texts in named)
    assert not named[found.labels.index(str(IsolationKind.ALL_BUT_INT8))]


def test_labels_keep_apart_and_those_beyond_the_axis_are_left_out():
    axes = new_figure(4, 3).subplots()
    axes.set_ylim(0, 100)
    ticks = [YardstickTick("JPEG 98", 34.1), YardstickTick("JPEG 95", 34.2), YardstickTick("noise", 300.0)]
    labels = tick_labels(axes, ticks)
    draw_side_labels(axes, labels, 3.0)
    first, second = (text.get_position()[1] for text in axes.texts)

    assert [label.text for label in labels] == ["JPEG 98  34.1", "JPEG 95  34.2"]
    assert abs(first - second) * 3.0 > 0.15


def test_the_page_tells_what_maps_cost_in_familiar_alterations(study):
    row = score_table(study, None)
    told = place_sentence(study, "INT8 everywhere", study.anchors["int8"])

    assert "<td>FP32 after noise of 1 level</td>" in row
    assert told.startswith("INT8 everywhere costs more than JPEG 95")


def test_the_page_puts_maps_limit_and_alterations_in_the_order_of_the_score(study):
    metric = study.metrics[0]
    fp32, jpeg = study.anchors["fp32"].score(metric), study.yardsticks[0].score(metric)
    limit = Limit(
        metric, fp32.value, jpeg.difference, lower_is_better=True, alteration=Alteration.parse("jpeg:95")
    )
    content = PageContent("run", study, study.trials[-1], "", (), (), {}, "today")
    steps = re.findall(
        r'<li class="(\w+)">([^<]+) <small>', ladder_list(replace(content, limits={metric: limit}))
    )

    assert steps[0] == ("fp32", "FP32")
    assert steps.index(("limit", "limit: JPEG 95")) < steps.index(("int8", "INT8 everywhere"))
    assert ("alteration", "JPEG 95") not in steps
    assert ladder_list(replace(content, study=replace(study, trials=()), chosen=None)) == ""


def test_charts_that_move_have_them_too(study):
    content = PageContent("run", study, None, "", (), (), {}, "today")
    metric = next(entry for entry in run_data(content)["metrics"] if entry["name"] == study.metrics[0])

    assert [title for title, *_ in metric["yardsticks"]] == ["JPEG 95", "noise of 1 level"]
