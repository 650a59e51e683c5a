"""One layer between QuantizeLinear and DequantizeLinear, and what integer arithmetic makes of it.

Every scale is a power of two, so that the float result of exact sums is exact too.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper
from tiny_models import onnx_model

INPUT_SCALE = np.float32(2.0**-5)
WEIGHT_SCALE = np.float32(2.0**-6)
OUTPUT_SCALE = np.float32(2.0**3)
CHANNELS, SIDE = 32, 12


@dataclass(frozen=True)
class Probe:
    """A model whose only layer is the node `layer`, codes (int64) to feed, and the exact sums."""

    model: onnx.ModelProto
    codes: np.ndarray
    sums: np.ndarray

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {"x": self.codes.astype(np.float32) * INPUT_SCALE}

    @property
    def expected(self) -> np.ndarray:
        return (self.sums * (INPUT_SCALE * WEIGHT_SCALE)).astype(np.float32)

    @property
    def expected_rounded(self) -> np.ndarray:
        """What a quantizer behind the layer makes of it."""
        codes = np.clip(np.rint(self.expected / OUTPUT_SCALE), -128, 127)
        return (codes * OUTPUT_SCALE).astype(np.float32)


def probe(
    operator: str, *, is_signed: bool, weight_limit: int = 127, group: int = 1, is_rounded: bool = False
) -> Probe:
    """Extreme codes: activations and weights near the ends of their ranges, signs that agree by output."""
    random = np.random.default_rng(3)
    shape = (2, CHANNELS) if operator == "Gemm" else (2, CHANNELS, SIDE, SIDE)
    low = -128 if is_signed else 0
    codes = random.integers(low, 128, shape)
    weight_shape = {
        "Conv": (CHANNELS, CHANNELS // group, 3, 3),
        "ConvTranspose": (CHANNELS, CHANNELS // group, 3, 3),
        "Gemm": (CHANNELS, CHANNELS),
    }[operator]
    weight = random.integers(weight_limit - 3, weight_limit + 1, weight_shape)
    weight *= random.choice([-1, 1], weight_shape)
    sums = _SUMS[operator](codes, weight, group)
    return Probe(_model(operator, weight, group, is_signed=is_signed, is_rounded=is_rounded), codes, sums)


def _model(
    operator: str, weight: np.ndarray, group: int, *, is_signed: bool, is_rounded: bool
) -> onnx.ModelProto:
    attributes = {"group": group} if group > 1 else {}
    weights = {
        "x:scale": INPUT_SCALE,
        "x:zero": np.array(128 if is_signed else 0, np.uint8),
        "w:codes": weight.astype(np.int8),
        "w:scale": WEIGHT_SCALE,
        "w:zero": np.array(0, np.int8),
        "y:scale": OUTPUT_SCALE,
        "y:zero": np.array(128, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x:scale", "x:zero"], ["x:codes"], "x/Q"),
        helper.make_node("DequantizeLinear", ["x:codes", "x:scale", "x:zero"], ["x:real"], "x/DQ"),
        helper.make_node("DequantizeLinear", ["w:codes", "w:scale", "w:zero"], ["w"], "w/DQ"),
        helper.make_node(operator, ["x:real", "w"], ["z" if is_rounded else "y"], "layer", **attributes),
    ]
    if is_rounded:
        nodes += [
            helper.make_node("QuantizeLinear", ["z", "y:scale", "y:zero"], ["z:codes"], "z/Q"),
            helper.make_node("DequantizeLinear", ["z:codes", "y:scale", "y:zero"], ["y"], "z/DQ"),
        ]
    else:
        del weights["y:scale"], weights["y:zero"]
    sides = [] if operator == "Gemm" else [SIDE, SIDE]
    return onnx_model(
        nodes, inputs={"x": ["n", CHANNELS, *sides]}, outputs={"y": None}, weights=weights, opset=17
    )


def _convolved(codes: np.ndarray, weight: np.ndarray, group: int) -> np.ndarray:
    windows = sliding_window_view(codes, weight.shape[2:], axis=(2, 3))
    parts = zip(np.split(windows, group, axis=1), np.split(weight, group), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", data, part) for data, part in parts], axis=1)


def _transposed(codes: np.ndarray, weight: np.ndarray, group: int) -> np.ndarray:
    assert group == 1
    padded = np.pad(codes, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return _convolved(padded, weight[:, :, ::-1, ::-1].swapaxes(0, 1), 1)


def _multiplied(codes: np.ndarray, weight: np.ndarray, group: int) -> np.ndarray:
    return codes @ weight


_SUMS = {"Conv": _convolved, "ConvTranspose": _transposed, "Gemm": _multiplied}
