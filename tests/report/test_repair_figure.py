"""The figure of a repair: a mark before and one after for each layer, at its place."""

from report_studies import student_layers

from qsens.core.trial import Study
from qsens.repair.effect import LayerEffect, RepairEffect
from qsens.report.figures.all_figures import repair_figures
from qsens.report.figures.style import BLUE, SLATE


def test_each_layer_has_its_error_before_and_after():
    layers = student_layers()
    effects = (LayerEffect("FE1", 0.02, 0.005), LayerEffect("OUT.1", 0.01, 0.03), LayerEffect("gone", 1, 1))
    study = Study("spec", layers, ())
    (found,) = repair_figures(study, RepairEffect("key", 8, effects, ()))
    marks = [line for line in found.figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [
        (7.5, 0.02),
        (7.5, 0.005),
        (22.5, 0.01),
        (22.5, 0.03),
    ]
    assert [line.get_color() for line in marks[1::2]] == [BLUE, SLATE]
    assert not list(repair_figures(study, None))
