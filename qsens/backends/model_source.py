"""A lowered graph as runtimes read it: bytes, or a file where protobuf cannot hold so much."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qsens.graph.detached import DetachedModel

# Protobuf cannot serialise more; larger graphs go through a file with external data.
LARGEST_MESSAGE = 2**31 - 2**20
# Keys of length-delimited fields in onnx.proto: number * 8 + 2.
_GRAPH_OF_MODEL = b"\x3a"
_INITIALIZER_OF_GRAPH = b"\x2a"
_RAW_DATA_OF_TENSOR = b"\x4a"
Values = np.ndarray[Any, np.dtype[Any]]


@contextmanager
def model_source(model: DetachedModel) -> Iterator[bytes | str]:
    """The serialised model, or the path of a file that is gone afterwards."""
    large = sum(value.nbytes for value in model.weights.values())
    if large + model.skeleton.ByteSize() < LARGEST_MESSAGE:
        yield serialised(model)
        return
    with TemporaryDirectory(prefix="qsens-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model.attached(), path, save_as_external_data=True, location="weights")
        yield str(path)


def serialised(model: DetachedModel) -> bytes:
    """The bytes of the attached model, its weights copied once: protobuf itself copies them four times."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.skeleton.graph)
    del graph.initializer[:]
    inside = [tensor for tensor in model.skeleton.graph.initializer if tensor.name not in model.weights]
    graph.initializer.extend(inside)
    parts: list[bytes | memoryview] = [graph.SerializeToString()]
    for name, value in model.weights.items():
        parts += _initializer_parts(name, value)
    around = onnx.ModelProto()
    around.CopyFrom(model.skeleton)
    around.ClearField("graph")
    size = sum(len(part) for part in parts)
    return b"".join([around.SerializeToString(), _GRAPH_OF_MODEL, _varint(size), *parts])


def _initializer_parts(name: str, value: Values) -> list[bytes | memoryview]:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    head = onnx.TensorProto(name=name, data_type=kind, dims=value.shape).SerializeToString()
    head += _RAW_DATA_OF_TENSOR + _varint(value.nbytes)
    size = len(head) + value.nbytes
    return [_INITIALIZER_OF_GRAPH + _varint(size) + head, np.ascontiguousarray(value).data.cast("B")]


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, as protobuf writes lengths."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
