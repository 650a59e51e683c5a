from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered_models import FP16, FP32, INT8, Prepared, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.engines.lowering.plan import Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.graph.topology import Topology, fused_operations
from qsens.graph.value_ranges import proved_ranges


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def original(setup: Prepared, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = OnnxRuntimeBackend(threads=1).open_session(setup.graph.model)
    return session.run(None, feed)[0]


@settings(max_examples=5, deadline=None)
@given(channels=st.sampled_from([1, 3, 8]), count=st.integers(1, 3), placement=st.sampled_from(Placement))
def test_all_fp32_gives_the_original_output_bit_for_bit(channels, count, placement):
    setup = prepared(residual_generator(channels))
    feed = images(count, seed=count)
    with setup.engine(FP32, placement=placement) as engine:
        np.testing.assert_array_equal(engine.run(feed)["picture"], original(setup, feed))


def test_fp16_layer_rounds_operands_weights_and_result_once():
    weight, bias = normal(4, 3, 1, 1, seed=1), normal(4, seed=2)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="layer"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    model = onnx_model(
        nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"y": None}, weights={"w": weight, "b": bias}
    )
    x = normal(2, 3, 4, 4, seed=3)
    with prepared(model).engine(FP16) as engine:
        y = engine.run({"x": x})["y"]
    exact = np.einsum(
        "nchw,oc->nohw", half(x).astype(np.float64), half(weight)[:, :, 0, 0].astype(np.float64)
    )
    exact = np.maximum(exact + half(bias)[None, :, None, None], 0)
    np.testing.assert_array_equal(y, half(y))  # on the FP16 grid
    np.testing.assert_allclose(y, exact, rtol=2**-10, atol=2**-24)
    assert not np.array_equal(y, np.float32(exact))  # rounding really happened


def test_fp16_overflow_is_counted_although_the_picture_looks_fine():
    nodes = [
        helper.make_node("Conv", ["x", "loud"], ["c"], name="layer"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "quiet"], ["z"], name="other"),
        helper.make_node("Sigmoid", ["z"], ["y"], name="sigmoid"),
    ]
    weights = {
        "loud": np.full((1, 1, 1, 1), 300.0, np.float32),
        "quiet": np.full((1, 1, 1, 1), 1e-4, np.float32),
    }
    model = onnx_model(nodes, inputs={"x": ["n", 1, 2, 2]}, outputs={"y": None}, weights=weights)
    setup = prepared(model, amax=90_000.0)
    x = np.array([[[[300.0, 1.0], [250.0, 2.0]]]], np.float32)
    with setup.engine(FP16) as engine:
        assert np.isfinite(engine.run({"x": x})["y"]).all()
        assert dict(engine.fp16_overflows())["layer"] == 2
    with setup.engine(FP32) as engine:
        engine.run({"x": x})
        assert engine.fp16_overflows() == {}


def test_what_an_fp16_layer_reads_from_another_precision_is_counted_too():
    nodes = [
        helper.make_node("Conv", ["x", "loud"], ["c"], name="layer"),
        helper.make_node("Conv", ["c", "quiet"], ["y"], name="reader"),
    ]
    weights = {
        "loud": np.full((1, 1, 1, 1), 300.0, np.float32),
        "quiet": np.full((1, 1, 1, 1), 1e-4, np.float32),
    }
    model = onnx_model(nodes, inputs={"x": ["n", 1, 2, 2]}, outputs={"y": None}, weights=weights)
    x = np.array([[[[300.0, 1.0], [250.0, 2.0]]]], np.float32)
    for wide in (FP32, INT8):
        setup = prepared(model, amax=90_000.0, amaxes={"x": 300.0, "y": 9.0})
        with setup.engine({"layer": wide, "reader": FP16}) as engine:
            engine.run({"x": x})
            assert engine.fp16_overflows() == {"reader": 2}


def test_tensors_far_from_the_fp16_limit_are_not_watched():
    assert prepared(residual_generator(), amax=100.0).lower(FP16).overflow_outputs == ()
    assert prepared(residual_generator(), amax=60_000.0).lower(FP16).overflow_outputs != ()


def test_tensors_that_calibration_never_moved_are_watched():
    setup = prepared(residual_generator(), amax=1.0)
    still = tuple(
        replace(entry, minimum=0.0, maximum=0.0) if entry.tensor == "r0" else entry
        for entry in setup.ranges.tensors
    )
    setup = replace(setup, ranges=replace(setup.ranges, tensors=still))
    assert [layer for _, layer in setup.lower(FP16).overflow_outputs] == ["first"]


def test_weights_that_fp16_cannot_hold_are_reported():
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="layer")
    weight = np.array([1e5, 1.0], np.float32).reshape(2, 1, 1, 1)
    model = onnx_model([node], inputs={"x": ["n", 1, 2, 2]}, outputs={"y": None}, weights={"w": weight})
    assert prepared(model).lower(FP16).fp16_lost_weights == (("layer", 1),)


def test_mixed_map_repeats_bit_for_bit_for_the_same_batch_and_threads():
    setup = prepared(residual_generator(16))
    mixed = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    lowered = setup.lower(mixed)
    results = []
    for _ in range(2):
        with OnnxRuntimeBackend(threads=2).build(lowered) as engine:
            results.append(engine.run(images(4))["picture"])
    np.testing.assert_array_equal(*results)


def skip_values(setup: Prepared, placement: Placement) -> list[str]:
    """Operators that make the skip operand of the residual add."""
    model = setup.lower(INT8, placement=placement).model
    topology = Topology(model)
    add = topology.nodes["add"]
    return [topology.producer[name].op_type for name in add.input]


def test_placement_decides_whether_the_skip_of_a_residual_add_is_quantized():
    setup = prepared(residual_generator())
    assert "DequantizeLinear" not in skip_values(setup, Placement.INPUTS)
    assert "DequantizeLinear" in skip_values(setup, Placement.RESIDUAL)


def test_dense_quantizes_the_last_pre_activation_and_the_picture():
    setup = prepared(residual_generator(), amax=1.0)
    topology = Topology(setup.lower(INT8, placement=Placement.DENSE).model)
    assert topology.producer["picture"].op_type == "DequantizeLinear"
    sigmoid = topology.nodes["sigmoid"]
    assert topology.producer[sigmoid.input[0]].op_type == "DequantizeLinear"
    with setup.engine(INT8, placement=Placement.DENSE) as engine:
        steps = engine.run(images())["picture"] * np.float32(127)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    with setup.engine(INT8, placement=Placement.RESIDUAL) as engine:
        steps = engine.run(images())["picture"] * np.float32(127)
    assert np.abs(steps - np.rint(steps)).max() > 0.1


def test_dense_leaves_tensors_between_float_layers_alone():
    setup = prepared(residual_generator(), amax=1.0)
    mixed = dict(zip(setup.names, [INT8, INT8, INT8, INT8, FP16], strict=True))
    topology = Topology(setup.lower(mixed, placement=Placement.DENSE).model)
    assert topology.producer["picture"].op_type == "Cast"


def test_tensor_read_by_int8_and_float_layers_is_quantized_on_the_int8_edge_only():
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["ya"], name="left"),
        helper.make_node("Conv", ["x", "b"], ["yb"], name="right"),
    ]
    weights = {"a": normal(2, 3, 1, 1, seed=1), "b": normal(2, 3, 1, 1, seed=2)}
    model = onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"ya": None, "yb": None}, weights=weights)
    setup = prepared(model)
    x = {"x": normal(2, 3, 4, 4, seed=9)}
    with setup.engine({"left": INT8, "right": FP32}) as engine:
        mixed = engine.run(x)
    with setup.engine(FP32) as engine:
        plain = engine.run(x)
    np.testing.assert_array_equal(mixed["yb"], plain["yb"])
    assert not np.array_equal(mixed["ya"], plain["ya"])


def test_residual_add_belongs_to_the_later_layer_and_the_chain_ends_at_the_activation():
    graph = prepared(residual_generator()).graph
    operations = fused_operations(graph, Topology(graph.model))
    assert (operations["inner"].skip, operations["inner"].result) == ("r0", "r2")
    assert operations["first"].skip is None
    assert operations["last"].pre_activation == "c4"


@pytest.mark.parametrize(
    ("tensor", "expected"), [("r0", True), ("picture", True), ("c0", False), ("image", False)]
)
def test_non_negative_follows_from_structure(tensor, expected):
    assert proved_ranges(Topology(residual_generator()), {})[tensor].is_non_negative is expected
