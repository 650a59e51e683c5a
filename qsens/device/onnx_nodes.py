"""Nodes and constants of an ONNX file, read from its bytes: devices have a runtime, but no `onnx` package."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple, Union

import numpy as np

from qsens.device.errors import DeviceError

# Operators whose weights make them layers.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators whose result holds the same values as what they read.
_PASSING = frozenset({"DequantizeLinear", "QuantizeLinear", "Cast"})
# TensorProto.DataType of what a quantized graph holds.
_DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 10: np.float16}
# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 7, 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS, _GRAPH_INPUT = 6, 11, 11
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL = 1, 2, 5, 8, 9, 13
_VALUE_NAME = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Field = Tuple[int, Union[int, memoryview]]
Fields = Dict[int, "list[Any]"]


@dataclass(frozen=True)
class OnnxNode:
    """One node; an input that is left out is an empty name. `captured`: what its subgraphs read around it."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxConstant:
    """One initializer; `data` is empty where its values lie in another file, then named by `location`."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    data: memoryview = field(repr=False)
    location: str = ""

    def values(self) -> np.ndarray[Any, np.dtype[Any]] | None:
        """The values, flat, or `None` where the file does not hold them as raw bytes."""
        if self.data_type not in _DTYPES or not len(self.data):
            return None
        return np.frombuffer(self.data, _DTYPES[self.data_type])


@dataclass(frozen=True)
class OnnxGraph:
    """Nodes in execution order, initializers and graph outputs, by name."""

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, OnnxConstant]
    outputs: tuple[str, ...]
    producers: Mapping[str, OnnxNode] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made = {name: node for node in self.nodes for name in node.outputs if name}
        object.__setattr__(self, "producers", made)

    def is_constant(self, tensor: str) -> bool:
        """Whether `tensor` is an initializer or comes from one through DequantizeLinear or Cast alone."""
        return tensor in self._constant_tensors

    @cached_property
    def _constant_tensors(self) -> frozenset[str]:
        found = set(self.constants)
        for node in self.nodes:
            if node.operator in _PASSING and node.inputs[:1] and node.inputs[0] in found:
                found.update(node.outputs)
        return frozenset(found)

    def weighted_nodes(self) -> Iterator[OnnxNode]:
        """Convolutions and matrix products of an activation with constants."""
        for node in self.nodes:
            weights = [name for name in node.inputs[1:] if name]
            is_weighted = node.operator in WEIGHTED and weights and all(map(self.is_constant, weights))
            if is_weighted and not self.is_constant(node.inputs[0]):
                yield node

    def external_files(self) -> frozenset[str]:
        """Files beside the model that hold weights."""
        return frozenset(value.location for value in self.constants.values() if value.location)

    def without_constants(self) -> OnnxGraph:
        """The same nodes, holding on to no weights."""
        return OnnxGraph(self.nodes, {}, self.outputs)

    def names_behind(self, node: OnnxNode) -> tuple[str, ...]:
        """The nodes that `node` alone leads to, nearest first, up to the next weighted one or a fork."""
        found: list[str] = []
        # A graph that runs in a circle is refused by the runtime, which may come later.
        while len(node.outputs) == 1 and node.outputs[0] not in self.outputs and len(found) < len(self.nodes):
            readers = self._readers.get(node.outputs[0], ())
            if len(readers) != 1 or readers[0].operator in WEIGHTED:
                break
            node = readers[0]
            found.append(node.name)
        return tuple(found)

    @cached_property
    def _readers(self) -> Mapping[str, list[OnnxNode]]:
        found: dict[str, list[OnnxNode]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *node.captured)):
                found.setdefault(name, []).append(node)
        return found

    def layer_before(self, tensor: str, stops: frozenset[str] = frozenset()) -> tuple[OnnxNode, ...]:
        """The nodes from the nearest weighted one up to the maker of `tensor`, last node first.

        Only nodes with one activation input are passed, those in `stops` not counted; empty where that
        does not lead to a weighted node.
        """
        passed: list[OnnxNode] = []
        while (node := self.producers.get(tensor)) is not None and len(passed) < len(self.nodes):
            passed.append(node)
            if node.operator in WEIGHTED:
                return tuple(passed)
            sources = [name for name in (*node.inputs, *node.captured) if name and name not in stops]
            sources = [name for name in sources if not self.is_constant(name)]
            if len(sources) != 1:
                break
            tensor = sources[0]
        return ()


def read_onnx_graph(model: bytes) -> OnnxGraph:
    """Read nodes, initializers and output names of a serialised `ModelProto`; functions are not followed.

    Raises:
        DeviceError: if the bytes are no ONNX model.
    """
    try:
        # A message may come in pieces, which add up.
        graph: Fields = {}
        for part in _fields(memoryview(model))[_MODEL_GRAPH]:
            for number, values in _fields(part).items():
                graph.setdefault(number, []).extend(values)
        constants = [_constant(part) for part in graph.get(_GRAPH_INITIALIZER, [])]
        return OnnxGraph(
            nodes=tuple(_node(part) for part in graph.get(_GRAPH_NODE, [])),
            constants={constant.name: constant for constant in constants},
            outputs=_value_names(graph, _GRAPH_OUTPUT),
        )
    except (IndexError, KeyError, RecursionError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise _no_model(model, error) from error


def external_locations(model: bytes) -> frozenset[str]:
    """Every file that a serialised `ModelProto` refers to, in whatever part of it.

    Raises:
        DeviceError: if the bytes are no ONNX model.
    """
    found: set[str] = set()
    parts = [("model", memoryview(model))]
    try:
        while parts:
            kind, part = parts.pop()
            for number, value in _read_message(part):
                inner = _PARTS[kind].get(number)
                if inner is not None and not isinstance(value, int):
                    parts.append((inner, value))
            if kind == "entry":
                entry = _fields(part)
                if _last_text(entry, _ENTRY_KEY) == "location":
                    found.add(_last_text(entry, _ENTRY_VALUE))
    except (IndexError, ValueError) as error:
        raise _no_model(model, error) from error
    return frozenset(found)


# Where onnx.proto has tensors: kinds of message by field number.
_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}


def _no_model(model: bytes, error: Exception) -> DeviceError:
    return DeviceError(
        f"{len(model)} bytes that are no ONNX model ({type(error).__name__}: {error})",
        "copy the file again; it may be truncated",
    )


def size_with_weights(model: bytes | str | Path, graph: OnnxGraph) -> int:
    """Bytes of a model, or of a file and the files of weights beside it."""
    if isinstance(model, bytes):
        return len(model)
    beside = [Path(model).parent / name for name in graph.external_files()]
    return sum(path.stat().st_size for path in (Path(model), *beside))


def _node(part: memoryview) -> OnnxNode:
    found = _fields(part)
    return OnnxNode(
        name=_last_text(found, _NODE_NAME),
        operator=_last_text(found, _NODE_OPERATOR),
        inputs=tuple(_text(value) for value in found.get(_NODE_INPUT, [])),
        outputs=tuple(_text(value) for value in found.get(_NODE_OUTPUT, [])),
        captured=tuple(name for graph in _subgraphs(found) for name in _captured(graph)),
    )


def _subgraphs(node: Fields) -> Iterator[Fields]:
    for attribute in map(_fields, node.get(_NODE_ATTRIBUTE, [])):
        for graph in (*attribute.get(_ATTRIBUTE_GRAPH, []), *attribute.get(_ATTRIBUTE_GRAPHS, [])):
            yield _fields(graph)


def _captured(graph: Fields) -> list[str]:
    """Names that a subgraph reads and does not make."""
    nodes = [_node(part) for part in graph.get(_GRAPH_NODE, [])]
    made = {_last_text(_fields(part), _TENSOR_NAME) for part in graph.get(_GRAPH_INITIALIZER, [])}
    made.update(_value_names(graph, _GRAPH_INPUT), *(node.outputs for node in nodes))
    read = [name for node in nodes for name in (*node.inputs, *node.captured) if name]
    return [name for name in (*read, *_value_names(graph, _GRAPH_OUTPUT)) if name not in made]


def _value_names(graph: Fields, number: int) -> tuple[str, ...]:
    return tuple(_text(_fields(part)[_VALUE_NAME][-1]) for part in graph.get(number, []))


def _constant(part: memoryview) -> OnnxConstant:
    found = _fields(part)
    data_type = int(found[_TENSOR_TYPE][-1])
    data = found.get(_TENSOR_RAW, [memoryview(b"")])[-1]
    if not len(data) and _TENSOR_INT32 in found and data_type in _DTYPES:
        numbers = np.array(_integers(found[_TENSOR_INT32])).astype(_DTYPES[data_type])
        data = memoryview(numbers.tobytes())
    return OnnxConstant(
        name=_last_text(found, _TENSOR_NAME),
        data_type=data_type,
        dims=tuple(_integers(found.get(_TENSOR_DIMS, []))),
        data=data,
        location=_location(found.get(_TENSOR_EXTERNAL, [])),
    )


def _location(entries: list[Any]) -> str:
    pairs = [_fields(entry) for entry in entries]
    named = {_last_text(pair, _ENTRY_KEY): _last_text(pair, _ENTRY_VALUE) for pair in pairs}
    return named.get("location", "")


def _integers(values: list[Any]) -> list[int]:
    """Repeated integers, written one by one or packed; negative ones in two's complement of 64 bits."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        place = 0
        while place < len(value):
            number, place = _read_varint(value, place)
            numbers.append(number)
    return [number - 2**64 if number >= 2**63 else number for number in numbers]


def _last_text(found: Fields, number: int) -> str:
    return _text(found[number][-1]) if number in found else ""


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _fields(message: memoryview) -> Fields:
    """The values of a protobuf message by field number: integers, or the bytes of anything else."""
    found: Fields = {}
    for number, value in _read_message(message):
        found.setdefault(number, []).append(value)
    return found


def _read_message(message: memoryview) -> Iterator[Field]:
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _read_varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(message, place)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(message):
            raise ValueError(f"a field of {size} bytes where {len(message) - place} are left")
        yield number, message[place : place + size]
        place += size


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            return value, place
