"""`LoweringPlan`: options and an analysis of the graph; a map placed on it says where tensors are rounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from qsens.calibration.measure import Observer
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.precision import Precision, PrecisionMap
from qsens.graph.graph import Graph
from qsens.graph.topology import (
    FusedOperation,
    Topology,
    dense_tensors,
    fused_chain,
    fused_operations,
    nearest_layers,
)


class Placement(StrEnum):
    """The tensors that an INT8 layer quantizes besides its weights (design section 6)."""

    INPUTS = "inputs"
    RESIDUAL = "residual"
    DENSE = "dense"


class WeightScales(StrEnum):
    """Granularity of the symmetric weight scales; transposed convolutions are always per tensor."""

    PER_CHANNEL = "per-channel"
    PER_TENSOR = "per-tensor"


@dataclass(frozen=True)
class LoweringOptions:
    """Options of lowering that are fixed for a whole sweep."""

    placement: Placement = Placement.RESIDUAL
    weight_scales: WeightScales = WeightScales.PER_CHANNEL


@dataclass(frozen=True, eq=False)
class LoweringPlan:
    """Everything about a graph that does not depend on the map; made once, shared by all maps of a sweep."""

    graph: Graph
    topology: Topology
    operations: Mapping[str, FusedOperation]
    sources: Mapping[str, frozenset[str]]
    dense: Mapping[str, str]
    memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graph: Graph) -> "LoweringPlan":
        """Analyse `graph`."""
        topology = Topology(graph.model)
        operations = fused_operations(graph, topology)
        dense = dense_tensors(operations.values(), topology)
        return cls(graph, topology, operations, nearest_layers(graph, topology), dense)

    @cached_property
    def chains(self) -> Mapping[str, str]:
        """The layer whose fused operation a node is part of, by node name; weighted nodes are left out."""
        return {
            node.name: operation.layer
            for operation in self.operations.values()
            for node in fused_chain(operation, self.topology)
        }

    def calibrated_tensors(self, placement: Placement) -> tuple[str, ...]:
        """Tensors whose ranges `lower_graph` may ask for, in order of first use."""
        names: list[str] = []
        for operation in self.operations.values():
            names += [operation.data, operation.result]
            if operation.skip is not None and placement is not Placement.INPUTS:
                names.append(operation.skip)
        if placement is Placement.DENSE:
            names += self.dense.keys()
            names += self.dense.values()
        return tuple(dict.fromkeys(names))

    def observer(self, placement: Placement, threads: int) -> Observer:
        """An observer of the tensors that a placement needs ranges of, while the FP32 graph runs."""
        return Observer(self.graph, self.calibrated_tensors(placement), placement, threads)


class PlacedMap:
    """A precision map laid over a graph; read-only.

    `dense` maps every tensor that this map keeps in INT8 under `dense` placement to the tensor whose range
    it uses. All other quantized tensors are quantized on the edge to the INT8 layer that reads them.
    """

    def __init__(
        self, plan: LoweringPlan, precision_map: PrecisionMap, ranges: Ranges, options: LoweringOptions
    ) -> None:
        self.plan = plan
        self.map = precision_map
        self.ranges = ranges
        self.options = options
        self.layer_of = {layer.node: layer.name for layer in plan.graph.layers}
        self.precisions = precision_map.assignment(self.layer_of.values())
        self.dense = self._dense()

    def _dense(self) -> Mapping[str, str]:
        if self.options.placement is not Placement.DENSE:
            return {}
        return {
            tensor: source
            for tensor, source in self.plan.dense.items()
            if (layers := self.plan.sources.get(tensor, frozenset()))
            and all(self.precisions[layer] is Precision.INT8 for layer in layers)
        }

    def range_of(self, tensor: str) -> TensorRange:
        """The range that `tensor` is quantized with: branches of a concatenation share its range."""
        return self.ranges[self.dense.get(tensor, tensor)]

    def scale(self, tensor: str) -> np.float32:
        """The activation scale of `tensor`, amax / 127 in float32."""
        return np.float32(self.range_of(tensor).amax) / np.float32(127)

    def chain_layer(self, node_name: str) -> str | None:
        """The layer into whose kernel this bias add, residual add or activation is fused."""
        return self.plan.chains.get(node_name)

    def fused_skip(self, node: onnx.NodeProto) -> str | None:
        """The skip operand that this node adds to a layer's sum, `None` where it is no residual add."""
        layer = self.chain_layer(node.name)
        if layer is None or node.op_type != "Add":
            return None
        skip = self.plan.operations[layer].skip
        return skip if skip in node.input else None

    def quantized_skip(self, node: onnx.NodeProto) -> str | None:
        """The skip operand that this node reads in INT8."""
        layer = self.chain_layer(node.name)
        if layer is None or self.precisions[layer] is not Precision.INT8:
            return None
        return None if self.options.placement is Placement.INPUTS else self.fused_skip(node)
