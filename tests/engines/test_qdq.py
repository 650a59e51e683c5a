"""Clips at code 127 come off; the generator's own clips, and what they compute, stay."""

import numpy as np
import onnx
import pytest
from lowered_models import FP32, INT8, images, prepared, residual_generator
from onnx import helper, numpy_helper
from tiny_models import run_model

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.lowering.qdq import without_tail_clips


@pytest.fixture(scope="module")
def graph():
    return prepared(residual_generator(), amax=1.0)


def lowered(graph, maximum):
    """INT8 everywhere, of tensors that calibration saw up to `maximum`, with ranges of one."""
    entries = tuple(
        TensorRange(entry.tensor, min(entry.minimum, 0.0), maximum, entry.amax)
        for entry in graph.ranges.tensors
    )
    ranges = Ranges("mse", 1, "test", entries)
    wanted = graph.lower(INT8).requested
    return lower_graph(graph.plan, wanted, ranges, LoweringOptions(), "u8")


def kinds(lowered_graph):
    return [node.op_type for node in lowered_graph.model.graph.node]


def test_only_the_clips_before_quantizers_come_off(graph):
    before = lowered(graph, 3.0)
    after = without_tail_clips(before)
    assert "Clip" in kinds(before)
    assert kinds(after) == [kind for kind in kinds(before) if kind != "Clip"]
    onnx.checker.check_model(after.model, full_check=True)
    used = {name for node in after.model.graph.node for name in node.input}
    assert all(tensor.name in used for tensor in after.model.graph.initializer)
    assert after.requested == before.requested


def test_weights_that_are_an_output_too_stay():
    model = residual_generator()
    weight = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    (held,) = [tensor for tensor in model.graph.initializer if tensor.name == weight]
    model.graph.output.append(helper.make_tensor_value_info(weight, held.data_type, held.dims))
    before = lowered(prepared(model, amax=1.0), 3.0)
    after = without_tail_clips(before)
    assert "Clip" in kinds(before)
    np.testing.assert_array_equal(run_model(after.model, images())[1], numpy_helper.to_array(held))


def test_pictures_of_values_inside_the_ranges_do_not_change():
    before = lowered(prepared(residual_generator(), amax=32.0), 50.0)
    assert "Clip" in kinds(before)
    expected = run_model(before.model, images())[0]
    np.testing.assert_array_equal(run_model(without_tail_clips(before).model, images())[0], expected)


def test_values_beyond_the_ranges_are_kept(graph):
    before = lowered(graph, 3.0)
    large = {"image": images()["image"] * 4}
    clipped = run_model(before.model, large)[0]
    unclipped = run_model(without_tail_clips(before).model, large)[0]
    fp32 = run_model(graph.graph.model, large)[0]
    assert np.square(unclipped - fp32).mean() < np.square(clipped - fp32).mean()


def test_a_graph_without_such_clips_is_left_as_it_is(graph):
    before = graph.lower(FP32)
    assert without_tail_clips(before) is before


@pytest.mark.parametrize("bound", [0.5, 6.0])
def test_a_clip_of_the_generator_stays(graph, bound):
    before = lowered(graph, 3.0)
    skeleton = before.detached.skeleton
    clip = next(node for node in skeleton.graph.node if node.op_type == "Clip")
    tensor = next(entry for entry in skeleton.graph.initializer if entry.name == clip.input[2])
    earlier = onnx.TensorProto()
    earlier.CopyFrom(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(bound), tensor.name))
    try:
        assert clip.name in [node.name for node in without_tail_clips(before).model.graph.node]
    finally:
        tensor.CopyFrom(earlier)
