"""Made-up ranges, and samples whose values leave what calibration saw, are named with their layers."""

from dataclasses import replace

import numpy as np
import pytest
from lowered_models import prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.calibration.range_check import (
    check_key,
    check_ranges,
    fixed_tensors,
    read_range_check,
    save_range_check,
)
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.interfaces import SampleSet

RANGE = TensorRange("image", 0.0, 0.5, 0.4)


class Pictures(SampleSet):
    name, digest, clusters = "pictures", "pictures", None

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def sample(self, index):
        return {"image": self.values[index]}

    def describe(self):
        return {}


def checked(values, entry=RANGE):
    """The check of the input alone, on pictures with these values."""
    setup = prepared(residual_generator())
    observer = replace(setup.plan.observer("residual", 1), tensors=("image",))
    pictures = Pictures(np.broadcast_to(np.asarray(values, np.float32).reshape(-1, 1, 1, 8), (2, 3, 8, 8)))
    ranges = Ranges("minmax", 1, "ranges", (entry,))
    return check_ranges(observer, ranges, pictures, (0, 1), {"image": ["first"]})


INSIDE = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.4]


@pytest.mark.parametrize(
    ("values", "outside", "clipped"),
    [
        (INSIDE, 0.0, 0.0),
        ([*INSIDE[:7], 0.45], 0.0, 0.125),
        ([*INSIDE[:6], 0.6, 0.7], 0.25, 0.25),
        ([-0.2, -0.1, *INSIDE[2:]], 0.25, 0.0),
        ([-9.0] * 8, 1.0, 1.0),
    ],
)
def test_values_outside_and_values_that_int8_cuts_are_shares(values, outside, clipped):
    check = checked(values)
    (entry,) = check.tensors
    assert (entry.outside_share, entry.clipped_share) == (outside, clipped)
    assert (entry.layers, check.samples) == (("first",), 2)
    texts = [text for _, text in check.warnings()]
    assert len(texts) == bool(outside)
    for text in texts:
        assert f"'image' (of first: {outside:.1%} outside, {clipped:.1%} cut by INT8" in text
        assert "On 2 evaluation samples" in text
        assert "--calibration" in text


def test_a_tensor_that_calibration_never_moved_is_named_once():
    still = replace(RANGE, minimum=0.0, maximum=0.0, amax=127 / 128)
    ((title, text),) = checked([0.9] * 8, still).warnings()
    assert title == "Made-up ranges"
    assert "never moved 1 of 1 tensors" in text
    assert "'image' (of first: stayed at 0)" in text
    assert "move 1 of them" in text
    ((_, text),) = checked([0.0] * 8, still).warnings()
    assert "move 0 of them" in text


def test_what_depends_on_constant_inputs_alone_was_never_meant_to_move():
    nodes = [
        helper.make_node("Relu", ["state"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w"], ["c"], name="of_state"),
        helper.make_node("Add", ["c", "image"], ["y"], name="add"),
    ]
    model = onnx_model(
        nodes,
        inputs={"state": [1, 3, 4, 4], "image": [1, 3, 4, 4]},
        outputs={"y": None},
        weights={"w": normal(3, 3, 1, 1)},
    )
    graph = prepared(model).graph
    assert {"state", "r", "c"} <= fixed_tensors(graph, {"state": (0.5, 0.5), "image": (0.0, 1.0)})
    assert not {"image", "y"} & fixed_tensors(graph, {"state": (0.5, 0.5), "image": (0.0, 1.0)})
    assert not {"r", "c"} & fixed_tensors(graph, {})


def test_a_check_is_read_back_and_a_damaged_one_is_made_again(tmp_path):
    check = checked([-9.0] * 8)
    path = tmp_path / "range-check.json"
    assert read_range_check(path) is None
    save_range_check(path, check)
    assert read_range_check(path) == check
    assert check.key == check_key(Ranges("minmax", 1, "ranges", ()), Pictures(()))
    path.write_text(path.read_text()[:-20])
    assert read_range_check(path) is None
