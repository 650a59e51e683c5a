"""Reading the weights of a checkpoint file, whichever way they were saved, without running its code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qsens.core.errors import LoadError
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.generators import torchscript
from qsens.generators.archive import Archive, open_archive, written_anew
from qsens.generators.refusals import damaged, first_sentence, refuse_other_files, wants_code

if TYPE_CHECKING:
    import torch

_PREFIXES = ("module.", "_orig_mod.")
_WANTS_CODE = (
    "Unsupported global",
    "Unsupported class",
    "not an allowed global",
    "GLOBAL",
    "REDUCE",
    "BUILD",
)
ARCHIVE = b"PK"
_PICKLE = b"\x80"
_TORCH_PICKLE = b"\x80\x02\x8a\n"
_SAVED_PART = re.compile(r"data[.]pkl|data/[^/]+|byteorder|version|[.]format_version|[.]storage_alignment")
# A few bytes of a file can describe a tensor of terabytes; this much is always allowed.
_SMALL_BYTES = 2**26
# Of dicts in dicts; a pickle can hold itself.
_DEEPEST = 8


@dataclass(frozen=True, eq=False)
class HeldTensors:
    """All tensors of a file by dotted name, the names of the dicts that hold them included.

    `folders` is the part of each name that is dicts, with a dot behind each; `lists` counts the tensors in
    lists, which have no names of their own.
    """

    tensors: Mapping[str, torch.Tensor]
    folders: Mapping[str, str]
    lists: Mapping[str, int]

    def renamed(self, spelled: Mapping[str, str]) -> HeldTensors:
        """The same with other names for some tensors, in the same dicts."""
        tensors = {spelled.get(name, name): tensor for name, tensor in self.tensors.items()}
        folders = {spelled.get(name, name): folder for name, folder in self.folders.items()}
        return HeldTensors(tensors, folders, self.lists)


def read_weights(checkpoint: Path, *, trust_checkpoint: bool = False) -> dict[str, torch.Tensor]:
    """Tensors by parameter name, for readers that have no module to match them against.

    Takes a state_dict, a dict that holds one under `state_dict` (or as its only dict of tensors), a
    safetensors file, or a TorchScript archive whose weights are taken. Prefixes that every key carries
    (`module.` from DataParallel, `_orig_mod.` from torch.compile) are removed.

    Raises:
        LoadError: for a file that is missing, no checkpoint, damaged, quantized, or wants to run code.
    """
    tensors = _state_dict(_content(checkpoint, trust_checkpoint=trust_checkpoint), checkpoint)
    refuse_unbacked(tensors, checkpoint)
    return without_prefix(tensors)


def read_tensors(checkpoint: Path, *, trust_checkpoint: bool = False) -> HeldTensors:
    """Everything in a checkpoint that may be weights, whatever it lies in; parts of an index are joined.

    Raises:
        LoadError: for a file that is missing, no checkpoint, damaged, quantized, or wants to run code.
    """
    head = refuse_other_files(checkpoint)
    if head.lstrip().startswith(b"{") and checkpoint.name.endswith(".index.json"):
        parts = [_held(part, trust_checkpoint=trust_checkpoint) for part in _parts_of_index(checkpoint)]
        joined = {name: tensor for part in parts for name, tensor in part.tensors.items()}
        return HeldTensors(joined, dict.fromkeys(joined, ""), {})
    return _held(checkpoint, trust_checkpoint=trust_checkpoint)


def _parts_of_index(index: Path) -> list[Path]:
    try:
        names = set(parse_json(read_file(index))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(index, "it lists no files under 'weight_map'") from error
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or name in ("", "..", index.name):
            raise damaged(index, f"it lists a file {str(name)[:80]!r} outside its folder")
    return [index.with_name(name) for name in sorted(names)]


def _held(checkpoint: Path, *, trust_checkpoint: bool) -> HeldTensors:
    tensors: dict[str, torch.Tensor] = {}
    folders: dict[str, str] = {}
    lists: dict[str, int] = {}
    for folder, name, found in _walk(_content(checkpoint, trust_checkpoint=trust_checkpoint)):
        if isinstance(found, list | tuple):
            lists[folder.rstrip(".")] = len(found)
        elif f"{folder}{name}" in tensors:
            raise damaged(checkpoint, f"it holds two tensors named {folder + name!r}")
        else:
            tensors[folder + name], folders[folder + name] = found, folder
    refuse_unbacked(tensors, checkpoint)
    _refuse_quantized(tensors, checkpoint)
    _refuse_without_values(tensors, checkpoint)
    return HeldTensors(tensors, folders, lists)


def _walk(content: Any) -> Iterator[tuple[str, str, Any]]:
    """The folder, the name in it, and the tensor or list of tensors, for each that can be reached."""
    import torch  # heavy, and an optional extra

    waiting, seen = [("", content)], {id(content)}
    while waiting:
        folder, holder = waiting.pop()
        if isinstance(holder, torch.nn.Module):
            holder = holder.state_dict()
        if isinstance(holder, list | tuple) and any(isinstance(entry, torch.Tensor) for entry in holder):
            yield folder, "", holder
        elif isinstance(holder, Mapping | list | tuple):
            entries = holder.items() if isinstance(holder, Mapping) else enumerate(holder)
            for name, value in entries:
                if isinstance(value, torch.Tensor):
                    yield folder, str(name), value
                elif id(value) not in seen and folder.count(".") < _DEEPEST:
                    seen.add(id(value))
                    waiting.append((f"{folder}{name}.", value))


def _content(checkpoint: Path, *, trust_checkpoint: bool) -> Any:
    """The contents of the file: tensors by name, or whatever was given to `torch.save`."""
    head = refuse_other_files(checkpoint)
    if _is_safetensors(checkpoint, head):
        return _read_safetensors(checkpoint)
    if head.startswith(_PICKLE) and not head.startswith(_TORCH_PICKLE):
        raise LoadError(
            f"{checkpoint} is a plain pickle, which runs whatever it holds, not a file of torch.save",
            "load it where it was made and save its state_dict with torch.save or safetensors",
        )
    return _read_torch(checkpoint, head, trust_checkpoint=trust_checkpoint)


@contextmanager
def weights_only_loading() -> Iterator[None]:
    """Within, every `torch.load` of this process refuses code, whatever its caller asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def refuse_unbacked(tensors: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    """Refuse tensors that say they are larger than the file that holds them.

    Raises:
        LoadError: naming one whose values are not in the file, or that repeats few values without end.
    """
    size_bytes = checkpoint.stat().st_size
    limit_bytes = max(size_bytes, _SMALL_BYTES)
    claimed = {}
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > limit_bytes:
            shape = "x".join(map(str, tensor.shape))
            raise damaged(checkpoint, f"{name!r} says it is {shape}, more than the file can hold")
        if tensor.layout == _strided():
            storage = tensor.untyped_storage()
            claimed[storage.data_ptr()] = storage.nbytes()
    if sum(claimed.values()) > size_bytes:
        raise damaged(checkpoint, f"its tensors say they take {sum(claimed.values()):,} bytes")


def _strided() -> Any:
    import torch  # heavy, and an optional extra

    return torch.strided


def _is_safetensors(checkpoint: Path, head: bytes) -> bool:
    if checkpoint.suffix == ".safetensors":
        return True
    length = struct.unpack("<Q", head[:8])[0] if len(head) > 8 else 0
    return head[8:9] == b"{" and 2 <= length <= 100_000_000


def _read_safetensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch  # heavy, and an optional extra

    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(checkpoint)
        with safetensors.safe_open(checkpoint, "pt") as file:
            notes = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise damaged(checkpoint, first_sentence(error)) from error
    # `save_model` writes tied weights once and notes which of them stands for the other.
    tied = {name: kept for name, kept in notes.items() if kept in tensors and name not in tensors}
    return {**tensors, **{name: tensors[kept] for name, kept in tied.items()}}


def _read_torch(checkpoint: Path, head: bytes, *, trust_checkpoint: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if trust_checkpoint:
                return _load(checkpoint, trust_checkpoint=True)
            with weights_only_loading():
                return _load_archive(checkpoint) if head.startswith(ARCHIVE) else _load(checkpoint)
        except LoadError:
            raise
        except pickle.UnpicklingError as error:
            if not trust_checkpoint and (reason := _code_wanted(error)):
                raise wants_code(checkpoint, reason) from error
            raise damaged(checkpoint, "it holds no readable tensors") from error
        except Exception as error:
            # A damaged pickle can raise anything: EOFError, RuntimeError, KeyError, UnicodeDecodeError, ...
            raise damaged(checkpoint, first_sentence(error)) from error


def _load_archive(checkpoint: Path) -> Any:
    with open_archive(checkpoint) as archive:
        if torchscript.MARK in archive.names:
            return torchscript.scripted_tensors(archive, checkpoint)
        with written_anew(_saved_parts(archive)) as file:
            return _load(file)


def _saved_parts(archive: Archive) -> Iterator[tuple[str, bytes]]:
    for name in sorted(archive.names):
        if _SAVED_PART.fullmatch(name):
            yield name, archive.read(name)


def _load(file: Path | IO[bytes], *, trust_checkpoint: bool = False) -> Any:
    import torch  # heavy, and an optional extra

    return torch.load(file, map_location="cpu", weights_only=not trust_checkpoint)


def _code_wanted(error: pickle.UnpicklingError) -> str:
    """The code that a refused pickle asks for, or nothing if it is simply not a pickle."""
    # torch goes on to say how its own loader can be told to run the code.
    lines = [line.strip().partition(" Please use")[0] for line in str(error).splitlines()]
    return next((line[:200] for line in lines if any(mark in line for mark in _WANTS_CODE)), "")


def _state_dict(value: Any, checkpoint: Path) -> dict[str, torch.Tensor]:
    """The dict of tensors inside what was loaded."""
    import torch  # heavy, and an optional extra

    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping):
        raise LoadError(
            f"{checkpoint} holds a {type(value).__name__}, not weights by name",
            "save module.state_dict()",
        )
    tensors = _tensors_in(value)
    if not tensors:
        tensors = _only_dict_of_tensors(value, checkpoint)
    _refuse_quantized(tensors, checkpoint)
    return tensors


def _refuse_quantized(tensors: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    quantized = next((name for name, tensor in tensors.items() if tensor.is_quantized), None)
    if quantized is not None:
        raise LoadError(
            f"{checkpoint} is already quantized: {quantized!r} holds integer codes",
            "a sweep needs the float checkpoint from before quantization",
        )


def _refuse_without_values(tensors: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.device.type == "meta":
            raise LoadError(
                f"{checkpoint} holds no values for {name!r}: it was saved from the device 'meta'",
                "load the weights before the module is saved",
            )
        if tensor.layout != _strided():
            raise LoadError(
                f"{checkpoint} holds {name!r} in the form {tensor.layout}".replace("torch.", ""),
                "save it dense: tensor.to_dense()",
            )


def _tensors_in(value: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    import torch  # heavy, and an optional extra

    return {str(name): tensor for name, tensor in value.items() if isinstance(tensor, torch.Tensor)}


def _only_dict_of_tensors(value: Mapping[Any, Any], checkpoint: Path) -> dict[str, torch.Tensor]:
    held = {str(name): _tensors_in(inner) for name, inner in value.items() if isinstance(inner, Mapping)}
    filled = {name: tensors for name, tensors in held.items() if tensors}
    if len(filled) == 1:
        return next(iter(filled.values()))
    listed = ", ".join(map(str, list(value)[:8])) or "nothing"
    raise LoadError(
        f"{checkpoint} has no entry 'state_dict' and no tensors at its top; it holds: {listed}",
        'save {"state_dict": module.state_dict()}',
    )


def without_prefix(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove wrapper prefixes that every key carries; only at the start of a key."""
    renamed = dict(tensors)
    while renamed:
        prefix = next((text for text in _PREFIXES if all(name.startswith(text) for name in renamed)), None)
        if prefix is None:
            break
        renamed = {name.removeprefix(prefix): tensor for name, tensor in renamed.items()}
    return renamed


def state_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def _raw_bytes(tensor: torch.Tensor) -> bytes:
    import torch  # heavy, and an optional extra

    flat = tensor.reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
