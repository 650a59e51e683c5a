"""Channel scales: where they may be, that float keeps its bits, and that all flavours carry them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
from flavours import QDQ_FLAVOURS, lowered, run_plainly
from lowered_models import FP16, FP32, INT8, Prepared, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.repair.channel_scales import ChannelReader, scalable_layers, scaled_plan

IMAGE = {"image": np.random.default_rng(3).random((2, 4, 8, 8), dtype=np.float32)}
PADDED = {"pads": [1, 1, 1, 1]}


def branched_generator() -> onnx.ModelProto:
    """All that channels may pass on their way: two branches, pooled, resized, concatenated, grouped, flat."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w0", "b0"], ["c0"], name="wide", **PADDED),
        node("PRelu", ["c0", "slope"], ["p0"], name="prelu"),
        node("Conv", ["p0", "w1"], ["c1"], name="grouped", group=2, **PADDED),
        node("LeakyRelu", ["c1"], ["l1"], name="leaky", alpha=0.1),
        node("MaxPool", ["l1"], ["m1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["m1", "", "scales"], ["u1"], name="resize", mode="linear"),
        node("Concat", ["p0", "u1"], ["both"], name="concat", axis=1),
        node("ConvTranspose", ["both", "w2", "b2"], ["c2"], name="up", group=2, **PADDED),
        node("Relu", ["c2"], ["r2"], name="relu"),
        node("Conv", ["r2", "w3", "b3"], ["c3"], name="last", **PADDED),
        node("Sigmoid", ["c3"], ["picture"], name="sigmoid"),
    ]
    weights = {
        "w0": normal(6, 4, 3, 3, seed=1),
        "b0": normal(6, seed=2),
        "slope": normal(6, 1, 1, seed=3),
        "w1": normal(4, 3, 3, 3, seed=4),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w2": normal(10, 3, 3, 3, seed=5),
        "b2": normal(6, seed=6),
        "w3": normal(3, 6, 3, 3, seed=7),
        "b3": normal(3, seed=8),
    }
    inputs, outputs = {"image": ["n", 4, 8, 8]}, {"picture": ["n", 3, 8, 8]}
    return onnx_model(nodes, inputs=inputs, outputs=outputs, weights=weights)


def flat_generator() -> onnx.ModelProto:
    """Gemm layers of both layouts."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], name="first", alpha=0.5, beta=2.0, transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w1"], ["y"], name="last"),
    ]
    weights = {"w0": normal(5, 6, seed=1), "b0": normal(5, seed=2), "w1": normal(5, 3, seed=3)}
    return onnx_model(nodes, inputs={"x": ["n", 6]}, outputs={"y": None}, weights=weights)


GENERATORS = {
    "branched": (branched_generator, IMAGE),
    "flat": (flat_generator, {"x": normal(3, 6, seed=9, scale=1)}),
}


def scaled(setup: Prepared) -> Prepared:
    """All layers that may be scaled, by exponents -2 to 2."""
    draw = np.random.default_rng(7)
    exponents = {
        entry.layer: draw.integers(-2, 3, entry.channels).astype(np.int8)
        for entry in scalable_layers(setup.plan)
    }
    return replace(setup, plan=scaled_plan(setup.plan, exponents))


def values_of(setup: Prepared, precision: object, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    with setup.engine(precision) as engine:
        (values,) = engine.run(feeds).values()
    return values


def test_channels_are_followed_to_the_layers_that_read_them():
    found = {entry.layer: entry for entry in scalable_layers(prepared(branched_generator()).plan)}
    assert {name: (entry.result, entry.channels) for name, entry in found.items()} == {
        "wide": ("p0", 6),
        "grouped": ("l1", 4),
        "up": ("r2", 6),
    }
    assert found["wide"].readers == (ChannelReader("grouped", 0), ChannelReader("up", 0))
    assert found["grouped"].readers == (ChannelReader("up", 6),)


@pytest.mark.parametrize("precision", [FP32, FP16])
@pytest.mark.parametrize("name", GENERATORS)
def test_float_keeps_its_bits(name, precision):
    make, feeds = GENERATORS[name]
    setup = prepared(make())
    np.testing.assert_array_equal(
        values_of(scaled(setup), precision, feeds), values_of(setup, precision, feeds)
    )


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_every_flavour_carries_the_scales(flavour):
    setup = prepared(branched_generator())
    changed = scaled(setup)
    expected, plain = values_of(changed, INT8, IMAGE), values_of(setup, INT8, IMAGE)
    (values,) = run_plainly(lowered(changed, INT8, flavour).model, IMAGE).values()
    assert np.abs(expected - plain).max() > 0.01
    assert np.abs(values - expected).max() < 0.2 * np.abs(expected - plain).max()


def test_a_skip_or_a_bend_keeps_channels_as_they_are():
    found = {entry.layer for entry in scalable_layers(prepared(residual_generator()).plan)}
    # `first` is added to `inner`, `last` ends in a Sigmoid.
    assert found == {"middle", "up"}


@pytest.mark.parametrize(
    "middle",
    [
        [helper.make_node("Sigmoid", ["c0"], ["r0"], name="bend")],
        [helper.make_node("Relu", ["c0"], ["r0"], name="relu"), helper.make_node("Exp", ["r0"], ["seen"])],
        [helper.make_node("Concat", ["c0", "c0"], ["r0"], name="tall", axis=2)],
    ],
)
def test_channels_that_something_else_needs_are_no_layers_own(middle):
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], name="first", **PADDED),
        *middle,
        helper.make_node("Conv", ["r0", "w1"], ["picture"], name="last", **PADDED),
    ]
    outputs = dict.fromkeys(("picture", *(["seen"] if "seen" in str(middle) else [])))
    weights = {"w0": normal(5, 4, 3, 3, seed=1), "w1": normal(3, 5, 3, 3, seed=2)}
    model = onnx_model(nodes, inputs={"image": ["n", 4, 8, 8]}, outputs=outputs, weights=weights)
    assert scalable_layers(prepared(model).plan) == ()


def test_a_weight_that_two_layers_share_is_not_scaled():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c0"], name="first", **PADDED),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w"], ["picture"], name="last", **PADDED),
    ]
    weights = {"w": normal(4, 4, 3, 3, seed=1)}
    model = onnx_model(nodes, inputs={"image": ["n", 4, 8, 8]}, outputs={"picture": None}, weights=weights)
    assert scalable_layers(prepared(model).plan) == ()
