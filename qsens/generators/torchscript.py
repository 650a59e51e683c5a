"""Weights of TorchScript archives, taken out without running, or even compiling, any of their code."""

from __future__ import annotations

import pickle
import pickletools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsens.generators.archive import Archive, written_anew
from qsens.generators.refusals import wants_code

if TYPE_CHECKING:
    import torch

# torch.jit.save adds one part that torch.save does not.
MARK = "constants.pkl"
_CLASS = re.compile(r"^class (\w+)\([^()\n]*\):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_LIST = {
    kind: re.compile(rf"^  __{kind}__ = \[([^\]\n]*)\]", re.MULTILINE) for kind in ("parameters", "buffers")
}
# Modules that hold each other would be walked for ever.
_MOST_MODULES = 20_000
_SETSTATE = "  def __setstate__("
# Functions of torch.jit that only give a list or a dict its type.
_TYPED_VALUES = (
    "build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "build_tensor_from_id",
    "restore_type_tag",
)  # fmt: skip


class ScriptedModule:
    """A stand-in for a scripted class while its archive is read: attributes by name, no methods.

    `tensors` are the names of its parameters and buffers.
    """

    tensors: tuple[str, ...] = ()


def scripted_tensors(archive: Archive, checkpoint: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers by qualified name, as `state_dict` of the loaded module gives them.

    Raises:
        LoadError: if an object can only be restored by code of the archive (`__setstate__`).
        pickle.UnpicklingError: if the archive holds more than modules and tensors.
    """
    import torch  # heavy, and an optional extra

    content = archive.read("data.pkl")
    classes = [
        (_stand_in(path, archive, checkpoint), path)
        for path in _globals_of(content)
        if path.startswith("__torch__.")
    ]
    typed = [(_first_of, f"torch.jit._pickle.{name}") for name in _TYPED_VALUES]
    parts = [(name, archive.read(name)) for name in sorted(archive.names) if _is_of_weights(name)]
    with written_anew(parts) as file, torch.serialization.safe_globals([*classes, *typed]):
        module = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(module, ScriptedModule):
        raise pickle.UnpicklingError("it holds no module")
    return _named_tensors(module)


def _is_of_weights(name: str) -> bool:
    return name in ("data.pkl", "byteorder", "version") or re.fullmatch(r"data/[^/]+", name) is not None


def _first_of(value: Any, *_: Any) -> Any:
    return value


def _globals_of(content: bytes) -> list[str]:
    """The qualified names a pickle asks for; nothing is loaded."""
    try:
        return [
            str(argument).replace(" ", ".")
            for opcode, argument, _ in pickletools.genops(content)
            if opcode.name == "GLOBAL"
        ]
    except (ValueError, UnicodeDecodeError) as error:
        raise pickle.UnpicklingError(str(error)) from error


def _stand_in(path: str, archive: Archive, checkpoint: Path) -> type[ScriptedModule]:
    """A class without methods for the scripted class of that qualified name."""
    module, _, name = path.rpartition(".")
    part = f"code/{module.replace('.', '/')}.py"
    source = archive.read(part).decode() if part in archive.names else ""
    body = next((found[2] for found in _CLASS.finditer(source) if found[1] == name), None)
    if body is None or _SETSTATE in body:
        what = "is restored by code of its own" if body is not None else "is not among its classes"
        raise wants_code(checkpoint, f"{name!r} {what}")
    return type(
        name, (ScriptedModule,), {"tensors": (*_listed("parameters", body), *_listed("buffers", body))}
    )


def _listed(kind: str, body: str) -> tuple[str, ...]:
    found = _LIST[kind].search(body)
    return tuple(re.findall(r'"([^"]*)"', found[1])) if found else ()


def _named_tensors(module: ScriptedModule) -> dict[str, torch.Tensor]:
    import torch  # heavy, and an optional extra

    found: dict[str, torch.Tensor] = {}
    waiting = [("", module)]
    for _ in range(_MOST_MODULES):
        if not waiting:
            return found
        prefix, module = waiting.pop()
        for name, value in vars(module).items():
            if isinstance(value, ScriptedModule):
                waiting.append((f"{prefix}{name}.", value))
            elif name in module.tensors and isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value
    raise pickle.UnpicklingError("its modules hold each other")
