"""Figures of several runs: what is drawn, and that nothing is cut off."""

from dataclasses import replace

import pytest
from compared_runs import CONTENTS, write_compared_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report_folders import write_run
from report_studies import ends_study, student_layers

from qsens.core.spec import SweepSpec
from qsens.core.trial import Outcome
from qsens.report.compare.compare import CompareOptions, compare_runs
from qsens.report.compare.figures import compare_boundary_figure, compare_tradeoff_figure
from qsens.report.figures.style import LIMIT_LOOK
from qsens.testing import example_layers


@pytest.fixture
def comparison(tmp_path):
    paths = [
        write_compared_run(tmp_path / "old"),
        write_compared_run(tmp_path / "new", damage=1.5),
    ]
    return compare_runs(paths, CompareOptions(budget="3"))


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts_of(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_the_boundary_figure_draws_the_scores_of_every_run(comparison):
    figure = compare_boundary_figure(comparison.runs, comparison.headline)
    assert legend_of(figure) == ["old", "new", "INT8 before the boundary, float after it"]
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 5]
    assert [list(line.get_ydata()) for line in curves] == [[10, 11, 12, 13, 14], [10, 11.5, 13, 14.5, 16]]
    assert len({line.get_marker() for line in curves}) == 2
    assert list(curves[0].get_xdata()) == [0, 1, 2, 3, 4]


def test_runs_with_other_layers_share_a_relative_axis(tmp_path):
    paths = [
        write_compared_run(tmp_path / "student"),
        write_compared_run(
            tmp_path / "teacher", layers=example_layers(8), contents={**CONTENTS, "graph": "9"}
        ),
    ]
    comparison = compare_runs(paths, CompareOptions())
    figure = compare_boundary_figure(comparison.runs, comparison.headline)
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 4]
    assert [list(line.get_xdata())[1] for line in curves] == [1 / 4, 1 / 8]
    assert {line.get_xdata()[-1] for line in curves} == {1.0}
    assert "student 4, teacher 8 layers" in texts_of(figure)
    assert "PSNR: each run against its own FP32" in texts_of(figure)


def test_runs_without_a_boundary_have_a_trade_off_only(tmp_path):
    study = ends_study(student_layers())
    paths = [
        write_run(tmp_path / name, study, spec=SweepSpec(strategy="ends", seed=seed))
        for seed, name in enumerate(("a", "b"))
    ]
    comparison = compare_runs(paths, CompareOptions())
    assert compare_boundary_figure(comparison.runs, comparison.headline) is None
    assert compare_tradeoff_figure(comparison.runs, comparison.headline) is not None


def test_a_run_without_a_boundary_is_named_below_the_figure(tmp_path, comparison):
    short = write_compared_run(tmp_path / "anchors", count=3)
    wider = compare_runs([comparison.runs[0].path, short], CompareOptions())
    figure = compare_boundary_figure(wider.runs, wider.headline)
    assert "No boundary was scored in anchors." in texts_of(figure)


def test_the_trade_off_marks_each_runs_front_and_chosen_map(comparison):
    figure = compare_tradeoff_figure(comparison.runs, comparison.headline)
    assert legend_of(figure) == ["old", "new", "Pareto front", "chosen map"]
    stars = [line for line in figure.axes[0].get_lines() if line.get_marker() == "*"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in stars] == [
        (pytest.approx(0.6), 13),
        (pytest.approx(0.3), 13),
    ]


def test_nothing_is_cut_off_with_long_labels_and_many_runs(tmp_path):
    names = [f"a-rather-long-name-of-a-checkpoint-{place}" for place in range(8)]
    paths = [write_compared_run(tmp_path / name, damage=1 + place / 10) for place, name in enumerate(names)]
    comparison = compare_runs(paths, CompareOptions(budget="3"))
    assert [run.label for run in comparison.runs] == names
    for make in (compare_boundary_figure, compare_tradeoff_figure):
        figure = make(comparison.runs, comparison.headline)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        box = figure.legends[0].get_window_extent(renderer)
        width, height = figure.bbox.width, figure.bbox.height
        assert box.x0 >= -1
        assert box.x1 <= width + 1
        tops = [axes.get_tightbbox(renderer).y1 for axes in figure.axes]
        assert box.y0 >= max(tops) - 1
        assert all(0 <= text.get_window_extent(renderer).y1 <= height for text in figure.texts)


def test_the_limits_of_the_runs_are_drawn_once_where_they_are_equal(comparison):
    for make in (compare_boundary_figure, compare_tradeoff_figure):
        first = make(comparison.runs, comparison.headline).axes[0]
        assert [line.get_ydata()[0] for line in first.lines if line.get_color() == LIMIT_LOOK[0]] == [13]
        assert [text.get_text() for text in first.texts] == ["limit"]


def test_a_run_that_screened_its_cuts_has_its_curve_with_the_images_named(tmp_path, comparison):
    def on_few(trial):
        few = replace(trial, scores=tuple(replace(score, images=8) for score in trial.scores))
        if trial.number < 3:
            return replace(trial, screen_scores=few.scores)
        return replace(few, outcome=Outcome.SCREENED)

    searched = write_compared_run(tmp_path / "searched", change=on_few)
    both = compare_runs([comparison.runs[0].path, searched], CompareOptions())
    figure = compare_boundary_figure(both.runs, both.headline)
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 5]
    assert [list(line.get_ydata()) for line in curves] == [[10, 11, 12, 13, 14], [10, 11, 12, 13, 14]]
    assert "Screened on few images (searched 8)" in texts_of(figure)
