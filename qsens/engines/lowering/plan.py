"""What lowering knows before it sees a precision map: its options, and an analysis of the graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

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
    """Which tensors an INT8 layer quantizes besides its weights (design section 6)."""

    INPUTS = "inputs"
    RESIDUAL = "residual"
    DENSE = "dense"


class WeightScales(StrEnum):
    """Granularity of the symmetric weight scales; transposed convolutions are always per tensor."""

    PER_CHANNEL = "per-channel"
    PER_TENSOR = "per-tensor"


@dataclass(frozen=True)
class LoweringOptions:
    """What is fixed for a whole sweep."""

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
