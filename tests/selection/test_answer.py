"""The answer of a run in a sentence, the same on its page and in the terminal."""

from dataclasses import replace

from report_studies import map_of, student_layers

from qsens.core.other_work import OtherWork
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study
from qsens.selection.answer import kept_text

LAYERS = student_layers()
STUDY = Study("s", LAYERS, ())
NAMES = [entry.name for entry in LAYERS]


def keeping(*names):
    """The map with all but these layers in INT8."""
    return map_of(LAYERS, [place for place, name in enumerate(NAMES) if name not in names])


def test_few_layers_are_named_and_many_by_their_blocks():
    few = keeping("FE0", "FE6.1", "OUT.0")
    kept = "Keep 3 of 23 layers in FP16: FE0, FE6.1, OUT.0."
    assert kept_text(STUDY, few, 0.817) == f"{kept} The other 20 run in INT8: 81.7 % of the MACs."
    many = keeping("FE0", "FE6.1", "OUT.0", "OUT.1", *NAMES[2:6])
    assert "Keep 8 of 23 layers in FP16: AE2, " in kept_text(STUDY, many, 0.5)
    assert ", FE0, 1 of 2 in FE6, OUT. The other 15" in kept_text(STUDY, many, 0.5)


def test_each_float_precision_has_its_layers():
    mixed = keeping("FE0", "OUT.1").with_layers(["FE0"], Precision.FP32)
    assert kept_text(STUDY, mixed, 0.9).startswith("Keep 1 of 23 layers in FP32: FE0; 1 in FP16: OUT.1. The")


def test_all_and_none_are_said_so():
    other = replace(STUDY, other_work=(OtherWork("attention", "Softmax", 10, "no weights"),))
    assert kept_text(STUDY, keeping(), 1.0) == "All 23 layers run in INT8: 100 % of the MACs."
    assert kept_text(other, keeping(), 1.0).endswith("100 % of the layers' MACs.")
    assert kept_text(STUDY, PrecisionMap(Precision.FP32), 0.0).endswith(" None runs in INT8.")
