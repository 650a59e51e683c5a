"""An ONNX graph taken apart so that the preparation passes can edit it, and put together again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qsens.core.errors import LoadError
from qsens.graph.names import first_free, graph_names, subgraphs

# The first version of the file format in which an initializer need not be listed among the inputs.
CONSTANTS_ARE_NO_INPUTS = 4
Values = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Draft:
    """The only mutable form of a graph; it never leaves the preparation.

    `header` is the model without its nodes and initializers. `origins` maps a constant tensor to the
    initializer it was computed from, which for torch exports is the parameter's qualified name.
    `folded_norms` counts the batch normalisations folded into a node, by node name. `names` are those of
    all nodes and tensors that were ever in the graph, so that no new one can meet them.
    """

    header: onnx.ModelProto
    nodes: list[onnx.NodeProto]
    initializers: dict[str, onnx.TensorProto]
    origins: dict[str, str]
    folded_norms: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    @classmethod
    def take_apart(cls, model: onnx.ModelProto) -> Draft:
        """Take a model apart: constants become initializers, initializers are no longer inputs.

        Nodes are copied; weights are shared with the model, and no pass writes into a weight.
        """
        header = onnx.ModelProto(ir_version=max(model.ir_version, lowest_ir_version(model.opset_import)))
        header.producer_name = "pytorch" if model.producer_name == "pytorch" else ""
        header.opset_import.extend(model.opset_import)
        header.graph.name = "generator"
        initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        header.graph.input.extend(value for value in model.graph.input if value.name not in initializers)
        # Some exporters list an output once for each time that a module returns it.
        header.graph.output.extend({value.name: value for value in model.graph.output}.values())
        names = set(graph_names(model.graph))
        draft = cls(header, [], initializers, {name: name for name in initializers}, names=names)
        for node in model.graph.node:
            if node.op_type == "Constant" and (tensor := _constant_tensor(node)) is not None:
                draft.initializers[tensor.name] = tensor
            else:
                draft.nodes.append(_copy(node))
        return draft

    def assemble(self) -> onnx.ModelProto:
        """The model that the draft stands for; the draft then shares its weights with that model."""
        model = _copy(self.header)
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend(self.initializers.values())
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        return model

    @property
    def input_names(self) -> list[str]:
        """Graph inputs, in order."""
        return [value.name for value in self.header.graph.input]

    @property
    def output_names(self) -> list[str]:
        """Graph outputs, in order."""
        return [value.name for value in self.header.graph.output]

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 if none is declared."""
        return next((entry.version for entry in self.header.opset_import if is_onnx_domain(entry.domain)), 0)

    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor; a subgraph's captures count as reads of its node."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(tensors_read(node)):
                found.setdefault(name, []).append(node)
        return found

    def values(self, name: str) -> Values:
        """Value of an initializer."""
        values: Values = numpy_helper.to_array(self.initializers[name])
        return values

    def add_constant(self, name: str, value: Values, origin: str | None = None) -> str:
        """Add an initializer under `name`, or `name@2`, `name@3` where that is taken; return its name."""
        unique = first_free(name, self.names)
        self.names.add(unique)
        self.initializers[unique] = numpy_helper.from_array(np.ascontiguousarray(value), unique)
        if origin is not None:
            self.origins[unique] = origin
        return unique

    def drop_unused(self) -> None:
        """Remove nodes and initializers that no graph output depends on."""
        wanted = set(self.output_names)
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(tensors_read(node))
        self.nodes = kept[::-1]
        self.initializers = {name: value for name, value in self.initializers.items() if name in wanted}

    def sort_nodes(self) -> None:
        """Put nodes into an order in which every tensor is made before it is read, the given one if it is.

        Raises:
            LoadError: if a node reads a tensor that nothing makes.
        """
        given = {"", *self.input_names, *self.initializers}
        makers = self._makers(given)
        readers: list[list[int]] = [[] for _ in self.nodes]
        missing = []
        for index, node in enumerate(self.nodes):
            awaited = {makers.get(name, index) for name in tensors_read(node) if name not in given}
            missing.append(len(awaited))
            for maker in awaited:
                readers[maker].append(index)
        rounds = _rounds(missing, readers)
        if len(rounds) < len(self.nodes):
            first = next(index for index in range(len(self.nodes)) if index not in rounds)
            placed = (name for index in rounds for name in self.nodes[index].output)
            raise _unreadable(self.nodes[first], given.union(placed))
        self.nodes = [self.nodes[index] for index in sorted(rounds, key=lambda at: (rounds[at], at))]

    def _makers(self, given: set[str]) -> dict[str, int]:
        """The place of each tensor's node. Raises `LoadError` for a tensor that is made twice."""
        makers: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            for name in filter(None, node.output):
                if name in makers or name in given:
                    raise LoadError(
                        f"node {node.name or node.op_type!r} makes tensor {name!r}, which is there already",
                        "the graph is damaged or was put together wrongly; export it again",
                    )
                makers[name] = index
        return makers

    def name_nodes(self) -> None:
        """Give every node a unique, non-empty name; the first node of a name keeps it."""
        taken = {node.name for node in all_nodes(self.nodes)}
        placed: set[str] = set()
        counts: Counter[str] = Counter()
        tried: Counter[str] = Counter()
        for node in self.nodes:
            wished = node.name
            if not wished:
                wished = f"{node.op_type}_{counts[node.op_type]}"
                counts[node.op_type] += 1
            keeps = bool(node.name) and wished not in placed
            candidate = wished
            while candidate in taken and not keeps:
                # Goes on where the last node of that name ended: thousands may share one.
                tried[wished] += 1
                candidate = f"{wished}@{tried[wished] + 1}"
            node.name = candidate
            taken.add(candidate)
            placed.add(candidate)


def _rounds(missing: list[int], readers: list[list[int]]) -> dict[int, int]:
    """In which pass over the nodes each can be placed, by place; those that never can are left out.

    A node takes the pass of the last of its makers, or the one after it where that maker comes later.
    `missing` counts the makers of each node and is used up, `readers` lists who waits for it.
    """
    rounds = {index: 0 for index, count in enumerate(missing) if not count}
    waiting = list(rounds)
    earliest = [0] * len(missing)
    while waiting:
        maker = waiting.pop()
        for reader in readers[maker]:
            earliest[reader] = max(earliest[reader], rounds[maker] + (maker > reader))
            missing[reader] -= 1
            if not missing[reader]:
                rounds[reader] = earliest[reader]
                waiting.append(reader)
    return rounds


def _unreadable(node: onnx.NodeProto, known: set[str]) -> LoadError:
    missing = next(name for name in tensors_read(node) if name not in known)
    return LoadError(
        f"node {node.name or node.op_type!r} reads tensor {missing!r}, which nothing makes",
        "the graph is damaged or was cut; export it again",
    )


def lowest_ir_version(opset_import: Iterable[onnx.OperatorSetIdProto]) -> int:
    """The oldest file format that came with the operator sets and lets a constant be no input."""
    released = onnx.helper.OP_SET_ID_VERSION_MAP
    versions: list[int] = [
        released.get((entry.domain or "ai.onnx", entry.version), 0) for entry in opset_import
    ]
    return max([CONSTANTS_ARE_NO_INPUTS, *versions])


def is_onnx_domain(domain: str) -> bool:
    """Whether an operator domain is ONNX's own."""
    return domain in ("", "ai.onnx")


def attribute_of(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute, or `default`."""
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def tensors_read(node: onnx.NodeProto) -> list[str]:
    """Names of the tensors a node reads, those its subgraphs capture included."""
    return [*filter(None, node.input), *tensors_captured(node)]


def tensors_captured(node: onnx.NodeProto) -> list[str]:
    """Names of the tensors that a node's subgraphs, at whatever depth, read from around it."""
    return [name for graph in subgraphs(node) for name in _captured(graph)]


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, each followed by those of its subgraphs, at whatever depth."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def _captured(graph: onnx.GraphProto) -> list[str]:
    made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    made.update(name for node in graph.node for name in node.output)
    read = [name for node in graph.node for name in tensors_read(node)]
    read.extend(value.name for value in graph.output)
    return [name for name in dict.fromkeys(read) if name not in made]


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The value of a `Constant` node as an initializer; `None` for sparse tensors and strings."""
    if len(node.attribute) != 1 or len(node.output) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = _copy(attribute.t)
        tensor.name = node.output[0]
        _check_values(tensor)
        return tensor
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in kinds:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.from_array(np.asarray(value, kinds[attribute.name]), node.output[0])


def _check_values(tensor: onnx.TensorProto) -> None:
    """Raise `LoadError` for a constant whose data do not have the shape and type that it states."""
    try:
        _refuse_negative_sides(tensor)
        numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"constant {tensor.name!r} cannot be read ({str(error)[:200]})",
            "the file is damaged; fetch or export it again",
        ) from error


def _refuse_negative_sides(tensor: onnx.TensorProto) -> None:
    """NumPy takes one negative side for the one to be found out."""
    if any(side < 0 for side in tensor.dims):
        raise ValueError(f"tensor {tensor.name!r} is {'x'.join(map(str, tensor.dims))}")


def _copy(message: Any) -> Any:
    twin = type(message)()
    twin.CopyFrom(message)
    return twin


def weights_digest(tensors: Iterable[onnx.TensorProto]) -> str:
    """sha256 over the names, types, shapes and values of constants, whatever their order.

    Raises:
        KeyError, TypeError, ValueError: for a tensor that is damaged.
    """
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        _refuse_negative_sides(tensor)
        digest.update(f"{tensor.name}:{tensor.data_type}:{list(tensor.dims)};".encode())
        digest.update(numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()
