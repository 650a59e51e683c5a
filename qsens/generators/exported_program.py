"""Generators that come as a program saved by `torch.export.save`."""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.errors import LoadError
from qsens.generators.checkpoint import (
    ARCHIVE,
    UNREADABLE_ARCHIVE,
    damaged,
    first_sentence,
    refuse_other_files,
    state_digest,
    wants_code,
)
from qsens.generators.torch_export import OPSET, quiet_export

if TYPE_CHECKING:
    import onnx
    import torch

_KNOWN_PARTS = re.compile(
    r"[^/]+/(data/(weights|constants)/[^/]+|data/sample_inputs/[^/]+[.]pt|models/[^/]+[.]json"
    r"|archive_format|archive_version|byteorder|version|[.]data/[^/]+|extra/.+)"
)
_CODE_OBJECTS = ("custom_obj_", "opaque_obj_")
# torch evaluates shape expressions as Python when it reads a program: only sums, products and the like of
# named symbols may pass.
_PLAIN_SYNTAX = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp,
    ast.Compare, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


class ExportedProgram:
    """A program of `torch.export`, with the dynamic sides it was exported with."""

    def __init__(self, name: str, program: torch.export.ExportedProgram) -> None:
        self.name = name
        self.digest = state_digest(program.state_dict)
        self._program = program

    def export(self) -> onnx.ModelProto:
        import torch  # heavy, and an optional extra

        try:
            with quiet_export():
                exported = torch.onnx.export(
                    self._program, dynamo=True, optimize=False, opset_version=OPSET, verbose=False
                )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            raise LoadError(
                f"torch cannot export the program to ONNX: {first_sentence(error.__cause__ or error)}",
                "export the ONNX file yourself",
            ) from error
        return exported.model_proto


def open_exported_program(checkpoint: Path, *, trust_checkpoint: bool = False) -> ExportedProgram:
    """Read a `.pt2` file.

    Raises:
        LoadError: for a file that is missing, damaged, no exported program, or that would run code while it
            is read (unless `trust_checkpoint`).
    """
    import torch  # heavy, and an optional extra

    if not refuse_other_files(checkpoint).startswith(ARCHIVE):
        raise damaged(checkpoint, "not an archive of torch.export.save")
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            refuse_code(archive, checkpoint, trust_checkpoint=trust_checkpoint)
    except UNREADABLE_ARCHIVE as error:
        raise damaged(checkpoint, first_sentence(error)) from error
    try:
        with quiet_export():
            program = torch.export.load(checkpoint)
    except Exception as error:
        # The archive format is torch's own and raises whatever its parser raises.
        raise damaged(checkpoint, first_sentence(error)) from error
    return ExportedProgram(checkpoint.stem, program)


def refuse_code(archive: zipfile.ZipFile, checkpoint: Path, *, trust_checkpoint: bool) -> None:
    """Look at every part that torch would unpickle or evaluate.

    Raises:
        LoadError: if there is no program inside, or a part is more than tensors and plain arithmetic.
    """
    names = archive.namelist()
    if not any("/models/" in name and name.endswith(".json") for name in names) or len(set(names)) < len(
        names
    ):
        raise damaged(checkpoint, "no program of torch.export inside")
    if trust_checkpoint:
        return
    for name in names:
        if not _KNOWN_PARTS.fullmatch(name) or name.rpartition("/")[2].startswith(_CODE_OBJECTS):
            raise wants_code(checkpoint, f"it holds {name!r}, which is more than tensors")
        _refuse_part(name, archive, checkpoint)


def _refuse_part(name: str, archive: zipfile.ZipFile, checkpoint: Path) -> None:
    if "/models/" in name:
        for text in _shape_expressions(json.loads(archive.read(name))):
            if not is_plain_expression(text):
                raise wants_code(checkpoint, f"the shape expression {text[:80]!r} is no plain arithmetic")
    elif name.endswith("_config.json") and "/data/" in name:
        folder = name.rpartition("/")[0]
        for entry in json.loads(archive.read(name))["config"].values():
            if entry.get("use_pickle"):
                _refuse_pickle(f"{folder}/{entry['path_name']}", archive, checkpoint)
    elif "/sample_inputs/" in name:
        _refuse_pickle(name, archive, checkpoint)


def _shape_expressions(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr_str":
                yield str(inner)
            yield from _shape_expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _shape_expressions(inner)


def is_plain_expression(text: str) -> bool:
    """Whether a shape expression only combines numbers and named symbols.

    >>> is_plain_expression("Mul(Integer(8), Symbol('s40', positive=True))"), is_plain_expression("s0.evil()")
    (True, False)
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    for part in ast.walk(tree):
        if not isinstance(part, _PLAIN_SYNTAX):
            return False
        if isinstance(part, ast.Name) and not re.fullmatch(r"[A-Za-z]\w*", part.id):
            return False
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and not part.value.isidentifier():
            return False
    return True


def _refuse_pickle(name: str, archive: zipfile.ZipFile, checkpoint: Path) -> None:
    import torch  # heavy, and an optional extra

    content = archive.read(name)
    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        # Whatever the reason, torch would go on to read this part with code allowed.
        raise wants_code(checkpoint, f"{name.rpartition('/')[2]} holds more than tensors") from error
