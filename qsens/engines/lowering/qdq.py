"""Flavours `u8`, `strong` and `weak`: quantization written as QuantizeLinear and DequantizeLinear pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.exact import FP16_MAXIMUM
from qsens.engines.lowering.int8 import LARGEST_CODE, output_channel_axis, weight_codes, weight_scales
from qsens.engines.lowering.lowered_graph import DetachedModel, Flavour, LoweredGraph
from qsens.engines.lowering.opsets import template_within
from qsens.engines.lowering.plan import Grid, PlacedMap, WeightScales
from qsens.engines.lowering.strong_types import TensorTypes, half_nodes
from qsens.graph.editable_graph import tensors_read
from qsens.graph.topology import FusedOperation, moves_or_clips

NOTE = (
    "Values beyond the calibrated range are kept up to twice that range, in uint8 codes 128 to 255, where "
    "INT8 and the scores cut them: ONNX Runtime fuses no clip into its INT8 kernels. That is closer to FP32."
)
# Smaller FP16 numbers lose digits, and the smallest are zero, which no parser takes for a scale.
SMALLEST_HALF_SCALE = 2.0**-14
# The most, as a share, that rounding to a normal FP16 number changes.
HALF_STEP = 2.0**-11
Values = np.ndarray[Any, np.dtype[Any]]


def without_tail_clips(lowered: LoweredGraph) -> LoweredGraph:
    """The same `u8` graph without the clips of its codes at 127.

    Only for runtimes that fuse no clip into an INT8 kernel, and whose uint8 sums cannot saturate. Clips of
    the generator itself stay.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(lowered.detached.skeleton)
    graph = skeleton.graph
    aliases = {node.output[0]: node.input[0] for node in graph.node if _is_tail_clip(node, graph)}
    if not aliases:
        return lowered
    kept = [node for node in graph.node if not (node.output and node.output[0] in aliases)]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = aliases.get(name, name)
    used = {name for node in kept for name in tensors_read(node)} | {value.name for value in graph.output}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)
    return replace(lowered, detached=DetachedModel(skeleton, lowered.detached.weights))


def _is_tail_clip(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """A clip of uint8 codes from above only, at the largest that INT8 has."""
    if node.op_type != "Clip" or len(node.input) != 3 or node.input[1]:
        return False
    bound = next((tensor for tensor in graph.initializer if tensor.name == node.input[2]), None)
    is_of_codes = bound is not None and bound.data_type == onnx.TensorProto.UINT8
    return is_of_codes and int(numpy_helper.to_array(bound)) == LARGEST_CODE


def half_scale(scale: Values) -> Values:
    """FP16 scales nearest to `scale`, kept within the normal range of FP16."""
    with np.errstate(over="ignore"):
        half = np.asarray(scale).astype(np.float16)
    return np.clip(half, np.float16(SMALLEST_HALF_SCALE), np.finfo(np.float16).max)


class ActivationQuantizer:
    """Emits one pair for each quantized tensor, on the grid of the map.

    `is_half`: tensor, scale and result are FP16. `has_unsigned`: codes are uint8, with zero point 0 where no
    value can be negative (codes 0 to 127, or 0 to 255 on an unsigned grid) and 128 elsewhere; the numbers
    that they stand for are the same.
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
            self.emitter.made(tensor, "int8"),
            lambda name: self._emit(tensor, self.types.name(tensor, is_half=self.is_half), name),
        )

    def keep_in_int8(self, tensor: str, wide: str) -> None:
        """Make `tensor` the grid points of its values, which were computed under the name `wide`."""
        source = self.types.name(wide, is_half=self.is_half)
        self._emit(tensor, source, self.types.result(tensor, is_half=self.is_half))

    def _emit(self, tensor: str, source: str, output: str) -> None:
        emit = self.emitter
        scale = emit.constant(emit.made(tensor, "scale"), self._scale(tensor))
        zero = self._zero_point(tensor)
        codes = emit.made(tensor, "codes")
        if self._needs_clip(tensor):
            # Behind the quantizer: in front of it, it keeps ONNX Runtime from fusing the two layers.
            wide = emit.node("QuantizeLinear", [source, scale, zero], emit.made(tensor, "wide_codes"))
            bound = emit.shared("uint8_largest", LARGEST_CODE, np.uint8)
            emit.node("Clip", [wide, "", bound], codes)
        else:
            emit.node("QuantizeLinear", [source, scale, zero], codes)
        emit.node("DequantizeLinear", [codes, scale, zero], output)

    def _scale(self, tensor: str) -> Values:
        scale = np.asarray(self.placed.grid(tensor).scale)
        return half_scale(scale) if self.is_half else scale

    def _zero_point(self, tensor: str) -> str:
        if not self.has_unsigned:
            return self.emitter.shared("int8_zero", 0, np.int8)
        if self._is_non_negative(tensor):
            return self.emitter.shared("uint8_zero", 0, np.uint8)
        return self.emitter.shared("uint8_middle", 128, np.uint8)

    def _is_non_negative(self, tensor: str) -> bool:
        """By proof: what calibration saw is no guarantee for what a device will see."""
        return self.placed.proved_range(tensor).is_non_negative

    def _needs_clip(self, tensor: str) -> bool:
        """Whether uint8 codes above 127, which INT8 does not have, could hold values that the scores cut."""
        if not self.has_unsigned or not self._is_non_negative(tensor) or self.placed.grid(tensor).is_unsigned:
            return False
        return self.placed.proved_range(tensor).high > self.placed.range_of(tensor).amax


class WeightQuantizer:
    """Emits the INT8 form of weights, -127 to 127: one scale for each output channel, or one in all.

    `is_half`: scales are FP16. `keeps_floats`: the weights stay float32, and a QuantizeLinear makes the
    codes.
    """

    def __init__(self, emitter: Emitter, placed: PlacedMap, *, is_half: bool, keeps_floats: bool) -> None:
        self.emitter = emitter
        self.plan = placed.plan
        self.granularity = placed.options.weight_scales
        self.is_half = is_half
        self.keeps_floats = keeps_floats

    def quantized(self, node: onnx.NodeProto, operation: FusedOperation) -> str:
        """The weight as the INT8 operation reads it, in real units."""
        rank = len(self.emitter.topology.initializers[operation.weight].dims)
        is_per_channel = self.granularity is WeightScales.PER_CHANNEL
        axis = output_channel_axis(node, rank) if is_per_channel else None
        # A repair is of one layer; the others that share the weight keep it.
        made = self.emitter.made
        is_repaired = operation.layer in self.plan.repaired
        weight = made(operation.layer, "repaired") if is_repaired else operation.weight
        # Layers that share a weight may have their output channels on different axes of it.
        name = weight if axis is None else made(weight, f"axis{axis}")
        return self.emitter.once(
            made(name, "int8"), lambda output: self._emit(operation.layer, weight, axis, output)
        )

    def _emit(self, layer: str, weight: str, axis: int | None, output: str) -> None:
        emit = self.emitter
        codes, scales = self._codes_and_scales(layer, axis)
        scale = emit.constant(emit.made(output, "scale"), scales)
        zero = emit.constant(emit.made(output, "zero"), np.zeros(scales.shape, np.int8))
        attributes = {} if axis is None else {"axis": axis}
        held = emit.made(output, "codes")
        if self.keeps_floats:
            if layer in self.plan.repaired:
                emit.constant(weight, self.plan.int8_weight(layer))
            emit.node("QuantizeLinear", [weight, scale, zero], held, **attributes)
        else:
            emit.constant(held, codes)
        emit.node("DequantizeLinear", [held, scale, zero], output, **attributes)

    def _codes_and_scales(self, layer: str, axis: int | None) -> tuple[Values, Values]:
        """INT8 codes like the weight, and scales: a vector along `axis`, or a scalar."""
        shape = () if axis is None else (-1,)
        key = ("codes", layer, axis, self.is_half)

        def compute() -> tuple[Values, Values]:
            values = self.plan.int8_weight(layer)
            wide = weight_scales(values, axis)
            scales = half_scale(wide) if self.is_half else wide
            # The codes that were scored serve wherever FP16 holds their scale; a scale that it cannot hold
            # gives codes of its own.
            is_held = np.abs(scales.astype(np.float32) - wide) <= wide * HALF_STEP
            codes = weight_codes(values, np.where(is_held, wide, scales.astype(np.float32)))
            return codes, scales.reshape(shape)

        return self.emitter.remembered(key, compute)


@dataclass(frozen=True)
class QdqForm:
    """The way in which a flavour writes quantization.

    `opsets` are the lowest and highest operator set it may use, `None` for the generator's own.
    `is_half` flavours hold FP16 tensors and scales. `has_unsigned` ones write non-negative activations as
    uint8. Weights are held as INT8 codes, or (`quantizes_weights`) as floats before a QuantizeLinear.
    """

    opsets: tuple[int, int] | None = None
    is_half: bool = False
    has_unsigned: bool = False
    quantizes_weights: bool = False


FORMS: Mapping[Flavour, QdqForm] = {
    Flavour.U8: QdqForm(has_unsigned=True),
    # 19 is the first operator set with FP16 scales, 20 the last one that TensorRT 10.0 reads.
    Flavour.STRONG: QdqForm(opsets=(19, 20), is_half=True),
    Flavour.WEAK: QdqForm(opsets=(17, 17), quantizes_weights=True),
}


def lower_qdq(placed: PlacedMap, flavour: Flavour) -> LoweredGraph:
    """Lower to a graph that an engine's compiler reads.

    An INT8 layer reads its operand and its weights through a pair; bias, residual add and activation follow
    without one. One pair serves all INT8 readers of a tensor, float readers read the tensor itself.

    Raises:
        BuildError: for an operator that cannot be written in the flavour's operator set, and in `strong`
            for an INT8 layer whose values pass FP16's range.
    """
    return _QdqLowering(placed, flavour).run()


class _QdqLowering:
    """One lowering in progress: walks the nodes of the template in order."""

    def __init__(self, placed: PlacedMap, flavour: Flavour) -> None:
        form = FORMS[flavour]
        if placed.options.grid is Grid.UNSIGNED and not form.has_unsigned:
            raise BuildError(
                "this target has no unsigned INT8, which this map is scored with",
                "sweep again for the target that you export to: --for NAME",
            )
        self.placed = placed
        self.flavour = flavour
        self.template = template_within(placed.plan, form.opsets)
        if form.is_half:
            _check_ranges(placed)
        self.half = half_nodes(placed, self.template) if form.is_half else frozenset[str]()
        self.emitter = Emitter(self.template.topology, placed.plan.memo)
        self.types = TensorTypes(self.emitter, self.template)
        self.activations = ActivationQuantizer(
            self.emitter, placed, self.types, is_half=form.is_half, has_unsigned=form.has_unsigned
        )
        self.weights = WeightQuantizer(
            self.emitter, placed, is_half=form.is_half, keeps_floats=form.quantizes_weights
        )

    def run(self) -> LoweredGraph:
        for node in self.template.nodes:
            self._lower_node(node)
        return LoweredGraph(
            detached=self.emitter.model(self.template.topology.model, []),
            flavour=self.flavour,
            requested=self.placed.map,
            graph=self.placed.plan.graph,
            fp16_lost_weights=tuple(self._lost_weights()),
            float_pins=tuple(self._float_pins()) if self.flavour is Flavour.WEAK else (),
        )

    def _lower_node(self, node: onnx.NodeProto) -> None:
        is_half = node.name in self.half
        node, given = self._with_repaired_bias(node, self._quantized_operands(node))
        replaced = self.types.operands(node, is_half=is_half, given=given)
        # Tensors that stay in INT8 are computed under another name first, so that all readers of theirs
        # see the grid points.
        wide = {name: self.emitter.made(name, "wide") for name in node.output if name in self.placed.dense}
        renamed = {
            name: self.types.result(wide.get(name, name), is_half=is_half) for name in node.output if name
        }
        renamed = {old: new for old, new in renamed.items() if old != new}
        self.emitter.copy(node, renamed=renamed, replaced=replaced)
        for tensor, name in wide.items():
            self.activations.keep_in_int8(tensor, name)
        self.types.finish(node.output)

    def _quantized_operands(self, node: onnx.NodeProto) -> dict[str, str]:
        layer = self.placed.layer_of.get(node.name)
        if layer is not None and self.placed.precisions[layer] is Precision.INT8:
            operation = self.placed.plan.operations[layer]
            return {
                operation.data: self.activations.quantized(operation.data),
                operation.weight: self.weights.quantized(node, operation),
            }
        skip = self.placed.quantized_skip(node)
        return {} if skip is None else {skip: self.activations.quantized(skip)}

    def _with_repaired_bias(
        self, node: onnx.NodeProto, given: dict[str, str]
    ) -> tuple[onnx.NodeProto, dict[str, str]]:
        """The node with a place for its layer's repaired bias, and `given` with that bias."""
        layer = self.placed.layer_of.get(node.name)
        if layer is None or self.placed.precisions[layer] is not Precision.INT8:
            return node, given
        plan = self.placed.plan
        bias = plan.int8_bias(layer) if layer in plan.repaired else None
        if bias is None:
            return node, given
        values = bias.astype(np.float16 if node.name in self.half else np.float32)
        held = self.emitter.constant(self.emitter.made(layer, "repaired_bias"), values)
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.input[:] = [*node.input[:2], held]
        return twin, {**given, held: held}

    def _layer_at(self, node: onnx.NodeProto) -> str | None:
        """The layer that the node is, or is fused into."""
        name = self.template.origin(node)
        return self.placed.layer_of.get(name) or self.placed.chain_layer(name)

    def _lost_weights(self) -> Iterator[tuple[str, int]]:
        for node in self.template.nodes:
            layer = self._layer_at(node)
            if layer is not None and node.name in self.types.lost:
                yield layer, self.types.lost[node.name]

    def _float_pins(self) -> Iterator[tuple[str, str]]:
        """FP16 and FP32 layers with what is fused into them, and arithmetic that `exact` does in FP32."""
        floats = self.placed.plan.topology.float_tensors
        for node in self.template.nodes:
            layer = self._layer_at(node)
            if layer is not None:
                if self.placed.precisions[layer] is not Precision.INT8:
                    yield node.name, str(self.placed.precisions[layer])
            elif not moves_or_clips(node) and not floats.isdisjoint(self.template.results_of(node)):
                yield node.name, str(Precision.FP32)


def layers_beyond_half(placed: PlacedMap) -> dict[str, str]:
    """INT8 layers whose operand or result FP16 tensors cannot hold, each with what it reaches.

    `exact` computes between layers in float32, so nothing of this shows in a score.
    """
    found: dict[str, str] = {}
    for layer, operation in placed.plan.operations.items():
        if placed.precisions[layer] is not Precision.INT8:
            continue
        result = placed.ranges[operation.result]
        reached = max(placed.range_of(operation.data).amax, abs(result.minimum), abs(result.maximum))
        if reached > FP16_MAXIMUM:
            found[layer] = f"it reads or makes values up to {reached:.3g}, which FP16 cannot hold"
    return found


def _check_ranges(placed: PlacedMap) -> None:
    for layer, reason in layers_beyond_half(placed).items():
        raise BuildError(f"layer {layer!r}: {reason}", f"keep it in FP32 with --pin {layer}=fp32")
