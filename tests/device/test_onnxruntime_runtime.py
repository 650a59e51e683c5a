import numpy as np
import onnx
import pytest
from lowered_models import images, residual_generator
from onnx import helper
from quantized_models import probe
from tiny_models import run_model

from qsens.device import onnxruntime_runtime
from qsens.device.errors import DeviceError
from qsens.device.onnx_nodes import OnnxGraph, OnnxNode
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime, executed_steps

RESIDUAL = residual_generator().SerializeToString()


def step_of(runtime: OnnxRuntimeRuntime, node: str):
    return next(step for step in runtime.executed_layers() if node in step.nodes)


@pytest.mark.parametrize("saturates", [False, True])
@pytest.mark.parametrize("is_signed", [False, True])
def test_int8_convolutions_compute_what_integer_arithmetic_does(is_signed, saturates, monkeypatch):
    if not saturates and onnxruntime_runtime.this_cpu_saturates(onednn=False) is not False:
        pytest.skip("this CPU saturates")
    # With True the weights become uint8, which every CPU adds in 32 bits.
    monkeypatch.setattr(onnxruntime_runtime, "this_cpu_saturates", lambda onednn: saturates)
    made = probe("Conv", is_signed=is_signed, is_rounded=True)
    runtime = OnnxRuntimeRuntime(made.model.SerializeToString(), threads=1)
    assert step_of(runtime, "layer").precision == "int8"
    assert step_of(runtime, "layer").kernel == "QLinearConv"
    assert step_of(runtime, "layer").nodes == ("layer", "z/Q")
    np.testing.assert_array_equal(runtime.run(made.feeds)["y"], made.expected_rounded)


@pytest.mark.parametrize(
    ("operator", "precision", "kernel"),
    [("Gemm", "int8", "QGemm"), ("ConvTranspose", "fp32", "ConvTranspose"), ("Conv", "fp32", "Conv")],
)
def test_layers_without_a_quantizer_behind_them(operator, precision, kernel):
    made = probe(operator, is_signed=False)
    runtime = OnnxRuntimeRuntime(made.model.SerializeToString(), threads=1)
    step = step_of(runtime, "layer")
    assert (step.precision, step.kernel) == (precision, kernel)
    np.testing.assert_array_equal(runtime.run(made.feeds)["y"], made.expected)


def test_transposed_convolutions_are_never_int8():
    made = probe("ConvTranspose", is_signed=False, is_rounded=True)
    runtime = OnnxRuntimeRuntime(made.model.SerializeToString(), threads=1)
    assert step_of(runtime, "layer").precision == "fp32"
    np.testing.assert_array_equal(runtime.run(made.feeds)["y"], made.expected_rounded)


def test_fused_nodes_are_found_whatever_they_are_called():
    runtime = OnnxRuntimeRuntime(RESIDUAL, threads=1)
    expected = run_model(onnx.load_from_string(RESIDUAL), images(3))[0]
    np.testing.assert_allclose(runtime.run(images(3))["picture"], expected, atol=2e-6)
    for node in ("first", "middle", "inner", "up", "last"):
        assert step_of(runtime, node).precision == "fp32"
    assert step_of(runtime, "first").nodes == ("first", "relu0")
    assert step_of(runtime, "last").nodes == ("last", "sigmoid")


def test_an_unoptimised_session_holds_the_file_node_by_node():
    runtime = OnnxRuntimeRuntime(RESIDUAL, threads=1, optimised=False)
    nodes = [node.name for node in onnx.load_from_string(RESIDUAL).graph.node]
    assert [step.name for step in runtime.executed_layers()] == nodes


def test_step_times_are_those_of_executed_layers():
    made = probe("Conv", is_signed=False, is_rounded=True)
    runtime = OnnxRuntimeRuntime(made.model.SerializeToString(), threads=1)
    times = runtime.step_times_ms(made.feeds, 3)
    assert set(times) <= {step.name for step in runtime.executed_layers()}
    assert {"layer", "x/Q"} <= set(times)
    assert all(value >= 0 for value in times.values())


def test_bad_models_and_bad_feeds_are_device_errors(tmp_path):
    with pytest.raises(DeviceError, match="refused the model"):
        OnnxRuntimeRuntime(RESIDUAL[:-400])
    unknown = onnx.load_from_string(RESIDUAL)
    unknown.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(DeviceError, match="NoSuchOperator"):
        OnnxRuntimeRuntime(unknown.SerializeToString())
    path = tmp_path / "model.onnx"
    path.write_bytes(RESIDUAL)
    runtime = OnnxRuntimeRuntime(path)
    assert runtime.size_bytes == len(RESIDUAL)
    with pytest.raises(DeviceError, match="stopped"):
        runtime.run({"image": np.zeros((1, 5, 8, 8), np.float32)})


def graph_of(*nodes: OnnxNode) -> OnnxGraph:
    return OnnxGraph(nodes, {}, ())


ORIGINAL = graph_of(
    OnnxNode("conv", "Conv", ("x",), ("c",)),
    OnnxNode("add", "Add", ("c", "s"), ("a",)),
    OnnxNode("relu", "Relu", ("a",), ("r",)),
    OnnxNode("turn", "Transpose", ("r",), ("y",)),
)


@pytest.mark.parametrize(
    ("step", "nodes", "precision"),
    [
        (OnnxNode("conv", "FusedConv", ("x", "s"), ("r",)), ("conv", "add", "relu"), "fp32"),
        (OnnxNode("conv_token_12", "QLinearConv", ("x",), ("q",)), ("conv",), "int8"),
        (OnnxNode("c_nchwc", "Conv", ("reordered",), ("wide",)), ("conv",), "fp32"),
        (OnnxNode("whatever", "Conv", ("x",), ("c",)), ("conv",), "fp32"),
        (OnnxNode("r_nchwc", "Conv", ("x", "s"), ("wide",)), ("conv", "add", "relu"), "fp32"),
        (OnnxNode("relu", "Relu", ("a",), ("r",)), ("relu",), None),
        (OnnxNode("stranger", "QLinearAdd", ("k",), ("l",)), (), "int8"),
    ],
)
def test_steps_are_traced_by_the_names_that_are_kept(step, nodes, precision):
    (told,) = executed_steps(graph_of(step), ORIGINAL)
    assert (told.nodes, told.precision, told.is_reformat) == (nodes, precision, False)


def test_results_are_found_behind_changes_of_layout():
    held = graph_of(
        OnnxNode("new", "Conv", ("x", "s"), ("wide",)),
        OnnxNode("Transpose_token_3", "Transpose", ("wide",), ("r",)),
        OnnxNode("turn", "Transpose", ("r",), ("y",)),
    )
    steps = executed_steps(held, ORIGINAL)
    assert steps[0].nodes == ("conv", "add", "relu")
    assert [step.is_reformat for step in steps] == [False, True, False]


def test_models_of_several_outputs_give_each_by_name():
    nodes = [
        helper.make_node("Relu", ["image"], ["one"], "relu"),
        helper.make_node("Neg", ["image"], ["two"], "negate"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two",
        [value("image", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value(name, onnx.TensorProto.FLOAT, ["n", 3, 8, 8]) for name in ("two", "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    outputs = OnnxRuntimeRuntime(model.SerializeToString()).run(images(1))
    np.testing.assert_array_equal(outputs["two"], -images(1)["image"])
    np.testing.assert_array_equal(outputs["one"], images(1)["image"])
