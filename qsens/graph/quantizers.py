"""QuantizeLinear and DequantizeLinear pairs: of activations, and of weights."""

from typing import Any

import numpy as np
import onnx

from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.int8 import output_channel_axis, weight_codes, weight_scales
from qsens.engines.lowering.plan import WeightScales
from qsens.graph.placed_map import PlacedMap
from qsens.graph.tensor_types import TensorTypes
from qsens.graph.topology import FusedOperation, is_non_negative

# Smaller FP16 numbers lose digits, and the smallest are zero, which no parser takes for a scale.
SMALLEST_HALF_SCALE = 2.0**-14
HALF_STEP = 2.0**-11
Values = np.ndarray[Any, np.dtype[Any]]


def half_scale(scale: Values) -> Values:
    """FP16 scales nearest to `scale`, kept within the normal range of FP16."""
    with np.errstate(over="ignore"):
        half = np.asarray(scale).astype(np.float16)
    return np.clip(half, np.float16(SMALLEST_HALF_SCALE), np.finfo(np.float16).max)


class ActivationQuantizer:
    """Emits one pair for each quantized tensor, on TensorRT's grid: symmetric, scale amax / 127.

    `is_half`: tensor, scale and result are FP16. `has_unsigned`: codes are uint8, with zero point 0 where no
    value is negative (codes 0 to 127) and 128 elsewhere; the numbers that they stand for are the same.
    """

    def __init__(
        self,
        emitter: Emitter,
        placed: PlacedMap,
        types: TensorTypes,
        *,
        is_half: bool,
        has_unsigned: bool,
    ) -> None:
        self.emitter = emitter
        self.placed = placed
        self.types = types
        self.is_half = is_half
        self.has_unsigned = has_unsigned

    def quantized(self, tensor: str) -> str:
        """The tensor as an INT8 operation reads it, in real units."""
        if tensor in self.placed.dense:
            return self.types.name(tensor, is_half=self.is_half)
        return self.emitter.once(
            f"{tensor}:int8",
            lambda name: self._emit(tensor, self.types.name(tensor, is_half=self.is_half), name),
        )

    def keep_in_int8(self, tensor: str, wide: str) -> None:
        """Make `tensor` the grid points of its values, which were computed under the name `wide`."""
        source = self.types.name(wide, is_half=self.is_half)
        self._emit(tensor, source, self.types.result(tensor, is_half=self.is_half))

    def _emit(self, tensor: str, source: str, output: str) -> None:
        emit = self.emitter
        scale = emit.constant(f"{tensor}:scale", self._scale(tensor))
        zero = self._zero_point(tensor)
        codes = f"{tensor}:codes"
        if self._needs_clip(tensor):
            # Behind the quantizer: in front of it, it keeps ONNX Runtime from fusing the two layers.
            wide = emit.node("QuantizeLinear", [source, scale, zero], f"{tensor}:wide_codes")
            bound = emit.constant("qsens:uint8_largest", np.full((), 127, np.uint8))
            emit.node("Clip", [wide, "", bound], codes)
        else:
            emit.node("QuantizeLinear", [source, scale, zero], codes)
        emit.node("DequantizeLinear", [codes, scale, zero], output)

    def _scale(self, tensor: str) -> Values:
        scale = np.asarray(self.placed.scale(tensor))
        return half_scale(scale) if self.is_half else scale

    def _zero_point(self, tensor: str) -> str:
        if not self.has_unsigned:
            return self.emitter.constant("qsens:int8_zero", np.zeros((), np.int8))
        if self._is_non_negative(tensor):
            return self.emitter.constant("qsens:uint8_zero", np.zeros((), np.uint8))
        return self.emitter.constant("qsens:uint8_middle", np.full((), 128, np.uint8))

    def _is_non_negative(self, tensor: str) -> bool:
        """By the graph's structure; what no layer has touched, by what calibration saw (pictures)."""
        plan = self.placed.plan
        tensor = self.placed.dense.get(tensor, tensor)
        if is_non_negative(tensor, plan.topology):
            return True
        return not plan.sources.get(tensor) and self.placed.ranges[tensor].minimum >= 0

    def _needs_clip(self, tensor: str) -> bool:
        """Whether uint8 codes above 127, which INT8 does not have, would hold values that calibration cut."""
        if not self.has_unsigned or not self._is_non_negative(tensor):
            return False
        seen = self.placed.range_of(tensor)
        return seen.maximum > seen.amax


class WeightQuantizer:
    """Emits the INT8 form of weights, -127 to 127: one scale for each output channel, or one in all.

    `is_half`: scales are FP16. `keeps_floats`: the weights stay float32, and a QuantizeLinear makes the
    codes.
    """

    def __init__(
        self, emitter: Emitter, granularity: WeightScales, *, is_half: bool, keeps_floats: bool
    ) -> None:
        self.emitter = emitter
        self.granularity = granularity
        self.is_half = is_half
        self.keeps_floats = keeps_floats

    def quantized(self, node: onnx.NodeProto, operation: FusedOperation) -> str:
        """The weight as the INT8 operation reads it, in real units."""
        rank = len(self.emitter.topology.initializers[operation.weight].dims)
        is_per_channel = self.granularity is WeightScales.PER_CHANNEL
        axis = output_channel_axis(node, rank) if is_per_channel else None
        name = operation.weight if axis is None else f"{operation.weight}:axis{axis}"
        return self.emitter.once(f"{name}:int8", lambda output: self._emit(operation.weight, axis, output))

    def _emit(self, weight: str, axis: int | None, output: str) -> None:
        emit = self.emitter
        codes, scales = self._codes_and_scales(weight, axis, output)
        scale = emit.constant(f"{output}:scale", scales)
        zero = emit.constant(f"{output}:zero", np.zeros(scales.shape, np.int8))
        attributes = {} if axis is None else {"axis": axis}
        if self.keeps_floats:
            held = emit.node("QuantizeLinear", [weight, scale, zero], f"{output}:codes", **attributes)
        else:
            held = emit.constant(f"{output}:codes", codes)
        emit.node("DequantizeLinear", [held, scale, zero], output, **attributes)

    def _codes_and_scales(self, weight: str, axis: int | None, output: str) -> tuple[Values, Values]:
        """INT8 codes like the weight, and scales: a vector along `axis`, or a scalar."""
        shape = () if axis is None else (-1,)
        key = f"{output}:{self.is_half}"

        def compute() -> tuple[Values, Values]:
            values = self.emitter.topology.constant(weight)
            wide = weight_scales(values, axis)
            scales = half_scale(wide) if self.is_half else wide
            # The codes that were scored serve wherever FP16 holds their scale; a scale that it cannot hold
            # gives codes of its own.
            is_held = np.abs(scales.astype(np.float32) - wide) <= wide * HALF_STEP
            codes = weight_codes(values, np.where(is_held, wide, scales.astype(np.float32)))
            return codes, scales.reshape(shape)

        return self.emitter.remembered(key, compute)
