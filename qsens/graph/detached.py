"""A model whose large weights lie beside it: no copy inside protobuf, none when a runtime can take arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Smaller constants (shapes, axes, scales) stay inside, where shape inference can see them.
LARGE_BYTES = 4096
_WEIGHT_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int8))
Values = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class DetachedModel:
    """`skeleton` names every weight of `weights` (by initializer name) but does not hold it.

    Weights are float32, and in the deployment flavours also float16 and int8.
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
