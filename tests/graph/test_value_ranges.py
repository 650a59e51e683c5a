"""What a graph proves of its tensors holds for any input, and is no more than the graph proves."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_models import onnx_model, run_model

from qsens.graph.topology import Topology
from qsens.graph.value_ranges import Interval, proved_ranges

EVERYTHING = (-math.inf, math.inf)
NOT_NEGATIVE = (0.0, math.inf)
CONSTANTS = {
    "half": np.float32(0.5),
    "minus": np.float32(-1.0),
    "two": np.float32(2.0),
    "three": np.float32(3.0),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "sizes": np.array([1, 1, 7, 7], np.int64),
    "shape": np.array([1, 16], np.int64),
    "slope": np.float32(-0.3),
    "nothing": np.array([], np.float32),
}


def node(operator, *inputs, **attributes):
    return helper.make_node(operator, list(inputs), ["y"], name="node", **attributes)


def ranges_of(made, opset=17, **promised):
    relu = helper.make_node("Relu", ["x"], ["r"], name="relu")
    tanh = helper.make_node("Tanh", ["x"], ["t"], name="tanh")
    clip = helper.make_node("Clip", ["x", "half", "two"], ["c"], name="clip")
    least = [
        helper.make_node("ReduceMin", [of], [f"least {of}"], name=f"least {of}", keepdims=0) for of in "xtc"
    ]
    used = {name for entry in (made, clip) for name in entry.input}
    model = onnx_model(
        [relu, tanh, clip, *least, made],
        inputs={"x": [1, 1, 4, 4]},
        outputs={"y": None},
        weights={name: value for name, value in CONSTANTS.items() if name in used},
        opset=opset,
    )
    return model, proved_ranges(Topology(model), {name: Interval(*ends) for name, ends in promised.items()})


# `x` is anything, `r` 0 or more, `t` -1 to 1, `c` 0.5 to 2; `least x` is a scalar, ...
CASES = {
    "nothing is known of an input": (node("Identity", "x"), EVERYTHING),
    "relu": (node("Identity", "r"), NOT_NEGATIVE),
    "leaky relu": (node("LeakyRelu", "t", alpha=0.25), (-0.25, 1.0)),
    "leaky relu that falls": (node("LeakyRelu", "t", alpha=-0.25), EVERYTHING),
    "prelu of what is not negative": (node("PRelu", "r", "slope"), NOT_NEGATIVE),
    "prelu": (node("PRelu", "t", "slope"), EVERYTHING),
    "elu": (node("Elu", "t"), EVERYTHING),
    "thresholded relu": (node("ThresholdedRelu", "t", alpha=0.5), (0.0, 1.0)),
    "thresholded relu above its input": (node("ThresholdedRelu", "c", alpha=3.0), (0.0, 2.0)),
    "thresholded relu below zero": (node("ThresholdedRelu", "t", alpha=-0.5), (-1.0, 1.0)),
    "sigmoid": (node("Sigmoid", "x"), (0.0, 1.0)),
    "softmax": (node("Softmax", "x"), (0.0, 1.0)),
    "tanh of what is not negative": (node("Tanh", "r"), (0.0, 1.0)),
    "clip": (node("Clip", "x", "half", "two"), (0.5, 2.0)),
    "clip from below": (node("Clip", "x", "half"), (0.5, math.inf)),
    "clip from above": (node("Clip", "x", "", "two"), (-math.inf, 2.0)),
    "clip from above by what is computed": (node("Clip", "r", "", "least t"), (-1.0, 1.0)),
    "clip from below by what is computed": (node("Clip", "t", "least c"), (0.5, 2.0)),
    "clip from below by anything": (node("Clip", "t", "least x", "two"), (-1.0, 2.0)),
    "clip below zero": (node("Clip", "x", "minus"), (-1.0, math.inf)),
    "absolute": (node("Abs", "t"), (0.0, 1.0)),
    "exponential": (node("Exp", "x"), NOT_NEGATIVE),
    "square root": (node("Sqrt", "r"), NOT_NEGATIVE),
    "square": (node("Mul", "x", "x"), NOT_NEGATIVE),
    "square of what is bounded": (node("Mul", "t", "t"), (0.0, 1.0)),
    "product of both signs": (node("Mul", "t", "r"), EVERYTHING),
    "product": (node("Mul", "r", "c"), NOT_NEGATIVE),
    "product with a constant below zero": (node("Mul", "c", "minus"), (-2.0, -0.5)),
    "even power": (node("Pow", "x", "two"), NOT_NEGATIVE),
    "odd power": (node("Pow", "x", "three"), EVERYTHING),
    "sum": (node("Add", "r", "c"), (0.5, math.inf)),
    "sum of more": (node("Sum", "t", "t", "c"), (-1.5, 4.0)),
    "sum with a constant below zero": (node("Add", "r", "minus"), (-1.0, math.inf)),
    "difference": (node("Sub", "c", "t"), (-0.5, 3.0)),
    "quotient": (node("Div", "r", "c"), NOT_NEGATIVE),
    "quotient by what may be zero": (node("Div", "r", "r"), EVERYTHING),
    "negative": (node("Neg", "c"), (-2.0, -0.5)),
    "largest of two": (node("Max", "x", "c"), (0.5, math.inf)),
    "least of two": (node("Min", "r", "c"), (0.0, 2.0)),
    "joined": (node("Concat", "r", "c", axis=1), NOT_NEGATIVE),
    "joined with anything": (node("Concat", "r", "x", axis=1), EVERYTHING),
    "maximum pool": (node("MaxPool", "c", kernel_shape=[2, 2], pads=[1, 1, 1, 1]), (0.5, 2.0)),
    "average pool": (node("AveragePool", "c", kernel_shape=[2, 2]), (0.5, 2.0)),
    "average with its edge": (
        node("AveragePool", "c", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        (0.0, 2.0),
    ),
    "mean": (node("ReduceMean", "r", axes=[2, 3]), NOT_NEGATIVE),
    "zeros around it": (node("Pad", "c", "pads"), (0.0, 2.0)),
    "what is below zero around it": (node("Pad", "c", "pads", "minus"), (-1.0, 2.0)),
    "mirrored around it": (node("Pad", "c", "pads", mode="reflect"), (0.5, 2.0)),
    "resized to the nearest": (node("Resize", "r", "", "", "sizes"), NOT_NEGATIVE),
    "resized linearly": (node("Resize", "c", "", "", "sizes", mode="linear"), (0.5, 2.0)),
    "resized with a cubic kernel": (node("Resize", "r", "", "", "sizes", mode="cubic"), EVERYTHING),
    "moved": (node("Reshape", "c", "shape"), (0.5, 2.0)),
    "an operator that is not known": (node("InstanceNormalization", "r", "x", "x"), EVERYTHING),
}


@pytest.mark.parametrize("name", CASES)
def test_the_range_is_what_the_graph_proves(name):
    made, expected = CASES[name]
    _, proved = ranges_of(made)
    assert (proved["y"].low, proved["y"].high) == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in CASES if "not known" not in name])
def test_no_value_leaves_its_range(name):
    model, proved = ranges_of(CASES[name][0])
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 4)).astype(np.float32) * 3
    for sample in (x, -x, np.zeros_like(x), np.full_like(x, -80)):
        values = run_model(model, {"x": sample})[0]
        values = values[~np.isnan(values)]
        assert (values >= proved["y"].low - 1e-6).all()
        assert (values <= proved["y"].high + 1e-6).all()


@pytest.mark.parametrize(
    ("kind", "promised", "expected"),
    [
        (TensorProto.UINT8, None, (0.0, 255.0)),
        (TensorProto.BOOL, None, (0.0, 1.0)),
        (TensorProto.INT8, None, EVERYTHING),
        (TensorProto.FLOAT, None, EVERYTHING),
        (TensorProto.FLOAT, (0.0, 1.0), (0.0, 1.0)),
    ],
)
def test_an_input_is_bounded_by_its_type_or_by_what_is_promised(kind, promised, expected):
    cast = helper.make_node("Cast", ["x"], ["y"], name="cast", to=TensorProto.FLOAT)
    model = onnx_model([cast], inputs={"x": [2]}, outputs={"y": None}, weights={})
    model.graph.input[0].type.tensor_type.elem_type = kind
    proved = proved_ranges(Topology(model), {} if promised is None else {"x": Interval(*promised)})
    assert (proved["y"].low, proved["y"].high) == expected
