"""`LoweredGraph`, which lowering hands to a backend: the graph in one flavour, and how to read it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qsens.core.precision import Precision, PrecisionMap
from qsens.device.audit import AskedLayer, LayerAudit
from qsens.device.leftovers import temporary_folder
from qsens.graph.graph import Graph

# Smaller constants (shapes, axes, scales) stay inside, where shape inference can see them.
LARGE_BYTES = 4096
_WEIGHT_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int8))
Values = np.ndarray[Any, np.dtype[Any]]
# Protobuf cannot serialise more; larger graphs go through a file with external data.
LARGEST_MESSAGE = 2**31 - 2**20


@dataclass(frozen=True, eq=False)
class DetachedModel:
    """`skeleton` names every weight of `weights` (by initializer name) but does not hold it.

    Weights are float32, and in the deployment flavours also float16 and int8. Beside the model, protobuf
    never copies them, and a runtime that takes arrays needs no copy of them at all.
    """

    skeleton: onnx.ModelProto
    weights: Mapping[str, Values] = field(default_factory=dict, repr=False)

    def attached(self) -> onnx.ModelProto:
        """A complete model, made anew at every call."""
        model = onnx.ModelProto()
        model.CopyFrom(self.skeleton)
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                tensor.CopyFrom(numpy_helper.from_array(self.weights[tensor.name], tensor.name))
        return model

    def serialized(self) -> bytes:
        """The bytes of a complete model; weights are copied once, where protobuf's own way takes seconds.

        Protobuf merges a message that comes in pieces: every weight follows as a piece of the graph.
        """
        bare = onnx.ModelProto()
        bare.CopyFrom(self.skeleton)
        inside = [tensor for tensor in self.skeleton.graph.initializer if tensor.name not in self.weights]
        del bare.graph.initializer[:]
        bare.graph.initializer.extend(inside)
        pieces: list[Any] = [bare.SerializeToString()]
        for name, value in self.weights.items():
            pieces += _initializer_pieces(name, value)
        return b"".join(pieces)


def _initializer_pieces(name: str, value: Values) -> list[Any]:
    """A message that holds a graph that holds one initializer: fields 7, 5 and, for the values, 9."""
    header = onnx.TensorProto(
        name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape
    ).SerializeToString()
    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    values_head = _field_head(9, value.nbytes)
    tensor_bytes = len(header) + len(values_head) + value.nbytes
    tensor_head = _field_head(5, tensor_bytes)
    graph_head = _field_head(7, len(tensor_head) + tensor_bytes)
    return [graph_head, tensor_head, header, values_head, little_endian.reshape(-1).view(np.uint8).data]


def _field_head(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited protobuf field below 16."""
    head = bytearray([number << 3 | 2])
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length])


def add_initializers(graph: onnx.GraphProto, constants: Mapping[str, Values]) -> dict[str, Values]:
    """Append the small constants to `graph` and only the names of the large ones, which are returned."""
    large: dict[str, Values] = {}
    for name, value in constants.items():
        if value.dtype in _WEIGHT_TYPES and value.nbytes >= LARGE_BYTES:
            large[name] = value
            _add_name(graph, name, value)
        else:
            graph.initializer.append(numpy_helper.from_array(value, name))
    return large


def _add_name(graph: onnx.GraphProto, name: str, value: Values) -> None:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor = graph.initializer.add(name=name, data_type=kind, dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    # Readers insist on a location; this one is never opened.
    tensor.external_data.add(key="location", value="weights-are-passed-as-arrays")


class Flavour(StrEnum):
    """Forms of the lowered graph (design section 2); all carry the same scales at the same places."""

    EXACT = "exact"
    U8 = "u8"
    STRONG = "strong"
    WEAK = "weak"


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """The graph a backend builds, and how to read layers and overflow counts back from it.

    `detached` keeps the name of every weighted node, and graph inputs and outputs are float32 under the
    generator's names and in its order. `overflow_outputs` maps an extra graph output of `exact` (float32
    scalar: values that FP16 could not hold) to its layer. `fp16_lost_weights` counts weights per layer
    that FP16 cannot hold. `split_layers` had an accumulator bound of 2^24 or more and were summed in
    float64. `float_pins` of `weak`: ONNX nodes that must not run in INT8, with `fp16` or `fp32`.
    """

    detached: DetachedModel
    flavour: str
    requested: PrecisionMap
    graph: Graph
    overflow_outputs: tuple[tuple[str, str], ...] = ()
    fp16_lost_weights: tuple[tuple[str, int], ...] = ()
    split_layers: tuple[str, ...] = ()
    float_pins: tuple[tuple[str, str], ...] = ()

    @property
    def model(self) -> onnx.ModelProto:
        """The graph with its weights, made anew at every access."""
        return self.detached.attached()

    @cached_property
    def expected(self) -> PrecisionMap:
        """The map that an engine of this flavour should run: `u8` has no FP16, others run the request."""
        if self.flavour != Flavour.U8:
            return self.requested
        asked = self.requested.assignment(layer.name for layer in self.graph.layers)
        return PrecisionMap.over(
            {
                layer: Precision.FP32 if precision is Precision.FP16 else precision
                for layer, precision in asked.items()
            }
        )


def with_fixed_inputs(lowered: LoweredGraph, values: Mapping[str, Values]) -> LoweredGraph:
    """The same graph, lowered and as it was, with constants in place of the inputs that `values` names."""
    graph = replace(
        lowered.graph,
        model=_with_constants(lowered.graph.model, values),
        inputs=tuple(entry for entry in lowered.graph.inputs if entry.name not in values),
    )
    skeleton = _with_constants(lowered.detached.skeleton, values)
    return replace(lowered, detached=DetachedModel(skeleton, lowered.detached.weights), graph=graph)


def _with_constants(model: onnx.ModelProto, values: Mapping[str, Values]) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    kept = [value for value in fixed.graph.input if value.name not in values]
    del fixed.graph.input[:]
    fixed.graph.input.extend(kept)
    fixed.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
    return fixed


def asked_layers(lowered: LoweredGraph) -> tuple[AskedLayer, ...]:
    """Every layer in execution order: what the map requests and what the flavour should make of it."""
    names = [layer.name for layer in lowered.graph.layers]
    requested = lowered.requested.assignment(names)
    expected = lowered.expected.assignment(names)
    return tuple(
        AskedLayer(layer.name, layer.node, str(requested[layer.name]), str(expected[layer.name]))
        for layer in lowered.graph.layers
    )


def applied_from_audit(audit: Sequence[LayerAudit], lowered: LoweredGraph) -> PrecisionMap:
    """The canonical map of what runs: the audit's word where the runtime tells, else what was expected."""
    expected = lowered.expected.assignment(layer.name for layer in lowered.graph.layers)
    told = {row.layer: Precision(row.actual) for row in audit if row.actual is not None}
    return PrecisionMap.over({name: told.get(name, value) for name, value in expected.items()})


@contextmanager
def model_source(model: DetachedModel) -> Iterator[bytes | str]:
    """The serialised model, or the path of a file that is gone afterwards."""
    large = sum(value.nbytes for value in model.weights.values())
    if large + model.skeleton.ByteSize() < LARGEST_MESSAGE:
        yield model.serialized()
        return
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        onnx.save(model.attached(), path, save_as_external_data=True, location="weights")
        yield str(path)
