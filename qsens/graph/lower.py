"""Lowering: graph, precision map, ranges and options to the ONNX graph that is scored. A pure function."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qsens.errors import BuildError
from qsens.graph.detached import DetachedModel
from qsens.graph.emit import Emitter, cast_pair
from qsens.graph.graph import Graph
from qsens.graph.int8 import emit_int8_layer
from qsens.graph.lowering_plan import LoweringOptions, LoweringPlan, Placement, WeightScales
from qsens.graph.topology import FusedOperation, moves_values
from qsens.precision import Precision, PrecisionMap
from qsens.ranges import Ranges

FP16_MAXIMUM = 65504.0
# A tensor is watched for FP16 overflow where calibration came within this factor of the limit: counting
# costs a pass over the tensor, and unseen inputs do not exceed calibrated extremes eightfold.
OVERFLOW_MARGIN = 8.0


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """The graph a backend builds, and how to read layers and overflow counts back from it.

    `detached` keeps the name of every weighted node. `overflow_outputs` maps an extra graph output (float32
    scalar: values that FP16 could not hold) to its layer. `fp16_lost_weights` counts weights per layer
    that FP16 cannot hold. `split_layers` had an accumulator bound of 2^24 or more and were summed in float64.
    """

    detached: DetachedModel
    flavour: str
    requested: PrecisionMap
    graph: Graph
    overflow_outputs: tuple[tuple[str, str], ...] = ()
    fp16_lost_weights: tuple[tuple[str, int], ...] = ()
    split_layers: tuple[str, ...] = ()

    @property
    def model(self) -> onnx.ModelProto:
        """The graph with its weights, made anew at every access."""
        return self.detached.attached()


def lower_graph(
    plan: LoweringPlan, precision_map: PrecisionMap, ranges: Ranges, options: LoweringOptions
) -> LoweredGraph:
    """The `exact` flavour: what the map computes, in arithmetic that every float32 runtime gets right.

    An INT8 layer reads integer codes held in float32, sums them exactly, and then applies scale and bias.
    An FP16 layer reads and writes values rounded to FP16 with FP16-rounded weights, summed in float32.
    An FP32 layer is left as it is. Nodes between layers compute in float32 from what the layers deliver.

    Raises:
        BuildError: for a map that names an unknown layer or a precision that a layer does not allow.
    """
    _check_map(plan.graph, precision_map)
    return _Lowering(plan, precision_map, ranges, options).run()


def _check_map(graph: Graph, precision_map: PrecisionMap) -> None:
    if precision_map == PrecisionMap(Precision.FP32):
        return  # what all maps are compared with, also where layers are pinned to something else
    known = {layer.name: layer for layer in graph.layers}
    for name, _ in precision_map.overrides:
        if name not in known:
            raise BuildError(f"the map names layer {name!r}, which the graph does not have")
    for layer in graph.layers:
        if precision_map[layer.name] not in layer.allowed:
            allowed = ", ".join(sorted(layer.allowed))
            raise BuildError(
                f"layer {layer.name!r} cannot run in {precision_map[layer.name]}", f"it allows {allowed}"
            )


class _Lowering:
    """One lowering in progress: walks the nodes in order and emits their lowered form."""

    def __init__(
        self, plan: LoweringPlan, precision_map: PrecisionMap, ranges: Ranges, options: LoweringOptions
    ) -> None:
        self.plan = plan
        self.map = precision_map
        self.ranges = ranges
        self.options = options
        self.emitter = Emitter(plan.topology, plan.memo)
        self.layer_of = {layer.node: layer.name for layer in plan.graph.layers}
        precision_of_result = {
            operation.result: (operation, precision_map[operation.layer])
            for operation in plan.operations.values()
        }
        self.rounded_results = {
            result: operation.layer
            for result, (operation, precision) in precision_of_result.items()
            if precision is Precision.FP16
        }
        self.dense_scales = self._dense_scales()
        self.skip_readers = self._skip_readers()
        self.rounded: set[str] = set()
        self.overflow_outputs: list[tuple[str, str]] = []
        self.lost_weights: list[tuple[str, int]] = []
        self.split_layers: list[str] = []

    def _dense_scales(self) -> dict[str, np.float32]:
        """Scale of every tensor that this map keeps in INT8 under `dense` placement."""
        if self.options.placement is not Placement.DENSE:
            return {}
        return {
            tensor: self._scale(source)
            for tensor, source in self.plan.dense.items()
            if (layers := self.plan.sources.get(tensor, frozenset()))
            and all(self.map[layer] is Precision.INT8 for layer in layers)
        }

    def _skip_readers(self) -> dict[str, tuple[str, Precision]]:
        """Residual adds by node name: the skip tensor and the precision of the layer that fuses it."""
        readers = {}
        for operation in self.plan.operations.values():
            if operation.skip is None:
                continue
            add = next(
                node
                for node in self.plan.topology.consumers[operation.skip]
                if node.op_type == "Add" and self._is_inside(node, operation)
            )
            readers[add.name] = (operation.skip, self.map[operation.layer])
        return readers

    def _is_inside(self, node: onnx.NodeProto, operation: FusedOperation) -> bool:
        tensor = self.plan.topology.nodes[operation.node].output[0]
        while tensor != operation.result:
            reader = self.plan.topology.consumers[tensor][0]
            if reader.name == node.name:
                return True
            tensor = reader.output[0]
        return False

    def _scale(self, tensor: str) -> np.float32:
        return np.float32(self.ranges[tensor].amax) / np.float32(127)

    def run(self) -> LoweredGraph:
        for value in self.plan.graph.model.graph.input:
            self._finish_tensor(value.name, value.name)
        for node in self.plan.graph.model.graph.node:
            self._lower_node(node)
        overflow_outputs = [name for name, _ in self.overflow_outputs]
        return LoweredGraph(
            detached=self.emitter.model(self.plan.graph.model, overflow_outputs),
            flavour="exact",
            requested=self.map,
            graph=self.plan.graph,
            overflow_outputs=tuple(self.overflow_outputs),
            fp16_lost_weights=tuple(self.lost_weights),
            split_layers=tuple(self.split_layers),
        )

    def _lower_node(self, node: onnx.NodeProto) -> None:
        # Results that get rounded or quantized are computed under another name first, so that every
        # reader of the original name sees the rounded values.
        renamed = {name: f"{name}:wide" for name in node.output if self._changes(name)}
        layer = self.layer_of.get(node.name)
        if layer is None:
            self._emit_glue(node, renamed)
        elif self.map[layer] is Precision.INT8:
            self._emit_int8(layer, node, renamed)
        elif self.map[layer] is Precision.FP16:
            self._emit_fp16(layer, node, renamed)
        else:
            self.emitter.copy(node, renamed={})
        for name in node.output:
            self._finish_tensor(name, renamed.get(name, name))
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
        return tensor in self.rounded_results or tensor in self.dense_scales

    def _finish_tensor(self, tensor: str, wide: str) -> None:
        """Round or quantize a tensor that was just computed under the name `wide`."""
        if tensor in self.rounded_results:
            half = cast_pair(self.emitter, wide, tensor)
            self._watch(half, tensor, self.rounded_results[tensor])
            self.rounded.add(tensor)
        elif tensor in self.dense_scales:
            self.emitter.fake_quantize(tensor, wide, tensor, self.dense_scales[tensor])

    def _watch(self, half: str, tensor: str, layer: str) -> None:
        """Count overflow of an FP16 tensor, as an extra output, where calibration came near the limit."""
        entry = self.ranges[tensor]
        if max(abs(entry.minimum), abs(entry.maximum)) * OVERFLOW_MARGIN < FP16_MAXIMUM:
            return
        self.overflow_outputs.append((self.emitter.count_infinite(half), layer))

    def _emit_glue(self, node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
        replaced: dict[str, str] = {}
        if node.name in self.skip_readers:
            skip, precision = self.skip_readers[node.name]
            if precision is Precision.FP16:
                replaced[skip] = self._rounded_input(skip, self._fused_fp16_layer(node))
            elif precision is Precision.INT8 and self.options.placement is not Placement.INPUTS:
                replaced[skip] = self._quantized_input(skip)
        if layer := self._fused_fp16_layer(node):
            self._replace_half_constants(layer, node, replaced)
        self.emitter.copy(node, renamed=renamed, replaced=replaced)

    def _fused_fp16_layer(self, node: onnx.NodeProto) -> str | None:
        """The FP16 layer into whose kernel this bias add or activation is fused."""
        layers = self.plan.sources.get(node.output[0], frozenset()) if node.output else frozenset()
        for name in layers:
            operation = self.plan.operations[name]
            if self.map[name] is Precision.FP16 and self._is_inside(node, operation):
                return name
        return None

    def _replace_half_constants(self, layer: str, node: onnx.NodeProto, replaced: dict[str, str]) -> None:
        for name in node.input:
            if name in self.plan.topology.initializers:
                replaced[name] = self._half_constant(layer, name)

    def _half_constant(self, layer: str, name: str) -> str:
        """The FP16-rounded twin of a float32 initializer; other types are left as they are."""
        if self.plan.topology.initializers[name].data_type != TensorProto.FLOAT:
            return name
        half, lost = self.emitter.remembered(
            f"{name}:fp16", lambda: _half_and_lost(self.plan.topology.constant(name))
        )
        if lost:
            self.lost_weights.append((layer, lost))
        return self.emitter.constant(f"{name}:fp16", half.astype(np.float32))

    def _rounded_input(self, tensor: str, layer: str | None) -> str:
        """The tensor as the FP16 layer reads it."""
        if tensor in self.rounded or tensor in self.plan.topology.initializers:
            return tensor

        def round_and_watch(name: str) -> None:
            half = cast_pair(self.emitter, tensor, name)
            if layer is not None and tensor in self.ranges:
                self._watch(half, tensor, layer)

        return self.emitter.once(f"{tensor}:fp16", round_and_watch)

    def _quantized_input(self, tensor: str) -> str:
        """The tensor as an INT8 operation reads it, in real units."""
        if tensor in self.dense_scales:
            return tensor
        scale = self._scale(tensor)
        return self.emitter.once(
            f"{tensor}:int8", lambda name: self.emitter.fake_quantize(tensor, tensor, name, scale)
        )

    def _emit_fp16(self, layer: str, node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
        replaced = {}
        for name in node.input:
            if name in self.plan.topology.initializers:
                replaced[name] = self._half_constant(layer, name)
            elif name:
                replaced[name] = self._rounded_input(name, layer)
        self.emitter.copy(node, renamed=renamed, replaced=replaced)

    def _emit_int8(self, layer: str, node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
        operation = self.plan.operations[layer]
        scale = self.dense_scales.get(operation.data)
        if scale is None:
            scale = self._scale(operation.data)
        was_split = emit_int8_layer(
            self.emitter,
            node,
            operation,
            scale=scale,
            per_channel=self.options.weight_scales is WeightScales.PER_CHANNEL,
            output=renamed.get(node.output[0], node.output[0]),
        )
        if was_split:
            self.split_layers.append(layer)


def _half_and_lost(value: np.ndarray[Any, np.dtype[Any]]) -> tuple[np.ndarray[Any, np.dtype[Any]], int]:
    """FP16 values, and how many finite ones became infinite."""
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half, int(np.count_nonzero(np.isinf(half) & np.isfinite(value)))
