"""A graph as a torch module: against ONNX Runtime, under the layers' names, and what it refuses."""

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from onnx import helper
from tiny_models import normal, onnx_model, run_model

from qsens.core.errors import BuildError
from qsens.graph.examples import random_inputs
from qsens.graph.onnx_run import open_session, relative_difference, run
from qsens.graph.prepare import prepare_graph
from qsens.run.open import open_generator

torch = pytest.importorskip("torch", reason="needs the extra torch")
from qsens.engines.torch2trt.onnx_module import OnnxModule, module_paths  # noqa: E402  after the check that torch is here


def outputs_of(module, feeds):
    with torch.no_grad():
        return [value.numpy() for value in module(*(torch.from_numpy(value) for value in feeds.values()))]


def difference(model, batch=2, **shapes):
    """The largest relative difference of any output to ONNX Runtime."""
    graph = prepare_graph(model, **shapes)
    feeds = random_inputs(graph.inputs, dict(graph.example_shapes), batch=batch, seed=3)
    found = outputs_of(OnnxModule(graph), feeds)
    expected = run(open_session(graph.model), feeds)
    return max(relative_difference(before, after) for before, after in zip(expected, found, strict=True))


def around(*nodes, sides=("n", 4, 8, 8), weights=None, opset=17, outputs=("y",)):
    """A layer, so that there is a graph to sweep, and the nodes under test behind it: `x` to `y`."""
    rank = len(sides) - 2
    first = helper.make_node("Conv", ["image", "w0"], ["x"], name="first")
    known = {"w0": normal(4, sides[1], *([1] * rank), seed=9)} | dict(weights or {})
    model = onnx_model(
        [first, *nodes],
        inputs={"image": list(sides)},
        outputs=dict.fromkeys(outputs),
        weights=known,
        opset=opset,
    )
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def node(operator, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), name=f"the {operator}", **attributes)


@pytest.mark.slow
def test_the_shipped_talker_computes_what_onnx_runtime_computes_under_its_layers_names():
    model = open_generator(None, "wav2lip").export()
    assert difference(model) < 1e-5
    graph = prepare_graph(model)
    module = OnnxModule(graph)
    for layer in graph.layers:
        assert module.get_submodule(layer.name).view.name == layer.node


def test_a_residual_generator_with_output_padding_computes_the_same():
    assert difference(residual_generator()) < 1e-5


def integers(*values):
    return np.array(values, np.int64)


VECTOR = normal(4, seed=1) + 1
CASES = {
    "Conv of one axis": around(
        node("Conv", ("x", "w", "b"), pads=[1, 1], strides=[2]),
        sides=("n", 4, 9),
        weights={"w": normal(6, 4, 3), "b": normal(6)},
    ),
    "Conv of three axes": around(
        node("Conv", ("x", "w"), dilations=[1, 2, 1], group=2),
        sides=("n", 4, 5, 5, 5),
        weights={"w": normal(4, 2, 2, 2, 2)},
    ),
    "ConvTranspose of one axis": around(
        node("ConvTranspose", ("x", "w"), strides=[3], pads=[2, 2], output_padding=[2]),
        sides=("n", 4, 5),
        weights={"w": normal(4, 3, 5)},
    ),
    "ConvTranspose with unlike pads": around(
        node("ConvTranspose", ("x", "w", "b"), strides=[2, 2], pads=[1, 1, 0, 0], group=2),
        weights={"w": normal(4, 3, 3, 3), "b": normal(6)},
    ),
    "ConvTranspose, dilated": around(
        node("ConvTranspose", ("x", "w"), dilations=[2, 2]), weights={"w": normal(4, 3, 3, 3)}
    ),
    "Gemm after Flatten": around(
        node("Flatten", outputs=("f",)),
        node("Gemm", ("f", "w", "b"), transB=1),
        sides=("n", 4, 2, 2),
        weights={"w": normal(5, 16), "b": normal(5)},
    ),
    "MatMul of matrices": around(
        node("Reshape", ("x", "shape"), ("f",)),
        node("MatMul", ("f", "w")),
        weights={"shape": integers(0, 4, 64), "w": normal(64, 3)},
    ),
    "MatMul of activations": around(
        node("Reshape", ("x", "shape"), ("f",)),
        helper.make_node("Transpose", ["f"], ["t"], name="t", perm=[0, 2, 1]),
        node("MatMul", ("f", "t")),
        weights={"shape": integers(-1, 4, 64)},
    ),
    "MaxPool": around(node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    "AveragePool": around(node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    "AveragePool with its pads": around(
        node("AveragePool", kernel_shape=[3], pads=[1, 1], count_include_pad=1), sides=("n", 4, 9)
    ),
    "GlobalAveragePool": around(node("GlobalAveragePool")),
    "ReduceMean": around(node("ReduceMean", axes=[-1, 2], keepdims=0)),
    "ReduceSum": around(node("ReduceSum", ("x", "axes")), weights={"axes": integers(1)}),
    "LeakyRelu": around(node("LeakyRelu", alpha=0.2)),
    "PRelu": around(node("PRelu", ("x", "s")), weights={"s": VECTOR.reshape(4, 1, 1)}),
    "PRelu of one slope": around(node("PRelu", ("x", "s")), weights={"s": VECTOR[:1]}),
    "Elu": around(node("Elu", alpha=0.7)),
    "Clip below": around(node("Clip", ("x", "low")), weights={"low": np.float32(0.1)}),
    "Clip above": around(node("Clip", ("x", "", "high")), weights={"high": np.float32(0.1)}),
    "HardSigmoid": around(node("HardSigmoid")),
    "Gelu by tanh": around(node("Gelu", approximate="tanh"), opset=20),
    "Softmax": around(node("Softmax", axis=1)),
    "Softsign": around(node("Softsign")),
    "InstanceNormalization": around(
        node("InstanceNormalization", ("x", "s", "b"), epsilon=1e-3),
        weights={"s": VECTOR, "b": normal(4)},
    ),
    "LayerNormalization": around(
        node("LayerNormalization", ("x", "s", "b")), weights={"s": normal(8), "b": normal(8)}
    ),
    "sums and products with constants": around(
        node("Mul", ("x", "v"), ("p",)),
        helper.make_node("Sub", ["one", "p"], ["q"], name="q"),
        helper.make_node("Div", ["q", "v"], ["r"], name="r"),
        node("Max", ("r", "p"), ("m",)),
        node("Pow", ("m", "two")),
        weights={"v": VECTOR.reshape(4, 1, 1), "one": np.float32(1), "two": np.float32(2)},
    ),
    "Split, Neg, Abs, Concat": around(
        node("Split", outputs=("a", "b"), axis=1),
        node("Neg", ("a",), ("c",)),
        node("Abs", ("b",), ("d",)),
        node("Concat", ("c", "d", "a"), axis=-3),
    ),
    "Slice with steps": around(
        node("Slice", ("x", "starts", "ends", "axes", "steps")),
        weights={
            "starts": integers(1, -5),
            "ends": integers(2**40, -1),
            "axes": integers(2, -1),
            "steps": integers(2, 1),
        },
    ),
    "Squeeze and Unsqueeze": around(
        node("ReduceMean", outputs=("m",), axes=[1]),
        node("Squeeze", ("m", "one"), ("s",)),
        node("Unsqueeze", ("s", "last")),
        weights={"one": integers(1), "last": integers(-1)},
    ),
    "Resize, nearest": around(
        node("Resize", ("x", "", "f"), mode="nearest", coordinate_transformation_mode="half_pixel"),
        weights={"f": np.array([1, 1, 2, 3], np.float32)},
    ),
    "Resize, nearest by a fraction": around(
        node(
            "Resize",
            ("x", "", "f"),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        weights={"f": np.array([1, 1, 1.5, 0.5], np.float32)},
    ),
    "Resize, linear": around(
        node("Resize", ("x", "", "f"), mode="linear", coordinate_transformation_mode="half_pixel"),
        weights={"f": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Resize, linear between corners": around(
        node("Resize", ("x", "", "", "s"), mode="linear", coordinate_transformation_mode="align_corners"),
        sides=(1, 4, 8, 8),
        weights={"s": integers(1, 4, 13, 16)},
    ),
    "Pad with zeros": around(node("Pad", ("x", "p")), weights={"p": integers(0, 0, 1, 2, 0, 0, 3, 4)}),
    "Pad by reflection": around(
        node("Pad", ("x", "p"), mode="reflect"), weights={"p": integers(0, 0, 1, 2, 0, 0, 3, 4)}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_computes(name):
    batch = 1 if CASES[name].graph.input[0].type.tensor_type.shape.dim[0].dim_value else 2
    assert difference(CASES[name], batch=batch) < 1e-5


REFUSED = {
    "pixel shuffle": (around(node("DepthToSpace", blocksize=2)), "DepthToSpace.*pixel shuffle"),
    "erf": (around(node("Erf")), "Erf"),
    "exact GELU": (around(node("Gelu"), opset=20), "tanh approximation"),
    "an operator without converter": (around(node("HardSwish")), "'the HardSwish'.*no converter"),
    "unlike pads": (
        around(node("Conv", ("x", "w"), pads=[0, 0, 1, 1]), weights={"w": normal(4, 4, 2, 2)}),
        "both ends alike",
    ),
    "automatic pads": (
        around(node("Conv", ("x", "w"), auto_pad="SAME_UPPER"), weights={"w": normal(4, 4, 2, 2)}),
        "auto_pad is 'SAME_UPPER'",
    ),
    "replication": (
        around(node("Pad", ("x", "p"), mode="edge"), weights={"p": integers(0, 0, 1, 1, 0, 0, 1, 1)}),
        "'edge'",
    ),
    "padding with ones": (
        around(
            node("Pad", ("x", "p", "v")),
            weights={"p": integers(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(1)},
        ),
        "ignores mode and value",
    ),
    "padding of channels": (
        around(node("Pad", ("x", "p")), weights={"p": integers(0, 1, 0, 0, 0, 0, 0, 0)}),
        "height and width",
    ),
    "a dilated pooling": (around(node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])), "dilation"),
    "a rounded up pooling": (around(node("MaxPool", kernel_shape=[2, 2], ceil_mode=1)), "ceil_mode is 1"),
    "a sum of three": (around(node("Max", ("x", "x", "x"))), "3 operands"),
    "cubic resizing": (
        around(
            node("Resize", ("x", "", "f"), mode="cubic"), weights={"f": np.array([1, 1, 2, 2], np.float32)}
        ),
        "cubic",
    ),
    "nearest by another rule": (
        around(
            node("Resize", ("x", "", "f"), mode="nearest", nearest_mode="ceil"),
            weights={"f": np.array([1, 1, 1.5, 1.5], np.float32)},
        ),
        "'ceil'",
    ),
    "a backward slice": (
        around(
            node("Slice", ("x", "starts", "ends", "axes", "steps")),
            weights={
                "starts": integers(-1),
                "ends": integers(-9),
                "axes": integers(2),
                "steps": integers(-1),
            },
        ),
        "steps by -1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch2trt_gets_wrong_is_refused_with_node_and_way_out(name):
    model, reason = REFUSED[name]
    with pytest.raises(BuildError, match=reason) as caught:
        OnnxModule(prepare_graph(model))
    assert "the " in caught.value.message
    assert "backend tensorrt" in caught.value.hint


def named(names):
    """A chain of convolutions with these node names."""
    tensors = ["image", *(f"t{index}" for index in range(len(names)))]
    nodes = [
        helper.make_node("Conv", [tensors[index], "w"], [tensors[index + 1]], name=name)
        for index, name in enumerate(names)
    ]
    return prepare_graph(
        onnx_model(
            nodes,
            inputs={"image": ["n", 3, 4, 4]},
            outputs={tensors[-1]: None},
            weights={"w": normal(3, 3, 1, 1)},
        )
    )


def test_names_that_torch_forbids_are_mapped_and_stay_apart():
    graph = named(["out.type", "out", "out.type_", "a..b", "a/b:1", "shared@2", "forward"])
    paths = module_paths(graph)
    assert paths == {
        "out.type": "out.type_",
        "out": "out",
        "out.type_": "out.type_~2",
        "a..b": "a._.b",
        "a/b:1": "a/b:1",
        "shared@2": "shared@2",
        "forward": "forward_",
    }
    module = OnnxModule(graph)
    assert {view.name for view in module.views} == set(paths)
    feeds = {"image": normal(2, 3, 4, 4)}
    expected = run_model(graph.model, feeds)[0]
    assert relative_difference(expected, outputs_of(module, feeds)[0]) < 1e-5


def test_a_module_called_again_is_a_layer_of_its_own():
    conv = [
        helper.make_node("Conv", ["image", "shared.weight"], ["a"], name="/shared/Conv"),
        helper.make_node("Conv", ["a", "shared.weight"], ["b"], name="/shared_1/Conv"),
    ]
    model = onnx_model(
        conv,
        inputs={"image": ["n", 3, 4, 4]},
        outputs={"b": None},
        weights={"shared.weight": normal(3, 3, 1, 1)},
        producer="pytorch",
    )
    graph = prepare_graph(model)
    assert [layer.name for layer in graph.layers] == ["shared", "shared@2"]
    assert module_paths(graph) == {"/shared/Conv": "shared", "/shared_1/Conv": "shared@2"}


def test_a_side_that_is_only_known_while_it_runs_is_refused():
    model = around(
        helper.make_node("Shape", ["x"], ["s"], name="s", start=2),
        helper.make_node("Concat", ["minus", "s"], ["shape"], name="shape", axis=0),
        node("Reshape", ("x", "shape")),
        sides=("n", 4, "h", 8),
        weights={"minus": integers(-1)},
    )
    graph = prepare_graph(model, input_shapes={"image": (1, 4, 8, 8)})
    with pytest.raises(BuildError, match="backend torch2trt cannot express"):
        OnnxModule(graph)


def test_onnx_itself_agrees_that_the_cases_are_valid():
    for model in (*CASES.values(), *(model for model, _ in REFUSED.values())):
        onnx.checker.check_model(model)
