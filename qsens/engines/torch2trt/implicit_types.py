"""A lowered graph under implicit quantization: a type for every node, a range for every tensor.

Here a tensor has one range and the engine decides where it is quantized, so the edges of the `weak` flavour
become types of outputs: a tensor is kept in INT8 where every reader wants it so, with one scale, and is
made a float where any reader wants it whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.graph.topology import FusedOperation, Topology, fused_chain, fused_operations, moves_values

# TensorRT's header: an INT8 deconvolution in groups takes channels in fours (each group, both sides).
GROUP_MULTIPLE = 4
_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


@dataclass(frozen=True)
class NodeTypes:
    """`precision` of a node's arithmetic and type of its `output`; `None` leaves the choice to TensorRT."""

    precision: Precision | None = None
    output: Precision | None = None


@dataclass(frozen=True)
class ImplicitTypes:
    """Types by ONNX node, largest magnitude by tensor. A tensor without one cannot be INT8."""

    nodes: Mapping[str, NodeTypes]
    amax: Mapping[str, float]

    def uses(self, precision: Precision) -> bool:
        """Whether any node computes in that precision."""
        return any(types.precision is precision for types in self.nodes.values())


def implicit_types(lowered: LoweredGraph) -> ImplicitTypes:
    """Types and ranges of a graph of flavour `weak`, for the nodes of `lowered.graph.model`.

    Scales come from its QuantizeLinear nodes, so that both forms quantize alike. An INT8 layer whose result
    is kept as a float gets the largest magnitude that its weights allow: TensorRT runs no layer in INT8
    without a range on either side, and does not use this one.

    Raises:
        BuildError: for an INT8 layer that implicit quantization has no kernel for.
    """
    return _Reading(lowered).run()


@dataclass(frozen=True)
class _Quantized:
    """Activation scales of a `weak` graph. `readers`: nodes that read the tensor through its pair."""

    amax: Mapping[str, float]
    readers: Mapping[str, frozenset[str]]
    dense: frozenset[str]


def _quantized_in(weak: onnx.ModelProto, topology: Topology) -> _Quantized:
    graph = Topology(weak)
    inputs = {value.name for value in weak.graph.input}
    amax: dict[str, float] = {}
    readers: dict[str, frozenset[str]] = {}
    dense: set[str] = set()
    for node in weak.graph.node:
        source = node.input[0]
        is_weight = source not in graph.producer and source not in inputs
        if node.op_type != "QuantizeLinear" or is_weight:
            continue
        result = graph.consumers[node.output[0]][0].output[0]
        # A tensor that stays in INT8 is computed under another name, and its own name is the pair's result.
        is_dense = source not in topology.producer and source not in inputs
        tensor = result if is_dense else source
        amax[tensor] = float(graph.constant(node.input[1]).item()) * 127
        readers[tensor] = frozenset(reader.name for reader in graph.consumers.get(result, ()))
        if is_dense:
            dense.add(tensor)
    return _Quantized(amax, readers, frozenset(dense))


class _Reading:
    """One graph being read. `kept` holds the tensors that stay in INT8, with their largest magnitude."""

    def __init__(self, lowered: LoweredGraph) -> None:
        self.lowered = lowered
        self.topology = Topology(lowered.graph.model)
        self.quantized = _quantized_in(lowered.detached.skeleton, self.topology)
        self.kept: dict[str, float] = {}
        names = [layer.name for layer in lowered.graph.layers]
        has_halves = Precision.FP16 in lowered.expected.assignment(names).values()
        # What a float beside an INT8 layer is.
        self._float = Precision.FP16 if has_halves else Precision.FP32

    def run(self) -> ImplicitTypes:
        self._settle_kept()
        amax = {**self.quantized.amax, **self.kept}
        nodes = self._pinned()
        for operation in fused_operations(self.lowered.graph, self.topology).values():
            precision = self.lowered.expected[operation.layer]
            chain = fused_chain(operation, self.topology)
            if precision is not Precision.INT8:
                nodes.update(self._alike((self.topology.nodes[operation.node], *chain), precision))
                continue
            self._check(operation)
            nodes.update(self._int8_types(operation, chain))
            result = self.topology.nodes[operation.node].output[0]
            amax.setdefault(result, self._bound(operation))
        for name in self.quantized.amax.keys() - self.kept.keys():
            self._make_float(name, nodes)
        return ImplicitTypes(nodes, amax)

    def _settle_kept(self) -> None:
        """From the outputs back: a tensor's readers are settled before the tensor itself."""
        for node in reversed(self.topology.model.graph.node):
            for name in node.output:
                self._settle(name)
        for value in self.topology.model.graph.input:
            self._settle(value.name)

    def _settle(self, tensor: str) -> None:
        if tensor in self.quantized.dense:
            self.kept[tensor] = self.quantized.amax[tensor]
            return
        wanted = {self._wanted(node, tensor) for node in self.topology.consumers.get(tensor, ())}
        if tensor in self.topology.outputs or len(wanted) != 1:
            return
        amax = wanted.pop()
        if amax is not None:
            self.kept[tensor] = amax

    def _wanted(self, node: onnx.NodeProto, tensor: str) -> float | None:
        """The range with which a reader wants the tensor in INT8; `None` where it wants a float."""
        if node.name in self.quantized.readers.get(tensor, frozenset()):
            return self.quantized.amax[tensor]
        if not moves_values(node):
            return None
        # Moving values and quantizing them can change places.
        ranges = {self.kept.get(name) for name in node.output if name}
        return ranges.pop() if len(ranges) == 1 else None

    def _pinned(self) -> dict[str, NodeTypes]:
        known = self.topology.nodes
        return {
            name: NodeTypes(Precision(text), Precision(text))
            for name, text in self.lowered.float_pins
            if name in known
        }

    def _alike(self, nodes: Iterable[onnx.NodeProto], precision: Precision) -> dict[str, NodeTypes]:
        return {node.name: NodeTypes(precision, precision) for node in nodes}

    def _int8_types(self, operation: FusedOperation, chain: list[onnx.NodeProto]) -> dict[str, NodeTypes]:
        """The weighted node in INT8; bias, residual add and activation in INT8 only where that is exact."""
        first = self.topology.nodes[operation.node]
        types = {first.name: NodeTypes(Precision.INT8, self._type_of(first.output[0]))}
        stays = first.output[0] in self.kept
        for node in chain:
            stays = stays and moves_values(node) and node.output[0] in self.kept
            precision = Precision.INT8 if stays else self._float
            types[node.name] = NodeTypes(precision, precision)
        return types

    def _type_of(self, tensor: str) -> Precision:
        return Precision.INT8 if tensor in self.kept else self._float

    def _make_float(self, tensor: str, nodes: dict[str, NodeTypes]) -> None:
        """Keep TensorRT from storing in INT8 what some reader wants whole."""
        node = self.topology.producer.get(tensor)
        if node is not None and nodes.get(node.name, NodeTypes()).output is None:
            precision = nodes.get(node.name, NodeTypes()).precision
            nodes[node.name] = NodeTypes(precision, self._float)

    def _check(self, operation: FusedOperation) -> None:
        node = self.topology.nodes[operation.node]
        hint = f"pin it with --pin {operation.layer}=fp16, or use backend tensorrt"
        if node.op_type == "MatMul":
            raise BuildError(
                f"layer {operation.layer!r} multiplies more than two axes: torch2trt makes its weights an "
                "activation, which implicit quantization cannot take apart from one",
                hint,
            )
        groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
        sides = self.topology.initializers[operation.weight].dims[:2]
        if node.op_type == "ConvTranspose" and groups > 1:
            channels = (sides[0] // groups, sides[1])
            if any(count % GROUP_MULTIPLE for count in channels):
                raise BuildError(
                    f"layer {operation.layer!r} has groups of {channels[0]} to {channels[1]} channels: an "
                    f"INT8 deconvolution of TensorRT takes multiples of {GROUP_MULTIPLE}",
                    hint,
                )

    def _bound(self, operation: FusedOperation) -> float:
        """The largest magnitude that the layer's sum can reach from operands within their range."""
        node = self.topology.nodes[operation.node]
        weight = np.abs(self.topology.constant(operation.weight).astype(np.float64))
        transposed = next((entry.i for entry in node.attribute if entry.name == "transB"), 0)
        axis = _OUTPUT_AXIS.get(node.op_type, 0 if transposed else 1)
        sums = weight.sum(axis=tuple(index for index in range(weight.ndim) if index != axis))
        bias = self.topology.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        return float(sums.max()) * self.quantized.amax[operation.data] + float(np.abs(bias).max())
