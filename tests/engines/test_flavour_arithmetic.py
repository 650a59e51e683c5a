"""Single layers of every deployment flavour against integer arithmetic."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from flavours import QDQ_FLAVOURS, constants, lowered, run_plainly
from integer_arithmetic import codes_of, integer_conv, integer_deconv, weight_codes
from lowered_models import INT8, Prepared, prepared
from onnx import helper
from tiny_models import normal, onnx_model

AMAX = np.float32(3.1)
SCALE = AMAX / np.float32(127)
SMALLEST_HALF_SCALE = np.float32(2.0**-14)


@dataclass(frozen=True)
class Probe:
    """One weighted node over `d`; `axis` is that of the output channels of `weight`, `None` for one scale."""

    operator: str
    shape: tuple[int, ...]
    weight: np.ndarray
    axis: int | None
    attributes: dict[str, object]
    bias: np.ndarray | None = None

    def sums(self, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
        if self.operator == "Conv":
            return integer_conv(codes, weight, 2, 1, int(self.attributes.get("group", 1)))
        if self.operator == "ConvTranspose":
            return integer_deconv(codes, weight, 2, 1, 1)
        return codes @ (weight.T if self.attributes.get("transB") else weight)

    def scaled(self, sums: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Float64 outputs for accumulators, one weight scale a channel or one in all."""
        is_spatial = self.operator.startswith("Conv")
        shape = (1, -1, 1, 1) if is_spatial else (-1,)
        bias = np.zeros(1) if self.bias is None else self.bias.astype(np.float64)
        return sums * np.float64(scales).reshape(shape) + bias.reshape(shape)


def spoilt(weight: np.ndarray, axis: int | None) -> np.ndarray:
    """One output channel of zeros and one whose scale FP16 cannot hold."""
    if axis is not None:
        moved = np.moveaxis(weight, axis, 0)
        moved[0] = 0.0
        moved[1] *= 0.004 / np.abs(moved[1]).max()
    return weight


PROBES = {
    "conv": Probe(
        "Conv",
        (2, 4, 7, 7),
        spoilt(normal(6, 4, 3, 3, seed=1), 0),
        0,
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
        normal(6, seed=2),
    ),
    "grouped": Probe(
        "Conv",
        (2, 4, 7, 7),
        spoilt(normal(8, 2, 3, 3, seed=3), 0),
        0,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 2},
        normal(8, seed=4),
    ),
    "transposed": Probe(
        "ConvTranspose",
        (2, 4, 5, 5),
        normal(4, 6, 3, 3, seed=5),
        None,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        normal(6, seed=6),
    ),
    "gemm": Probe("Gemm", (3, 7), spoilt(normal(7, 5, seed=7), 1), 1, {}, normal(5, seed=8)),
    "gemm-b": Probe("Gemm", (3, 7), spoilt(normal(5, 7, seed=7), 0), 0, {"transB": 1}, normal(5, seed=8)),
    "matmul": Probe("MatMul", (2, 4, 6), spoilt(normal(6, 5, seed=9), 1), 1, {}),
}


def setup_of(probe: Probe, *, is_non_negative: bool, maximum: float) -> Prepared:
    first = "Relu" if is_non_negative else "LeakyRelu"
    inputs = ["d", "w", "b"] if probe.bias is not None else ["d", "w"]
    nodes = [
        helper.make_node(first, ["x"], ["d"], name="before"),
        helper.make_node(probe.operator, inputs, ["y"], name="layer", **probe.attributes),
    ]
    weights = {"w": probe.weight} | ({} if probe.bias is None else {"b": probe.bias})
    model = onnx_model(nodes, inputs={"x": ["n", *probe.shape[1:]]}, outputs={"y": None}, weights=weights)
    setup = prepared(model, amax=float(AMAX))
    entries = tuple(replace(entry, maximum=maximum) for entry in setup.ranges.tensors)
    return replace(setup, ranges=replace(setup.ranges, tensors=entries))


def samples(shape: tuple[int, ...], *, is_non_negative: bool) -> np.ndarray:
    """Values on both sides of the calibrated range."""
    x = (np.random.default_rng(3).standard_normal(shape) * 2).astype(np.float32)
    return np.abs(x) if is_non_negative else np.where(x < 0, x * 100, x).astype(np.float32)


@pytest.mark.parametrize("flavour", ["u8", "weak"])
@pytest.mark.parametrize("is_non_negative", [True, False])
@pytest.mark.parametrize("name", PROBES)
def test_float32_scales_give_the_codes_and_sums_of_integer_arithmetic(name, is_non_negative, flavour):
    probe = PROBES[name]
    setup = setup_of(probe, is_non_negative=is_non_negative, maximum=9.0)
    x = samples(probe.shape, is_non_negative=is_non_negative)
    model = lowered(setup, INT8, flavour).model
    got = run_plainly(model, {"x": x}, ("d", "d:codes"))
    zero = 128 if flavour == "u8" and not is_non_negative else 0
    codes = codes_of(got["d"], SCALE)
    assert codes.max() == 127  # the samples reach the end of the grid
    np.testing.assert_array_equal(got["d:codes"].astype(np.int64) - zero, codes)
    weight, scales = weight_codes(probe.weight, probe.axis)
    expected = probe.scaled(probe.sums(codes, weight), SCALE * scales)
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("is_non_negative", [True, False])
@pytest.mark.parametrize("name", PROBES)
def test_strong_gives_integer_arithmetic_with_scales_rounded_to_fp16(name, is_non_negative):
    probe = PROBES[name]
    setup = setup_of(probe, is_non_negative=is_non_negative, maximum=9.0)
    x = samples(probe.shape, is_non_negative=is_non_negative).astype(np.float16).astype(np.float32)
    model = lowered(setup, INT8, "strong").model
    scale = np.float32(np.float16(SCALE))
    weight, scales = strong_weight(probe)
    np.testing.assert_array_equal(held_codes(model), weight)
    got = run_plainly(model, {"x": x}, ("d", "d:codes"))
    codes = codes_of(got["d"].astype(np.float32), scale)
    np.testing.assert_array_equal(got["d:codes"], codes)
    expected = probe.scaled(probe.sums(codes, weight), scale * scales)
    # The runtime dequantizes both operands to FP16 before it multiplies them.
    reach = probe.scaled(probe.sums(np.abs(codes), np.abs(weight)), scale * scales)
    assert (np.abs(got["y"] - expected) <= 2.0**-9 * np.abs(reach) + 2.0**-10).all()


def strong_weight(probe: Probe) -> tuple[np.ndarray, np.ndarray]:
    codes, scales = weight_codes(probe.weight, probe.axis)
    is_tiny = scales < SMALLEST_HALF_SCALE
    clamped = np.where(is_tiny, SMALLEST_HALF_SCALE, np.float16(scales).astype(np.float32))
    if probe.axis is not None:
        along = [-1 if axis == probe.axis else 1 for axis in range(codes.ndim)]
        tiny_codes = np.rint(probe.weight / SMALLEST_HALF_SCALE).astype(np.int64)
        assert tiny_codes[np.broadcast_to(is_tiny.reshape(along), codes.shape)].any()
        codes = np.where(is_tiny.reshape(along), tiny_codes, codes)
    return codes, clamped


def held_codes(model) -> np.ndarray:
    return next(value for name, value in constants(model).items() if name.endswith(":int8:codes"))


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
@pytest.mark.parametrize("name", PROBES)
def test_scales_are_positive_and_normal_and_one_a_channel(name, flavour):
    probe = PROBES[name]
    setup = setup_of(probe, is_non_negative=True, maximum=3.1)
    model = lowered(setup, INT8, flavour).model
    held = constants(model)
    scales = {key: value for key, value in held.items() if key.endswith(":scale")}
    assert len(scales) == 2
    for value in scales.values():
        assert value.dtype == (np.float16 if flavour == "strong" else np.float32)
        assert (value >= np.finfo(value.dtype).tiny).all()
    channels = () if probe.axis is None else (probe.weight.shape[probe.axis],)
    assert sorted(value.shape for value in scales.values()) == sorted([(), channels])
    axes = {
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type.endswith("Linear") and attribute.name == "axis"
    }
    assert axes == (set() if probe.axis is None else {probe.axis})
