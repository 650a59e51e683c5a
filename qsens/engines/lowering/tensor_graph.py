"""A lowered graph as tensors that know what they are made of, and its rest behind tensors that are known."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qsens.engines.lowering.lowered_graph import DetachedModel, LoweredGraph, Values
from qsens.graph.editable_graph import (
    attribute_of,
    is_onnx_domain,
    tensors_captured,
    tensors_read,
)
from qsens.graph.names import subgraphs

# Larger arrays are values or codes of weights, which graph, options and name decide. What a precision map
# can change has at most one value for each channel.
DECIDED_BY_NAME_BYTES = 2**20
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class TensorNode:
    """One node: the tensors it reads and makes, its multiply-accumulates for one sample."""

    operator: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    macs: int


@dataclass(frozen=True, eq=False)
class Frontier:
    """The start of a graph when some tensors are known: these are read, only `nodes` (indices) still run.

    `tensors` are names, graph inputs and constants left out. `macs` are those of `nodes`, for one sample.
    """

    tensors: tuple[str, ...]
    nodes: tuple[int, ...]
    macs: int


@dataclass(frozen=True, eq=False)
class TensorGraph:
    """Nodes in order, and the digest of every tensor that is not a constant, by name.

    A digest covers the operators, attributes and constants that a tensor is computed with, down to the
    graph inputs, and no names of nodes or tensors: two graphs lowered from one plan with the same options
    give tensors of the same digest the same values. Weights are covered by name where that decides them.
    """

    nodes: tuple[TensorNode, ...]
    outputs: tuple[str, ...]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, lowered: LoweredGraph) -> "TensorGraph":
        """Read a lowered graph; its weights are not held."""
        graph = lowered.detached.skeleton.graph
        constants = constant_digests(graph.initializer, lowered.detached.weights)
        digests = {value.name: _digest(b"input", value.name.encode()) for value in graph.input}
        macs = {layer.node: layer.macs for layer in lowered.graph.layers}
        nodes = []
        for node in graph.node:
            _add_digests(node, digests, constants)
            reads = tuple(name for name in tensors_read(node) if name not in constants)
            made = tuple(name for name in node.output if name)
            nodes.append(TensorNode(_operator(node), reads, made, macs.get(node.name, 0)))
        return cls(tuple(nodes), tuple(value.name for value in graph.output), digests)

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """Index of the node that makes a tensor."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.makes}

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes, for one sample."""
        return sum(node.macs for node in self.nodes)

    def frontier(self, known: Iterable[str]) -> Frontier:
        """The tensors to read and nodes to run for the outputs when tensors of the digests `known` are there.

        A float32 tensor that was widened from FP16 or INT8 is read in its narrow form where that is known.
        """
        there = known if isinstance(known, (set, frozenset, dict)) else frozenset(known)
        read: dict[str, None] = {}
        run: set[int] = set()
        waiting = list(self.outputs)
        while waiting:
            name = waiting.pop()
            index = self.producers.get(name)
            if index is None or index in run:
                continue
            if self.digests[name] in there and not self._is_widened(index, there):
                read[name] = None
                continue
            run.add(index)
            waiting += self.nodes[index].reads
        # A node may run for the sake of another of its results.
        made = {name for index in run for name in self.nodes[index].makes}
        macs = sum(self.nodes[index].macs for index in run)
        return Frontier(tuple(name for name in read if name not in made), tuple(sorted(run)), macs)

    def digests_of(self, frontier: Frontier) -> frozenset[str]:
        """The digests of the tensors that `frontier` reads."""
        return frozenset(self.digests[name] for name in frontier.tensors)

    def made_by(self, frontier: Frontier) -> frozenset[str]:
        """The digests of all tensors that the nodes of `frontier` make."""
        return frozenset(self.digests[name] for index in frontier.nodes for name in self.nodes[index].makes)

    def _is_widened(self, index: int, known: Iterable[str]) -> bool:
        node = self.nodes[index]
        if node.operator not in ("widen", "DequantizeLinear") or len(node.reads) != 1:
            return False
        # The narrow form takes half or a quarter of the memory, and to widen it again costs next to nothing.
        source = node.reads[0]
        maker = self.producers.get(source)
        is_narrow = maker is not None and self.nodes[maker].operator in ("halve", "QuantizeLinear")
        return is_narrow and self.digests[source] in known


def can_be_cut(lowered: LoweredGraph) -> bool:
    """Whether the tensors between its nodes can be read and fed: no subgraphs, no foreign operators."""
    made = {name for node in lowered.detached.skeleton.graph.node for name in node.output}
    # An output that no node makes is an input: there is nothing to cut in front of it.
    return made.issuperset(value.name for value in lowered.detached.skeleton.graph.output) and all(
        is_onnx_domain(node.domain) and not any(subgraphs(node))
        for node in lowered.detached.skeleton.graph.node
    )


def graph_identity(lowered: LoweredGraph) -> str:
    """Digest of what an engine of this graph computes and reports; maps of one run that share it are one.

    It covers nodes with their names, weights, and what is read back from the engine, but not the map that
    was asked for, unless the flavour answers for it (`LoweredGraph.expected`).
    """
    detached = lowered.detached
    constants = constant_digests(detached.skeleton.graph.initializer, detached.weights)
    bare = onnx.ModelProto()
    bare.CopyFrom(detached.skeleton)
    del bare.graph.initializer[:]
    expected = lowered.expected.assignment(layer.name for layer in lowered.graph.layers)
    facts = (
        str(lowered.flavour),
        sorted(constants.items()),
        lowered.overflow_outputs,
        lowered.fp16_lost_weights,
        lowered.split_layers,
        lowered.float_pins,
        [str(precision) for precision in expected.values()],
    )
    return _digest(bare.SerializeToString(deterministic=True), repr(facts).encode())


def constant_digests(initializers: Iterable[TensorProto], weights: Mapping[str, Values]) -> dict[str, str]:
    """A digest for every initializer: of its content, or of name and shape where these decide it."""
    found = {}
    for tensor in initializers:
        value = weights.get(tensor.name)
        if value is None:
            twin = TensorProto()
            twin.CopyFrom(tensor)
            twin.name = ""
            found[tensor.name] = _digest(b"inside", twin.SerializeToString(deterministic=True))
            continue
        facts = f"{value.dtype}{value.shape}".encode()
        is_decided = value.nbytes > DECIDED_BY_NAME_BYTES
        content = tensor.name.encode() if is_decided else value.tobytes()
        found[tensor.name] = _digest(b"named" if is_decided else b"values", facts, content)
    return found


def _add_digests(node: onnx.NodeProto, digests: dict[str, str], constants: Mapping[str, str]) -> None:
    names = [*node.input, *tensors_captured(node)]
    operands = [digests.get(name) or constants.get(name, "") for name in names]
    attributes = sorted(entry.SerializeToString(deterministic=True) for entry in node.attribute)
    head = f"{node.domain}:{node.op_type}:{len(node.output)}".encode()
    for position, name in enumerate(node.output):
        if name:
            place = str(position).encode()
            digests[name] = _digest(head, place, *(text.encode() for text in operands), b"|", *attributes)


def _operator(node: onnx.NodeProto) -> str:
    if node.op_type != "Cast":
        return str(node.op_type)
    kind = attribute_of(node, "to")
    return {TensorProto.FLOAT16: "halve", TensorProto.FLOAT: "widen"}.get(kind, "Cast")


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        # Else parts that are divided at another place would give the same digest.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def rest_model(
    whole: DetachedModel,
    frontier: Frontier,
    *,
    types: Mapping[str, "np.dtype[Any]"],
    outputs: Iterable[str],
) -> DetachedModel:
    """The nodes of `frontier`, as they are; its tensors become inputs of the dtypes `types`.

    `outputs` are made by these nodes; graph outputs among them keep their declared types. Weights are
    shared with `whole`.
    """
    source = whole.skeleton.graph
    nodes = [source.node[index] for index in frontier.nodes]
    read = {name for node in nodes for name in node.input}
    graph = onnx.GraphProto(name=source.name)
    graph.node.extend(nodes)
    graph.input.extend(value for value in source.input if value.name in read)
    graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(types[name]), None)
        for name in frontier.tensors
        if name in read
    )
    _declare_outputs(graph, source, outputs)
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in read)
    model = onnx.ModelProto(ir_version=whole.skeleton.ir_version, graph=graph)
    model.opset_import.extend(whole.skeleton.opset_import)
    return DetachedModel(model, {name: value for name, value in whole.weights.items() if name in read})


def with_outputs(whole: DetachedModel, extra: Iterable[str]) -> DetachedModel:
    """The model with more of its tensors handed out, after its own outputs."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(whole.skeleton)
    own = [value.name for value in skeleton.graph.output]
    del skeleton.graph.output[:]
    _declare_outputs(skeleton.graph, whole.skeleton.graph, [*own, *extra])
    return DetachedModel(skeleton, whole.weights)


def _declare_outputs(graph: onnx.GraphProto, source: onnx.GraphProto, names: Iterable[str]) -> None:
    declared = {value.name: value for value in source.output}
    for name in dict.fromkeys(names):
        if name in declared:
            graph.output.append(declared[name])
        else:
            graph.output.add(name=name)  # the runtime infers its type
