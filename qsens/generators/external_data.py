"""Weights that lie beside an ONNX file: checked before they are read, and read into the model."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import FunctionProto, GraphProto, TensorProto

from qsens.core.errors import LoadError
from qsens.device.errors import reason_of
from qsens.device.memory import machine_memory_bytes
from qsens.device.special_files import special_kind
from qsens.generators.refusals import first_sentence

_HINT = "keep the data file in the folder of the ONNX file, under its original name"


def load_external_data(model: onnx.ModelProto, checkpoint: Path) -> None:
    """Read all external data of `model`, which came from `checkpoint`, into it.

    Raises:
        LoadError: for data that is no plain file below the folder, does not suit the tensor, or is larger
            than this machine's memory.
    """
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    try:
        total_bytes = sum(_checked_bytes(tensor, checkpoint.parent) for tensor in outside)
        _refuse_more_than_memory(total_bytes)
        onnx.load_external_data_for_model(model, str(checkpoint.parent))
    except (OSError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise LoadError(
            f"the external data of {checkpoint} cannot be read: {first_sentence(error)}", _HINT
        ) from error


def _refuse_more_than_memory(size_bytes: int) -> None:
    memory_bytes = machine_memory_bytes()
    if memory_bytes is not None and size_bytes > memory_bytes:
        raise ValueError(f"it holds {size_bytes:,} bytes, this machine has {memory_bytes:,} of memory")


def _checked_bytes(tensor: TensorProto, folder: Path) -> int:
    """Bytes that reading the tensor takes. Raises `ValueError` where its shape does not account for them."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = folder / entries.get("location", "")
    if kind := special_kind(path):
        raise ValueError(f"{str(path)[:200]} is {kind}, not a file")
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{str(path)[:200]}: {reason_of(error)}") from error
    offset, length = (_whole_number(entries, key) for key in ("offset", "length"))
    taken = length or size_bytes - offset
    if taken > _largest_bytes(tensor):
        shape = "x".join(map(str, tensor.dims))
        raise ValueError(f"{taken:,} bytes for tensor {tensor.name!r} of shape {shape[:200] or 'scalar'}")
    return taken


def _whole_number(entries: dict[str, str], key: str) -> int:
    """An entry, which onnx refuses where it is negative; 0 where it is absent."""
    return int(entries.get(key, "0"))


def _largest_bytes(tensor: TensorProto) -> int:
    """Bytes of a tensor by its shape and type; more than that for types of less than a byte."""
    count = 1
    for side in tensor.dims:
        count *= side
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        raise ValueError(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}") from None


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    for holder in (model.graph, *model.functions):
        yield from _tensors_in(holder)


def _tensors_in(holder: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    """Tensors of a graph or a function and of the graphs inside it; protobuf bounds how deep they nest."""
    if isinstance(holder, GraphProto):
        yield from holder.initializer
    for node in holder.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_in(graph)
