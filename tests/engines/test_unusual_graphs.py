"""Graphs that ONNX Runtime runs and exporters rarely write: old files, tensors of unknown shape."""

import numpy as np
import onnx
import pytest
from flavours import QDQ_FLAVOURS, lowered, run_plainly
from lowered_models import FP32, INT8, prepared
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

from qsens.engines.lowering.plan import Placement

IMAGE = {"image": np.random.default_rng(3).random((1, 3, 8, 8), dtype=np.float32)}


def conv(source, weight, output, name):
    return helper.make_node("Conv", [source, weight], [output], name, pads=[1, 1, 1, 1])


def signal_to_noise(expected, actual):
    return 10 * np.log10(np.mean(np.square(expected)) / np.mean(np.square(expected - actual)))


def old_file(opset=13, ir_version=3):
    """A file from when all initializers were listed among the inputs."""
    weights = {"w1": normal(4, 3, 3, 3), "w2": normal(3, 4, 3, 3, seed=1)}
    nodes = [conv("image", "w1", "c1", "first"), conv("c1", "w2", "picture", "last")]
    sides = {"image": ["n", 3, 8, 8]}
    inputs = sides | {name: value.shape for name, value in weights.items()}
    model = onnx_model(
        nodes, inputs=inputs, outputs={"picture": ["n", 3, 8, 8]}, weights=weights, opset=opset
    )
    model.ir_version = ir_version
    return model


@pytest.mark.parametrize(("opset", "stated", "wanted"), [(13, 3, 7), (13, 9, 9), (17, 3, 8), (21, 4, 10)])
def test_the_file_format_is_one_that_the_graph_obeys(opset, stated, wanted):
    model = old_file(opset, stated)
    onnx.checker.check_model(model, full_check=True)
    setup = prepared(model)
    assert setup.graph.model.ir_version == wanted
    onnx.checker.check_model(setup.graph.model, full_check=True)


@pytest.mark.parametrize("flavour", ["exact", *QDQ_FLAVOURS])
def test_an_old_file_is_lowered_to_valid_onnx(flavour):
    setup = prepared(old_file())
    onnx.checker.check_model(lowered(setup, INT8, flavour).model, full_check=True)


def of_unknown_shape():
    """A product of a scalar input with what an operator of ONNX Runtime's own makes."""
    nodes = [
        conv("image", "w1", "c1", "first"),
        helper.make_node("Gelu", ["c1"], ["unknown"], "gelu", domain="com.microsoft"),
        helper.make_node("Mul", ["unknown", "strength"], ["scaled"], "mul"),
        conv("scaled", "w2", "c2", "last"),
        helper.make_node("Add", ["c2", "bent"], ["sum"], "skip"),
        helper.make_node("Gelu", ["image"], ["bent"], "gelu2", domain="com.microsoft"),
        helper.make_node("Sigmoid", ["sum"], ["picture"], "sigmoid"),
    ]
    model = onnx_model(
        nodes,
        inputs={"image": [1, 3, 8, 8], "strength": []},
        outputs={"picture": [1, 3, 8, 8]},
        weights={"w1": normal(4, 3, 3, 3), "w2": normal(3, 4, 3, 3, seed=1)},
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("flavour", ["exact", *QDQ_FLAVOURS])
def test_a_tensor_of_unknown_shape_is_no_scalar(flavour, placement):
    setup = prepared(of_unknown_shape())
    assert "unknown" not in setup.plan.topology.shapes
    assert setup.plan.topology.shapes["strength"] == ()
    assert setup.plan.operations["last"].skip is None
    feeds = IMAGE | {"strength": np.array(0.8, np.float32)}
    expected = run_plainly(lowered(setup, FP32, flavour).model, feeds)["picture"]
    actual = run_plainly(lowered(setup, INT8, flavour, placement=placement).model, feeds)["picture"]
    assert signal_to_noise(expected, actual) > 30


def with_whole_numbers():
    """Sums of whole numbers and resized bytes between layers, of shapes that activations have."""
    nodes = [
        helper.make_node("Resize", ["bytes", "", "scales"], ["larger"], "resize"),
        helper.make_node("Cast", ["larger"], ["image"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["image", "step"], ["scaled"], "mul"),
        conv("scaled", "w1", "c1", "first"),
        helper.make_node("Cast", ["c1"], ["whole"], "round", to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "whole"], ["twice"], "add"),
        helper.make_node("Cast", ["twice"], ["float"], "back", to=TensorProto.FLOAT),
        conv("float", "w2", "picture", "last"),
    ]
    weights = {"w1": normal(4, 3, 3, 3), "w2": normal(3, 4, 3, 3, seed=1), "step": np.float32(1 / 64)}
    model = onnx_model(
        nodes,
        inputs={"bytes": [1, 3, 4, 4]},
        outputs={"picture": [1, 3, 8, 8]},
        weights={**weights, "scales": np.array([1, 1, 2, 2], np.float32)},
    )
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


@pytest.mark.parametrize("flavour", ["exact", *QDQ_FLAVOURS])
def test_whole_numbers_are_never_quantized(flavour):
    setup = prepared(with_whole_numbers(), amax=12.0)
    feeds = {"bytes": np.random.default_rng(3).integers(0, 256, (1, 3, 4, 4), dtype=np.uint8)}
    expected = run_plainly(lowered(setup, FP32, flavour).model, feeds)["picture"]
    model = lowered(setup, INT8, flavour, placement=Placement.DENSE).model
    assert signal_to_noise(expected, run_plainly(model, feeds)["picture"]) > 5


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_places_of_a_pool_stay_whole_numbers(flavour):
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        conv("image", "w1", "c1", "first"),
        helper.make_node("MaxPool", ["c1"], ["largest", "places"], "pool", **pool),
        helper.make_node("MaxUnpool", ["largest", "places"], ["back"], "unpool", **pool),
        conv("back", "w2", "picture", "last"),
    ]
    model = onnx_model(
        nodes,
        inputs={"image": ["n", 3, 8, 8]},
        outputs={"picture": ["n", 3, 8, 8]},
        weights={"w1": normal(4, 3, 3, 3), "w2": normal(3, 4, 3, 3, seed=1)},
    )
    setup = prepared(model)
    expected = run_plainly(lowered(setup, FP32, flavour).model, IMAGE)["picture"]
    actual = run_plainly(lowered(setup, INT8, flavour).model, IMAGE)["picture"]
    assert signal_to_noise(expected, actual) > 15
