"""`LoweringPlan`: options and an analysis of the graph; a map placed on it says where tensors are rounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from qsens.calibration.measure import Observer
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.errors import BuildError
from qsens.core.precision import Precision, PrecisionMap
from qsens.graph.editable_graph import attribute_of, tensors_read
from qsens.graph.graph import Graph
from qsens.graph.topology import (
    FusedOperation,
    Topology,
    dense_tensors,
    fused_chain,
    fused_operations,
    nearest_layers,
    own_results,
)
from qsens.graph.value_ranges import ANYTHING, Interval, proved_ranges


class Placement(StrEnum):
    """The tensors that an INT8 layer quantizes besides its weights (design section 6)."""

    INPUTS = "inputs"
    RESIDUAL = "residual"
    DENSE = "dense"
    DENSE_FLOAT_OUTPUT = "dense-float-output"
    """As `dense`, but what leads to no layer stays in float: the picture, and what its activation reads."""
    KERNELS = "kernels"
    """As `dense`, and what each layer's own kernel makes, where that fuses neither sums nor activations."""


class Grid(StrEnum):
    """The codes of a tensor that cannot be negative; other tensors have -128 to 127 everywhere."""

    SIGNED = "signed"
    """0 to 127, the positive half of INT8, as TensorRT has them."""

    UNSIGNED = "unsigned"
    """0 to 255, as the INT8 kernels of CPUs have them: steps half as wide."""


class WeightScales(StrEnum):
    """Granularity of the symmetric weight scales; transposed convolutions are always per tensor."""

    PER_CHANNEL = "per-channel"
    PER_TENSOR = "per-tensor"


@dataclass(frozen=True)
class LoweringOptions:
    """Options of lowering that are fixed for a whole sweep."""

    placement: Placement = Placement.RESIDUAL
    weight_scales: WeightScales = WeightScales.PER_CHANNEL
    grid: Grid = Grid.SIGNED


@dataclass(frozen=True, eq=False)
class RepairedLayer:
    """Parameters that a layer has where it runs in INT8, instead of its own.

    `codes`, int8, are like its weight; `scales`, float32, broadcast over them. The largest code of each
    scale is 127 or -127, so that quantizing `weight` gives the same codes again, in every flavour. `bias`,
    float32 (output channels,), is added to the layer's own.
    """

    codes: np.ndarray[Any, np.dtype[np.int8]]
    scales: np.ndarray[Any, np.dtype[np.float32]]
    bias: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def weight(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The weight that the codes stand for, float32."""
        return self.codes * self.scales


@dataclass(frozen=True, eq=False)
class LoweringPlan:
    """Everything about a graph that does not depend on the map; made once, shared by all maps of a sweep.

    `repaired` are the layers, by name, that a repair changed. `memo` keeps what has been computed of them.
    """

    graph: Graph
    topology: Topology
    operations: Mapping[str, FusedOperation]
    sources: Mapping[str, frozenset[str]]
    dense: Mapping[str, str]
    repaired: Mapping[str, RepairedLayer] = field(default_factory=dict, repr=False)
    memo: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graph: Graph) -> "LoweringPlan":
        """Analyse `graph`."""
        topology = Topology(graph.model)
        operations = fused_operations(graph, topology)
        dense = dense_tensors(operations.values(), topology)
        return cls(graph, topology, operations, nearest_layers(graph, topology), dense)

    def with_repaired(self, layers: Mapping[str, RepairedLayer]) -> "LoweringPlan":
        """The same plan for a graph of which `layers` are repaired; nothing computed before is kept."""
        return replace(self, repaired=layers, memo={})

    def int8_weight(self, layer: str) -> np.ndarray[Any, np.dtype[Any]]:
        """The weight that the layer has in INT8, before it is quantized; float32."""
        if layer in self.repaired:
            return self.repaired[layer].weight
        return self.topology.constant(self.operations[layer].weight).astype(np.float32)

    def int8_bias(self, layer: str) -> np.ndarray[Any, np.dtype[Any]] | None:
        """The bias that the layer's node has in INT8, as its input would be; `None` where it has none.

        A matrix product takes no bias, so a repair of one has none either.

        Raises:
            BuildError: for a bias that is computed from the inputs.
        """
        node = self.topology.nodes[self.operations[layer].node]
        repaired = self.repaired.get(layer) if node.op_type != "MatMul" else None
        own = node.input[2] if len(node.input) > 2 else ""
        if own and own not in self.topology.initializers:
            raise BuildError(f"layer {node.name!r} has a bias that is computed from the inputs")
        bias = self.topology.constant(own) if own else None
        if repaired is None:
            return bias
        # The node multiplies it with beta again.
        shift = repaired.bias / np.float32(attribute_of(node, "beta", 1.0))
        return shift if bias is None else (bias + shift).astype(np.float32)

    @cached_property
    def layer_of(self) -> Mapping[str, str]:
        """The layer of each weighted node, by node name."""
        return {layer.node: layer.name for layer in self.graph.layers}

    @cached_property
    def chains(self) -> Mapping[str, str]:
        """The layer whose fused operation a node is part of, by node name; weighted nodes are left out."""
        return {
            node.name: operation.layer
            for operation in self.operations.values()
            for node in fused_chain(operation, self.topology)
        }

    def proved(self, promised: Mapping[str, Interval]) -> Mapping[str, Interval]:
        """The widest range of every tensor, given what is promised of the inputs."""
        key = ("proved", *sorted(promised.items()))
        if key not in self.memo:
            self.memo[key] = proved_ranges(self.topology, promised)
        found: Mapping[str, Interval] = self.memo[key]
        return found

    def dense_in(self, placement: Placement) -> Mapping[str, str]:
        """The tensors that stay in INT8 between layers, each with the tensor whose range it uses."""
        if placement is Placement.DENSE:
            return self.dense
        if placement is Placement.DENSE_FLOAT_OUTPUT:
            return {tensor: source for tensor, source in self.dense.items() if tensor in self._lead_to_layers}
        if placement is Placement.KERNELS:
            return {**dict(zip(self.own_results, self.own_results, strict=True)), **self.dense}
        return {}

    @cached_property
    def own_results(self) -> tuple[str, ...]:
        """Tensors of layers' own nodes that a sum or an activation changes before they are the results."""
        return own_results(self.operations.values(), self.topology)

    @cached_property
    def _lead_to_layers(self) -> frozenset[str]:
        """Tensors that a layer reads, itself or by way of nodes that are no layer."""
        weighted = {operation.node for operation in self.operations.values()}
        found: set[str] = set()
        for node in reversed(self.topology.model.graph.node):
            if node.name in weighted or not found.isdisjoint(node.output):
                found.update(tensors_read(node))
        return frozenset(found)

    def calibrated_tensors(self, placement: Placement) -> tuple[str, ...]:
        """Tensors whose ranges `lower_graph` may ask for, in order of first use."""
        names: list[str] = []
        for operation in self.operations.values():
            names += [operation.data, operation.result]
            if operation.skip is not None and placement is not Placement.INPUTS:
                names.append(operation.skip)
        dense = self.dense_in(placement)
        return tuple(dict.fromkeys([*names, *dense.keys(), *dense.values()]))

    def quantized_tensors(self, placement: Placement) -> tuple[str, ...]:
        """Tensors whose thresholds count where every layer is in INT8, in order of first use."""
        dense = self.dense_in(placement)
        names = [dense.get(operation.data, operation.data) for operation in self.operations.values()]
        if placement is not Placement.INPUTS:
            skips = (operation.skip for operation in self.operations.values())
            names += [dense.get(skip, skip) for skip in skips if skip is not None]
        return tuple(dict.fromkeys([*names, *dense.values()]))

    def observer(self, placement: Placement, threads: int) -> Observer:
        """An observer of the tensors that a placement needs ranges of, while the FP32 graph runs."""
        return Observer(self.graph, self.calibrated_tensors(placement), placement, threads)


@dataclass(frozen=True)
class TensorGrid:
    """The values that the codes of a tensor stand for: multiples of `scale`, float32.

    Codes are -128 to 127, or 0 to 255 where they are unsigned.
    """

    scale: np.float32
    is_unsigned: bool = False

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest code."""
        return (0, 255) if self.is_unsigned else (-128, 127)


class PlacedMap:
    """A precision map laid over a graph; read-only.

    `dense` maps every tensor that this map keeps in INT8 between layers to the tensor whose range it uses.
    All other quantized tensors are quantized on the edge to the INT8 layer that reads them.
    """

    def __init__(
        self, plan: LoweringPlan, precision_map: PrecisionMap, ranges: Ranges, options: LoweringOptions
    ) -> None:
        self.plan = plan
        self.map = precision_map
        self.ranges = ranges
        self.options = options
        self.layer_of = plan.layer_of
        self.precisions = precision_map.assignment(self.layer_of.values())
        self.dense = self._dense()

    def _dense(self) -> Mapping[str, str]:
        return {
            tensor: source
            for tensor, source in self.plan.dense_in(self.options.placement).items()
            if (layers := self.plan.sources.get(tensor, frozenset()))
            and all(self.precisions[layer] is Precision.INT8 for layer in layers)
        }

    def range_of(self, tensor: str) -> TensorRange:
        """The range that `tensor` is quantized with: branches of a concatenation share its range."""
        return self.ranges[self.dense.get(tensor, tensor)]

    @cached_property
    def _proved(self) -> Mapping[str, Interval]:
        return self.plan.proved({name: Interval(*ends) for name, ends in self.ranges.promised.items()})

    def proved_range(self, tensor: str) -> Interval:
        """The widest range of `tensor`, or of the concatenation whose range it uses, for any input."""
        return self._proved.get(self.dense.get(tensor, tensor), ANYTHING)

    def grid(self, tensor: str) -> TensorGrid:
        """The codes of `tensor`, and the step between two of them."""
        is_unsigned = self.options.grid is Grid.UNSIGNED and self.proved_range(tensor).is_non_negative
        amax = np.float32(self.range_of(tensor).amax)
        # Signed codes reach -128, but the step is that of the symmetric range, as in TensorRT.
        return TensorGrid(amax / np.float32(255 if is_unsigned else 127), is_unsigned)

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
