"""Layers that a repair changed, in every flavour: INT8 takes the repaired codes and bias, float its own."""

from dataclasses import replace

import numpy as np
import pytest
from flavours import QDQ_FLAVOURS, lowered, run_plainly
from lowered_models import FP16, FP32, INT8, Prepared, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.engines.lowering.int8 import quantize_weight, weight_scales
from qsens.engines.lowering.plan import RepairedLayer, WeightScales

AMAX = 3.1


def nearest(weight: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    return quantize_weight(weight, axis)[0], weight_scales(weight, axis)


def repaired(setup: Prepared, names: list[str], *, change: int = 0, bias: float = 0.0) -> Prepared:
    """The layers with their nearest codes, all but the largest of each scale moved by `change`."""
    layers = {}
    for name in names:
        operation = setup.plan.operations[name]
        node, weight = setup.plan.topology.nodes[operation.node], setup.plan.int8_weight(name)
        axis = None if node.op_type == "ConvTranspose" else int(node.op_type != "Conv")
        codes, scales = nearest(weight, axis)
        moved = np.where(np.abs(codes) < 126, codes + change, codes).astype(np.int8)
        channels = weight.shape[1 if node.op_type in ("ConvTranspose", "Gemm", "MatMul") else 0]
        layers[name] = RepairedLayer(moved, scales, np.full(channels, bias, np.float32))
    return replace(setup, plan=setup.plan.with_repaired(layers))


def flat_generator(operator: str, **attributes: object) -> Prepared:
    weights = {"w": normal(6, 5, seed=1), "v": normal(5, 4, seed=2), "b": normal(5, seed=3)}
    inputs = ["x", "w", "b"] if operator == "Gemm" else ["x", "w"]
    nodes = [
        helper.make_node(operator, inputs, ["h"], name="first", **attributes),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="last"),
    ]
    return prepared(
        onnx_model(nodes, inputs={"x": ["n", 6]}, outputs={"y": None}, weights=weights), amax=AMAX
    )


def without_bias() -> Prepared:
    nodes = [helper.make_node("Conv", ["image", "w"], ["picture"], name="only", pads=[1] * 4)]
    weights = {"w": normal(3, 3, 3, 3, seed=4)}
    model = onnx_model(nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": None}, weights=weights)
    return prepared(model, amax=AMAX)


SETUPS = {
    "residual": (lambda: prepared(residual_generator(), amax=AMAX), images()),
    "gemm": (lambda: flat_generator("Gemm", alpha=0.5, beta=2.0), {"x": normal(4, 6, seed=9, scale=1)}),
    "matmul": (lambda: flat_generator("MatMul"), {"x": normal(4, 6, seed=9, scale=1)}),
    "no bias": (without_bias, images()),
}


def exact(setup: Prepared, feeds: dict[str, np.ndarray], **options: object) -> np.ndarray:
    with setup.engine(INT8, **options) as engine:
        (values,) = engine.run(feeds).values()
    return values


@pytest.mark.parametrize("name", SETUPS)
def test_the_nearest_codes_are_no_repair(name):
    make, feeds = SETUPS[name]
    setup = make()
    same = repaired(setup, setup.names)
    np.testing.assert_array_equal(exact(same, feeds), exact(setup, feeds))


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
@pytest.mark.parametrize("name", SETUPS)
def test_every_flavour_computes_with_the_repaired_codes_and_bias(name, flavour):
    make, feeds = SETUPS[name]
    setup = make()
    changed = repaired(setup, setup.names, change=1, bias=0.25)
    expected, plain = exact(changed, feeds), exact(setup, feeds)
    (values,) = run_plainly(lowered(changed, INT8, flavour).model, feeds).values()
    error = np.abs(values - expected).max()
    assert np.abs(expected - plain).max() > 0.02
    assert error < 0.1 * np.abs(expected - plain).max()


@pytest.mark.parametrize("precision", [FP16, FP32])
def test_float_layers_keep_their_weights(precision):
    setup = prepared(residual_generator())
    changed = repaired(setup, setup.names, change=3, bias=1.0)
    with setup.engine(precision) as one, changed.engine(precision) as other:
        np.testing.assert_array_equal(one.run(images())["picture"], other.run(images())["picture"])


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_a_shared_weight_is_repaired_for_one_layer_alone(flavour):
    shared = {"w": normal(3, 3, 3, 3, seed=6), "b": normal(3, seed=7)}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["h"], name="one", pads=[1] * 4),
        helper.make_node("Conv", ["h", "w", "b"], ["picture"], name="two", pads=[1] * 4),
    ]
    model = onnx_model(nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": None}, weights=shared)
    setup = repaired(prepared(model, amax=AMAX), ["two"], change=2, bias=0.5)
    expected = exact(setup, images())
    (values,) = run_plainly(lowered(setup, INT8, flavour).model, images()).values()
    # A value near the middle of two codes falls to either side where scales are FP16.
    assert np.abs(values - expected).mean() < 0.01


def test_a_plan_remembers_nothing_of_another_repair():
    setup = prepared(residual_generator(), amax=AMAX)
    before = exact(setup, images())
    changed = repaired(setup, setup.names, change=2)
    assert np.abs(exact(changed, images()) - before).max() > 0
    np.testing.assert_array_equal(exact(setup, images()), before)


def test_one_scale_for_all_channels():
    setup = prepared(residual_generator(), amax=AMAX)
    layers = {}
    for name in setup.names:
        codes, scales = nearest(setup.plan.int8_weight(name), None)
        layers[name] = RepairedLayer(codes, scales, np.zeros(codes.shape[0], np.float32))
    layers["up"] = replace(layers["up"], bias=np.zeros(8, np.float32))
    same = replace(setup, plan=setup.plan.with_repaired(layers))
    options = {"weight_scales": WeightScales.PER_TENSOR}
    np.testing.assert_array_equal(exact(same, images(), **options), exact(setup, images(), **options))
