"""Generators that come as an ONNX file."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs in the package

from qsens.generators.external_data import load_external_data
from qsens.generators.refusals import damaged, first_sentence, refuse_other_files
from qsens.graph.editable_graph import weights_digest

# No protobuf message can be larger.
LARGEST_FILE_BYTES = 2**31


class OnnxFile:
    """An ONNX model, read with its external data."""

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name = name
        self.digest = weights_digest(model.graph.initializer)
        self._model = model

    def export(self) -> onnx.ModelProto:
        return self._model


def open_onnx(checkpoint: Path, *, name: str | None = None) -> OnnxFile:
    """Read an ONNX file; `name` defaults to the file's.

    Raises:
        LoadError: for a file that is missing, no ONNX model, damaged, or without its external data.
    """
    refuse_other_files(checkpoint)
    if checkpoint.stat().st_size > LARGEST_FILE_BYTES:
        raise damaged(checkpoint, "an ONNX file is never larger than 2 GiB: its weights would lie beside it")
    try:
        model = onnx.load(checkpoint, load_external_data=False)
    except DecodeError as error:
        raise damaged(checkpoint, f"not an ONNX model ({first_sentence(error)})") from error
    load_external_data(model, checkpoint)
    try:
        return OnnxFile(name or checkpoint.stem, model)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(checkpoint, f"its weights cannot be read ({first_sentence(error)})") from error
