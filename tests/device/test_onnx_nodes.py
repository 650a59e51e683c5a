import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

from qsens.device.errors import DeviceError
from qsens.device.onnx_nodes import read_onnx_graph, size_with_weights


def residual_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["w1"], "dequantize"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "second"),
        helper.make_node("Clip", ["c1", "", "top"], ["k1"], "clip"),
        helper.make_node("Add", ["k1", "r0"], ["y"], "add"),
    ]
    weights = {
        "w0": normal(4, 3, 3, 3),
        "b0": normal(4),
        "codes": np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1),
        "scale": np.float32(0.5),
        "top": np.float32(1),
    }
    return onnx_model(nodes, inputs={"x": ["n", 3, 8, 8]}, outputs={"y": None}, weights=weights)


def test_everything_is_read_as_the_onnx_package_reads_it():
    model = residual_model()
    graph = read_onnx_graph(model.SerializeToString())
    assert [(node.name, node.operator, list(node.inputs), list(node.outputs)) for node in graph.nodes] == [
        (node.name, node.op_type, list(node.input), list(node.output)) for node in model.graph.node
    ]
    assert graph.outputs == ("y",)
    for tensor in model.graph.initializer:
        read = graph.constants[tensor.name]
        expected = onnx.numpy_helper.to_array(tensor)
        assert read.dims == expected.shape
        np.testing.assert_array_equal(read.values(), expected.ravel())
        assert read.values().dtype == expected.dtype


@pytest.mark.parametrize(("kind", "values"), [(TensorProto.UINT8, [128]), (TensorProto.INT8, [-5, 127])])
def test_small_integers_that_are_not_raw_bytes(kind, values):
    model = residual_model()
    model.graph.initializer.append(helper.make_tensor("zero", kind, [len(values)], values))
    read = read_onnx_graph(model.SerializeToString()).constants["zero"]
    assert read.dims == (len(values),)
    assert read.values().tolist() == values


def test_a_graph_in_pieces_adds_up():
    model = residual_model()
    first, second = onnx.ModelProto(), onnx.ModelProto()
    first.CopyFrom(model)
    del first.graph.initializer[:]
    second.graph.initializer.extend(model.graph.initializer)
    whole = read_onnx_graph(model.SerializeToString())
    pieces = read_onnx_graph(first.SerializeToString() + second.SerializeToString())
    assert (pieces.nodes, pieces.outputs) == (whole.nodes, whole.outputs)
    assert pieces.constants == whole.constants


def test_weights_in_another_file_count_but_cannot_be_read(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(residual_model(), path, save_as_external_data=True, location="beside", size_threshold=0)
    graph = read_onnx_graph(path.read_bytes())
    assert graph.external_files() == {"beside"}
    assert graph.constants["w0"].values() is None
    assert size_with_weights(path, graph) == path.stat().st_size + (tmp_path / "beside").stat().st_size
    assert size_with_weights(b"four", graph) == 4


def test_a_layer_is_found_behind_what_follows_it():
    graph = read_onnx_graph(residual_model().SerializeToString())
    assert [node.name for node in graph.layer_before("r0")] == ["relu", "first"]
    assert [node.name for node in graph.layer_before("k1")] == ["clip", "second"]
    assert graph.layer_before("y") == ()  # two ways back
    stops = frozenset({"r0"})
    assert [node.name for node in graph.layer_before("y", stops)] == ["add", "clip", "second"]
    assert graph.layer_before("x") == ()


def test_constants_are_those_that_no_input_reaches():
    graph = read_onnx_graph(residual_model().SerializeToString())
    assert graph.is_constant("w0")
    assert graph.is_constant("w1")
    assert not graph.is_constant("x")
    assert not graph.is_constant("r0")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x3a\x7f", b"\x3a"])
def test_other_bytes_are_refused(content):
    with pytest.raises(DeviceError, match=f"{len(content)} bytes that are no ONNX model"):
        read_onnx_graph(content)


def test_a_truncated_model_is_refused():
    content = residual_model().SerializeToString()
    with pytest.raises(DeviceError, match="no ONNX model"):
        read_onnx_graph(content[: len(content) // 2])
