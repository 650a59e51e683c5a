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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qsens.core.errors import LoadError
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


def read_weights(checkpoint: Path, *, trust_checkpoint: bool = False) -> dict[str, torch.Tensor]:
    """Tensors by parameter name.

    Takes a state_dict, a dict that holds one under `state_dict` (or as its only dict of tensors), a
    safetensors file, or a TorchScript archive whose weights are taken. Prefixes that every key carries
    (`module.` from DataParallel, `_orig_mod.` from torch.compile) are removed.

    Raises:
        LoadError: for a file that is missing, no checkpoint, damaged, quantized, or wants to run code.
    """
    head = refuse_other_files(checkpoint)
    if _is_safetensors(checkpoint, head):
        tensors = _read_safetensors(checkpoint)
    elif head.startswith(_PICKLE) and not head.startswith(_TORCH_PICKLE):
        raise LoadError(
            f"{checkpoint} is a plain pickle, which runs whatever it holds, not a file of torch.save",
            "load it where it was made and save its state_dict with torch.save or safetensors",
        )
    else:
        value = _read_torch(checkpoint, head, trust_checkpoint=trust_checkpoint)
        tensors = _state_dict(value, checkpoint)
    refuse_unbacked(tensors, checkpoint)
    return without_prefix(tensors)


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
    except safetensors.SafetensorError as error:
        raise damaged(checkpoint, first_sentence(error)) from error
    return tensors


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
    quantized = next((name for name, tensor in tensors.items() if tensor.is_quantized), None)
    if quantized is not None:
        raise LoadError(
            f"{checkpoint} is already quantized: {quantized!r} holds integer codes",
            "a sweep needs the float checkpoint from before quantization",
        )
    return tensors


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
