"""The generator in another operator set computes what it did."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from flavours import constants, lowered, opset_of, run_plainly
from lowered_models import FP16, FP32, INT8, Prepared, prepared
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.engines.lowering.opsets import template_within

X = {"x": normal(1, 6, 4, 8, seed=3, scale=1.0)}


def generator(
    middle: list[onnx.NodeProto],
    *,
    opset: int,
    weights: dict[str, np.ndarray] | None = None,
    outputs: tuple[str, ...] = ("m",),
) -> onnx.ModelProto:
    """A convolution from `x` to `c`, and `middle`, which makes the outputs of it."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="layer"), *middle]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 6, 4, 8]},
        outputs=dict.fromkeys(outputs),
        weights={"w": normal(6, 6, 1, 1, seed=1), **(weights or {})},
        opset=opset,
    )
    model.ir_version = 10
    model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:  # the checker wants shapes of outputs
        if not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in range(4))
    return model


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


node = helper.make_node
CASES: dict[str, tuple[list[onnx.NodeProto], int, dict[str, np.ndarray]]] = {
    "mean": ([node("ReduceMean", ["c", "axes"], ["m"], "op", keepdims=1)], 18, {"axes": ints(2, -1)}),
    "mean of all": ([node("ReduceMean", ["c"], ["m"], "op")], 18, {}),
    "norm": ([node("ReduceL2", ["c", "axes"], ["m"], "op", keepdims=0)], 20, {"axes": ints(1)}),
    "pad": (
        [node("Pad", ["c", "pads", "", "axes"], ["m"], "op", mode="reflect")],
        19,
        {"pads": ints(1, 2, 3, 0), "axes": ints(-1, 2)},
    ),
    "resize": (
        [node("Resize", ["c", "", "scales"], ["m"], "op", mode="linear", axes=[2, 3], antialias=0)],
        19,
        {"scales": np.array([2, 3], np.float32)},
    ),
    "gelu": ([node("Gelu", ["c"], ["m"], "op")], 20, {}),
    "gelu by tanh": ([node("Gelu", ["c"], ["m"], "op", approximate="tanh")], 20, {}),
    "mish": ([node("Mish", ["c"], ["m"], "op")], 18, {}),
    "swish": ([node("Swish", ["c"], ["m"], "op", alpha=1.5)], 24, {}),
    "group norm": (
        [node("GroupNormalization", ["c", "s", "b"], ["m"], "op", num_groups=2, epsilon=1e-3)],
        21,
        {"s": normal(6, seed=5), "b": normal(6, seed=6)},
    ),
    "pool": (
        [node("AveragePool", ["c"], ["m"], "op", kernel_shape=[2, 2], dilations=[1, 1], strides=[2, 2])],
        19,
        {},
    ),
    "grid": (
        [node("GridSample", ["c", "grid"], ["m"], "op", mode="linear", padding_mode="border")],
        20,
        {"grid": np.random.default_rng(1).uniform(-1, 1, (1, 3, 5, 2)).astype(np.float32)},
    ),
    "types only": ([node("HardSwish", ["c"], ["h"], "act"), node("Elu", ["h"], ["m"], "op")], 22, {}),
}


def plain_run(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return run_plainly(copy, X)


@pytest.mark.parametrize("name", CASES)
def test_newer_operators_are_written_for_opset_17(name):
    middle, opset, weights = CASES[name]
    model = generator(middle, opset=opset, weights=weights)
    older = lowered(prepared(model), FP32, "weak").model
    assert opset_of(older) == 17
    assert older.ir_version == 8
    onnx.checker.check_model(older, full_check=True)
    np.testing.assert_allclose(plain_run(older)["m"], plain_run(model)["m"], rtol=1e-5, atol=1e-5)


def test_an_uneven_split_gets_its_sizes():
    outputs = ("m0", "m1", "m2")
    split = node("Split", ["c"], list(outputs), "op", axis=3, num_outputs=3)
    model = generator([split], opset=18, outputs=outputs)
    older = lowered(prepared(model), FP32, "weak").model
    onnx.checker.check_model(older, full_check=True)
    assert constants(older)["op/sizes"].tolist() == [3, 3, 2]
    expected, got = plain_run(model), plain_run(older)
    for name in outputs:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)


REFUSED = {
    "aliasing": (
        node("Resize", ["c", "", "scales"], ["m"], "op", mode="linear", antialias=1),
        18,
        {"scales": np.array([1, 1, 0.5, 0.5], np.float32)},
    ),
    "'wrap'": (
        node("Pad", ["c", "pads"], ["m"], "op", mode="wrap"),
        19,
        {"pads": ints(0, 0, 1, 1, 0, 0, 0, 0)},
    ),
    "dilated": (
        node("AveragePool", ["c"], ["m"], "op", kernel_shape=[2, 2], dilations=[2, 2]),
        19,
        {},
    ),
    "maximum": (
        node("ScatterElements", ["c", "places", "values"], ["m"], "op", axis=1, reduction="max"),
        18,
        {"places": np.zeros((1, 1, 1, 1), np.int64), "values": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "newer": (node("RMSNormalization", ["c", "s"], ["m"], "op"), 23, {"s": np.ones(8, np.float32)}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_opset_17_cannot_say_is_refused_by_name(reason):
    operator, opset, weights = REFUSED[reason]
    setup = prepared(generator([operator], opset=opset, weights=weights))
    with pytest.raises(BuildError, match=rf"node 'op' \({operator.op_type}\) .*{reason}") as caught:
        lowered(setup, FP32, "weak")
    assert "opset_version=17" in caught.value.hint


def test_an_activation_that_is_written_in_pieces_stays_part_of_its_layer():
    setup = prepared(generator([node("Gelu", ["c"], ["m"], "op")], opset=20))
    pins = lowered(setup, FP16, "weak").float_pins
    assert {name for name, precision in pins if precision == "fp16"} == {
        "layer",
        *(f"op/{part}" for part in ("scaled", "curve", "raised", "halved")),
        "op",
    }
    assert lowered(setup, INT8, "weak").float_pins == ()


@pytest.mark.parametrize(("opset", "strong"), [(13, 19), (17, 19), (18, 19), (19, 19), (20, 20), (21, 20)])
def test_strong_and_weak_have_their_opset_whatever_the_generators_is(opset, strong):
    axes = {"axes": [1]} if opset < 18 else {}
    mean = node("ReduceMean", ["c", "axes"][: 1 if axes else 2], ["m"], "op", **axes)
    model = generator([mean], opset=opset, weights={} if axes else {"axes": ints(1)})
    setup = prepared(model, amaxes={"x": 3.0})
    for flavour, wanted in (("strong", strong), ("weak", 17), ("u8", opset)):
        for precision in (FP32, INT8):
            built = lowered(setup, precision, flavour).model
            assert opset_of(built) == wanted
            onnx.checker.check_model(built, full_check=True)
        got = plain_run(lowered(setup, FP32, flavour).model)["m"]
        np.testing.assert_allclose(got, plain_run(model)["m"], rtol=1e-6, atol=1e-6)


def test_the_graph_is_converted_once_for_all_maps():
    setup = prepared(generator([node("Relu", ["c"], ["m"], "op")], opset=17))
    assert template_within(setup.plan, (19, 20)) is template_within(setup.plan, (19, 20))


def unconvertible(setup: Prepared) -> Prepared:
    """The same graph with an operator that ONNX does not know."""
    graph = onnx.ModelProto()
    graph.CopyFrom(setup.graph.model)
    graph.graph.node[-1].op_type = "Unheard"
    changed = replace(setup.graph, model=graph)
    return replace(setup, graph=changed, plan=type(setup.plan).of(changed))


def test_a_graph_that_cannot_be_raised_is_refused():
    setup = unconvertible(prepared(generator([node("Relu", ["c"], ["m"], "op")], opset=17)))
    with pytest.raises(BuildError, match="cannot be raised to ONNX operator set 19") as caught:
        lowered(setup, FP32, "strong")
    assert "opset_version=19" in caught.value.hint
