"""Generators that come as a program saved by `torch.export.save`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qsens.core.errors import LoadError
from qsens.core.interfaces import Generator
from qsens.device.plain_values import parse_json
from qsens.generators.archive import Archive, open_archive, written_anew
from qsens.generators.checkpoint import ARCHIVE, refuse_unbacked, state_digest, weights_only_loading
from qsens.generators.program_check import ForeignCodeError, checked_program
from qsens.generators.refusals import damaged, first_sentence, refuse_other_files, wants_code
from qsens.generators.torch_export import OPSET, quiet_export

if TYPE_CHECKING:
    import onnx
    import torch

PROGRAM = "models/model.json"
# Each folder of tensors, its table and the names that its files may have.
_TENSORS = (
    ("data/weights/", "model_weights_config.json", re.compile(r"weight_\d+")),
    ("data/constants/", "model_constants_config.json", re.compile(r"tensor_\d+")),
)
# Notes beside the program, and the example inputs (a pickle), which an export does not need.
_UNUSED = re.compile(
    r"extra/.+|[.]data/[^/]+|byteorder|version|archive_format|archive_version|data/sample_inputs/model[.]pt"
)


class ExportedProgram(Generator):
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
    if not refuse_other_files(checkpoint).startswith(ARCHIVE):
        raise damaged(checkpoint, "not an archive of torch.export.save")
    try:
        program = _load(checkpoint) if trust_checkpoint else _load_checked(checkpoint)
    except LoadError:
        raise
    except ForeignCodeError as error:
        raise wants_code(checkpoint, str(error)) from error
    except Exception as error:
        # The archive format is torch's own and raises whatever its parser raises.
        raise damaged(checkpoint, first_sentence(error)) from error
    refuse_unbacked(program.state_dict, checkpoint)
    return ExportedProgram(checkpoint.stem, program)


def _load(file: Path | IO[bytes]) -> torch.export.ExportedProgram:
    import torch  # heavy, and an optional extra

    with quiet_export():
        return torch.export.load(file)


def _load_checked(checkpoint: Path) -> torch.export.ExportedProgram:
    with open_archive(checkpoint) as archive:
        if PROGRAM not in archive.names:
            raise damaged(checkpoint, "no program of torch.export inside")
        with written_anew(checked_parts(archive)) as file, weights_only_loading():
            return _load(file)


def checked_parts(archive: Archive) -> Iterator[tuple[str, bytes]]:
    """The parts that a program needs, each looked at; no pickle is among them.

    Raises:
        ForeignCodeError: if a part is more than tensors and operators on them.
        ValueError: if a part is not what torch writes.
    """
    yield "archive_format", b"pt2"
    for name in ("archive_version", "byteorder", ".data/version"):
        yield name, archive.read(name)
    yield PROGRAM, json.dumps(checked_program(archive.read(PROGRAM))).encode()
    yield "data/sample_inputs/model.pt", b""
    known = {PROGRAM}
    for folder, table, pattern in _TENSORS:
        tensors = parse_json(archive.read(folder + table))
        yield folder + table, json.dumps(tensors).encode()
        files = {folder + _tensor_file(entry, pattern) for entry in tensors["config"].values()}
        for name in sorted(files):
            yield name, archive.read(name)
        known |= files | {folder + table}
    for name in sorted(archive.names - known):
        if not _UNUSED.fullmatch(name):
            raise ForeignCodeError(f"it holds {name[:80]!r}, which is more than tensors")


def _tensor_file(entry: dict[str, Any], pattern: re.Pattern[str]) -> str:
    name = str(entry["path_name"])
    if entry.get("use_pickle") or not pattern.fullmatch(name):
        raise ForeignCodeError(f"{name[:80]!r} is more than a tensor")
    return name
