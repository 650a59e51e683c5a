"""The part of the report on a loop: errors from call to call and ranges that move, on page and figure."""

import numpy as np
import pytest

from qsens.calibration.plays import ONCE
from qsens.calibration.recorded_calls import CallFacts, Extremes, RecordedCall
from qsens.report.figures.all_figures import loop_figures
from qsens.report.page_content import LoopContent
from qsens.report.page_loop import growth, loop_section
from qsens.run.step_errors import MapErrors, StepErrors, _Sums, _trace

STEPS = (Extremes({"x": (-3.0, 2.0)}), Extremes({"x": (-1.0, 1.5)}))
CALLS = CallFacts("digest", "noise", 2, 4, tuple(RecordedCall(0, step, "0") for step in range(2)), STEPS)
ERRORS = StepErrors(
    "key", 2, False, (MapErrors("all INT8", 2, (0.0, 0.01, 0.04)), MapErrors("mixed", 5, (0.0, 0.02, 0.01)))
)


def test_the_page_says_how_errors_grow_and_how_ranges_move():
    page = loop_section(LoopContent(CALLS, ERRORS))
    assert "Each picture takes 2 calls" in page
    assert "all INT8: 1.00% off FP32 at call 2, 4.00% at call 3, the most." in page
    assert "mixed: 2.00% off FP32 at call 2, 1.00% at call 3, most at 2 (2.00%)." in page
    assert "-3 to 2" in page
    assert "-1 to 1.5" in page
    assert loop_section(LoopContent()) == ""


def test_maps_that_never_differ_are_said_to():
    same = StepErrors("key", 1, True, (MapErrors("all FP16", 1, (0.0, 0.0)),))
    assert growth(same) == ["all FP16: no difference from FP32."]


def test_the_figure_has_a_line_for_each_map_and_each_input():
    (named,) = loop_figures(LoopContent(CALLS, ERRORS), chosen=5)
    errors, ranges = named.figure.axes
    assert [list(line.get_ydata()) for line in errors.lines] == [[0.01, 0.04], [0.02, 0.01]]
    assert [list(line.get_ydata()) for line in ranges.lines] == [[3.0, 1.5]]
    assert not list(loop_figures(LoopContent(CALLS, None), None))


def test_errors_are_those_of_what_each_call_is_fed_and_of_the_picture():
    def call(feed):
        return {"picture": 2 * feed["x"]}

    wanted = _trace(ONCE, call, [{"x": np.full((1, 4), 10.0)}], ["picture"])
    found = _trace(ONCE, call, [{"x": np.full((1, 4), 11.0)}], ["picture"])
    sums = _Sums()
    sums.add(found, wanted)
    assert sums.errors() == pytest.approx((0.1, 0.1))
