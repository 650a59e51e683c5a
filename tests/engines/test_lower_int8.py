import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_arithmetic import codes_of, integer_conv, integer_deconv, weight_codes
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.int8 import EXACT_LIMIT, WeightLayout, quantize_weight, split_weight
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, Placement, WeightScales
from qsens.engines.onnxruntime import OnnxRuntimeBackend

AMAX = np.float32(3.1)


def scaled(acc: np.ndarray, scale: np.float32, weight_scales: np.ndarray, bias: np.ndarray) -> np.ndarray:
    shape = (1, -1, *([1] * (acc.ndim - 2)))
    product = acc.astype(np.float32) * (scale * weight_scales).astype(np.float32).reshape(shape)
    return product + bias.reshape(shape)


def run_one_layer(node, shape, weights, **options):
    model = onnx_model([node], inputs={"x": ["n", *shape[1:]]}, outputs={"y": None}, weights=weights)
    setup = prepared(model, amax=float(AMAX))
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32) * 2
    with setup.engine(INT8, **options) as engine:
        assert engine.applied == PrecisionMap(INT8)
        return x, engine.run({"x": x})["y"]


@settings(max_examples=12, deadline=None)
@given(
    spatial=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
    groups=st.sampled_from([1, 2, 4]),
    per_channel=st.booleans(),
)
def test_int8_conv_equals_integer_convolution(spatial, stride, pad, groups, per_channel):
    weight = normal(8, 4 // groups, *([3] * spatial), seed=1)
    bias = normal(8, seed=2)
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        name="layer",
        group=groups,
        strides=[stride] * spatial,
        pads=[pad] * (2 * spatial),
    )
    scales = WeightScales.PER_CHANNEL if per_channel else WeightScales.PER_TENSOR
    x, y = run_one_layer(node, (2, 4, *([5] * spatial)), {"w": weight, "b": bias}, weight_scales=scales)
    scale = AMAX / np.float32(127)
    codes, weight_scales = weight_codes(weight, 0 if per_channel else None)
    acc = integer_conv(codes_of(x, scale), codes, stride, pad, groups)
    np.testing.assert_array_equal(y, scaled(acc, scale, weight_scales, bias))


def test_int8_transposed_conv_equals_integer_scatter_with_one_weight_scale():
    weight, bias = normal(4, 6, 3, 3, seed=4), normal(6, seed=5)
    node = helper.make_node(
        "ConvTranspose",
        ["x", "w", "b"],
        ["y"],
        name="up",
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    )
    x, y = run_one_layer(node, (2, 4, 5, 5), {"w": weight, "b": bias})
    scale = AMAX / np.float32(127)
    codes, weight_scales = weight_codes(weight, None)
    acc = integer_deconv(codes_of(x, scale), codes, 2, 1, 1)
    np.testing.assert_array_equal(y, scaled(acc, scale, weight_scales, bias))


@pytest.mark.parametrize("transposed", [0, 1])
def test_int8_gemm_equals_integer_product(transposed):
    weight, bias = normal(7, 5, seed=6), normal(5, seed=7)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="linear", transB=transposed)
    stored = weight.T.copy() if transposed else weight
    x, y = run_one_layer(node, (3, 7), {"w": stored, "b": bias})
    scale = AMAX / np.float32(127)
    codes, weight_scales = weight_codes(weight, 1)
    np.testing.assert_array_equal(y, scaled(codes_of(x, scale) @ codes, scale, weight_scales, bias))


def test_int8_matmul_equals_integer_product():
    weight = normal(6, 5, seed=8)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="linear")
    x, y = run_one_layer(node, (2, 4, 6), {"w": weight})
    scale = AMAX / np.float32(127)
    codes, weight_scales = weight_codes(weight, 1)
    acc = codes_of(x, scale) @ codes
    np.testing.assert_array_equal(y, acc.astype(np.float32) * (scale * weight_scales).astype(np.float32))


def test_sums_beyond_float32_are_split_and_stay_exact():
    # Every product has the same sign and the largest size: 1,500 of them pass 2^24.
    weight = np.full((2, 1500, 1, 1), 1.0, np.float32)
    weight[1, ::2] = -1.0
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="wide")
    model = onnx_model([node], inputs={"x": ["n", 1500, 2, 2]}, outputs={"y": None}, weights={"w": weight})
    setup = prepared(model, amax=1.0)
    lowered = setup.lower(INT8)
    assert lowered.split_layers == ("wide",)
    x = np.full((1, 1500, 2, 2), 1.0, np.float32)
    x[0, ::7] = 0.501
    with OnnxRuntimeBackend(threads=1).build(lowered) as engine:
        assert engine.applied == PrecisionMap(INT8)
        y = engine.run({"x": x})["y"]
    scale = np.float32(1) / np.float32(127)
    acc = integer_conv(codes_of(x, scale), (weight * 127).astype(np.int64), 1, 0, 1)
    assert np.abs(acc).max() >= EXACT_LIMIT
    np.testing.assert_array_equal(y, acc.astype(np.float32) * (scale * scale))


@given(
    fan_in=st.integers(1, 40),
    outputs=st.integers(1, 4),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_parts_of_a_split_weight_add_up_and_stay_below_the_limit(fan_in, outputs, groups, seed):
    codes = np.random.default_rng(seed).integers(-127, 128, (outputs, fan_in, 30, 30)).astype(np.int8)
    layout = WeightLayout(fan_in=1, output=0, data_axis=1, groups=groups)
    parts = split_weight(codes, layout, (-128, 127), node_name="layer")
    whole = np.zeros(codes.shape, np.int64)
    for part in parts:
        run = slice(part.start, part.stop)
        whole[:, run] += part.codes[:, run] if part.codes.shape == codes.shape else part.codes
        assert np.abs(part.codes.astype(np.int64)).sum(axis=(1, 2, 3)).max() * 128 < EXACT_LIMIT
    np.testing.assert_array_equal(whole, codes)


def test_one_input_channel_that_alone_passes_the_limit_is_refused():
    codes = np.full((1, 1, 40, 40), 127, np.int8)
    with pytest.raises(BuildError, match="one input channel of 'huge' alone"):
        split_weight(codes, WeightLayout(1, 0, 1, 1), (-128, 127), node_name="huge")


def test_zero_weight_channel_has_scale_one():
    codes, scales = quantize_weight(np.zeros((2, 3), np.float32), axis=0)
    assert not codes.any()
    np.testing.assert_array_equal(scales, [1.0, 1.0])


@pytest.mark.parametrize("placement", list(Placement))
def test_all_int8_is_bit_identical_for_any_batch_and_threads(placement):
    setup = prepared(residual_generator(channels=16), amax=2.0)
    lowered = setup.lower(INT8, placement=placement)
    feed = images(8)
    results = []
    for threads, batch in ((1, 8), (2, 8), (1, 1), (2, 3)):
        with OnnxRuntimeBackend(threads=threads).build(lowered) as engine:
            parts = [
                engine.run({"image": feed["image"][i : i + batch]})["picture"] for i in range(0, 8, batch)
            ]
        results.append(np.concatenate(parts))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_map_with_an_unknown_layer_is_refused():
    setup = prepared(residual_generator())
    with pytest.raises(BuildError, match="'outro'"):
        lower_graph(setup.plan, PrecisionMap(FP32, (("outro", INT8),)), setup.ranges, LoweringOptions())


def test_lowering_is_pure():
    setup = prepared(residual_generator())
    before = setup.graph.model.SerializeToString(deterministic=True)
    mixed = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    first = setup.lower(mixed, placement=Placement.DENSE).model.SerializeToString(deterministic=True)
    second = setup.lower(mixed, placement=Placement.DENSE).model.SerializeToString(deterministic=True)
    assert first == second
    assert setup.graph.model.SerializeToString(deterministic=True) == before
