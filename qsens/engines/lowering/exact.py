"""Flavour `exact`: what a map computes, in arithmetic that every float32 runtime gets right."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from qsens.core.precision import Precision
from qsens.engines.lowering.emit import Emitter, cast_pair
from qsens.engines.lowering.int8 import emit_int8_layer
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph
from qsens.engines.lowering.plan import PlacedMap, WeightScales
from qsens.graph.topology import moves_values

FP16_MAXIMUM = 65504.0
# A tensor is watched for FP16 overflow where calibration came within this factor of the limit: counting
# costs a pass over the tensor, and unseen inputs do not exceed calibrated extremes eightfold.
OVERFLOW_MARGIN = 8.0


def lower_exact(placed: PlacedMap) -> LoweredGraph:
    """Lower to codes, exact sums and explicit rounding.

    An INT8 layer reads integer codes held in float32, sums them exactly, and then applies scale and bias.
    An FP16 layer reads and writes values rounded to FP16 with FP16-rounded weights, summed in float32.
    An FP32 layer is left as it is. Nodes between layers compute in float32 from what the layers deliver.

    Raises:
        BuildError: for a layer whose sums float32 cannot hold even in parts.
    """
    return _ExactLowering(placed).run()


class _ExactLowering:
    """One lowering in progress: walks the nodes in order and emits their lowered form."""

    def __init__(self, placed: PlacedMap) -> None:
        self.placed = placed
        self.plan = placed.plan
        self.emitter = Emitter(self.plan.topology, self.plan.memo)
        self.rounded_results = {
            operation.result: layer
            for layer, operation in self.plan.operations.items()
            if placed.precisions[layer] is Precision.FP16
        }
        self.rounded: set[str] = set()
        self.overflow_outputs: list[tuple[str, str]] = []
        self.lost_weights: list[tuple[str, int]] = []
        self.split_layers: list[str] = []

    def run(self) -> LoweredGraph:
        for value in self.plan.graph.model.graph.input:
            self._finish_tensor(value.name, value.name)
        for node in self.plan.graph.model.graph.node:
            self._lower_node(node)
        overflow_outputs = [name for name, _ in self.overflow_outputs]
        return LoweredGraph(
            detached=self.emitter.model(self.plan.graph.model, overflow_outputs),
            flavour=Flavour.EXACT,
            requested=self.placed.map,
            graph=self.plan.graph,
            overflow_outputs=tuple(self.overflow_outputs),
            fp16_lost_weights=tuple(self.lost_weights),
            split_layers=tuple(self.split_layers),
        )

    def _lower_node(self, node: onnx.NodeProto) -> None:
        # Results that get rounded or quantized are computed under another name first, so that every
        # reader of the original name sees the rounded values.
        renamed = {name: self.emitter.made(name, "wide") for name in node.output if self._changes(name)}
        layer = self.placed.layer_of.get(node.name)
        if layer is None:
            self._emit_glue(node, renamed)
        elif self.placed.precisions[layer] is Precision.INT8:
            self._emit_int8(layer, renamed.get(node.output[0], node.output[0]))
        elif self.placed.precisions[layer] is Precision.FP16:
            self._emit_fp16(layer, node, renamed)
        else:
            # What an FP32 layer makes is neither rounded nor kept in INT8.
            self.emitter.copy(node, renamed={})
        for name in node.output:
            self._finish_tensor(name, renamed.get(name, name))
        # Rounded values that are only moved are FP16 values still: readers need no cast of their own.
        if (
            layer is None
            and moves_values(node)
            and all(
                name in self.rounded or name in self.plan.topology.initializers or not name
                for name in node.input
            )
        ):
            self.rounded.update(node.output)

    def _changes(self, tensor: str) -> bool:
        return tensor in self.rounded_results or tensor in self.placed.dense

    def _finish_tensor(self, tensor: str, wide: str) -> None:
        """Round or quantize a tensor that was just computed under the name `wide`."""
        if tensor in self.rounded_results:
            half = cast_pair(self.emitter, wide, tensor)
            self._watch(half, tensor, self.rounded_results[tensor])
            self.rounded.add(tensor)
        elif tensor in self.placed.dense:
            self.emitter.fake_quantize(tensor, wide, tensor, self.placed.grid(tensor))

    def _watch(self, half: str, tensor: str, layer: str) -> None:
        """Count overflow of an FP16 tensor, as an extra output, where calibration came near the limit.

        So too where it says nothing, because the tensor never moved.
        """
        entry = self.placed.ranges[tensor]
        is_small = max(abs(entry.minimum), abs(entry.maximum)) * OVERFLOW_MARGIN < FP16_MAXIMUM
        if is_small and not entry.never_moved:
            return
        self.overflow_outputs.append((self.emitter.count_infinite(half), layer))

    def _emit_glue(self, node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
        replaced: dict[str, str] = {}
        layer = self._fused_fp16_layer(node)
        if layer is not None and (skip := self.placed.fused_skip(node)) is not None:
            replaced[skip] = self._rounded_input(skip, layer)
        elif (skip := self.placed.quantized_skip(node)) is not None:
            replaced[skip] = self._quantized_input(skip)
        if layer is not None:
            self._replace_half_constants(layer, node, replaced)
        self.emitter.copy(node, renamed=renamed, replaced=replaced)

    def _fused_fp16_layer(self, node: onnx.NodeProto) -> str | None:
        """The FP16 layer into whose kernel this bias add or activation is fused."""
        layer = self.placed.chain_layer(node.name)
        if layer is None or self.placed.precisions[layer] is not Precision.FP16:
            return None
        return layer

    def _replace_half_constants(self, layer: str, node: onnx.NodeProto, replaced: dict[str, str]) -> None:
        for name in node.input:
            if name in self.plan.topology.initializers:
                replaced[name] = self._half_constant(layer, name)

    def _half_constant(self, layer: str, name: str) -> str:
        """The FP16-rounded twin of a float32 initializer; other types are left as they are."""
        if self.plan.topology.initializers[name].data_type != TensorProto.FLOAT:
            return name
        half, lost = self.emitter.half_constant(name)
        if lost:
            self.lost_weights.append((layer, lost))
        return self.emitter.constant(self.emitter.made(name, "fp16"), half.astype(np.float32))

    def _rounded_input(self, tensor: str, layer: str | None) -> str:
        """The tensor as the FP16 layer reads it."""
        if tensor in self.rounded or tensor in self.plan.topology.initializers:
            return tensor

        def round_and_watch(name: str) -> None:
            half = cast_pair(self.emitter, tensor, name)
            if layer is not None and tensor in self.placed.ranges:
                self._watch(half, tensor, layer)

        return self.emitter.once(self.emitter.made(tensor, "fp16"), round_and_watch)

    def _quantized_input(self, tensor: str) -> str:
        """The tensor as an INT8 operation reads it, in real units."""
        if tensor in self.placed.dense:
            return tensor
        grid = self.placed.grid(tensor)
        return self.emitter.once(
            self.emitter.made(tensor, "int8"),
            lambda name: self.emitter.fake_quantize(tensor, tensor, name, grid),
        )

    def _emit_fp16(self, layer: str, node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
        replaced = {}
        for name in node.input:
            if name in self.plan.topology.initializers:
                replaced[name] = self._half_constant(layer, name)
            elif name:
                replaced[name] = self._rounded_input(name, layer)
        self.emitter.copy(node, renamed=renamed, replaced=replaced)

    def _emit_int8(self, layer: str, output: str) -> None:
        was_split = emit_int8_layer(
            self.emitter,
            self.plan,
            layer,
            grid=self.placed.grid(self.plan.operations[layer].data),
            per_channel=self.placed.options.weight_scales is WeightScales.PER_CHANNEL,
            output=output,
        )
        if was_split:
            self.split_layers.append(layer)
