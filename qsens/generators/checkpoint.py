"""Reading the weights of a checkpoint file, whichever way they were saved, without running its code."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsens.device.errors import reason_of
from qsens.errors import LoadError

if TYPE_CHECKING:
    import torch

# What reading a damaged archive can raise: its parts are lengths, texts and JSON.
UNREADABLE_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
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
_TRUST_HINT = (
    "if you trust whoever made the file, say --trust-checkpoint; otherwise save only its state_dict, or "
    "use safetensors"
)


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
        return _read_safetensors(checkpoint)
    if head.startswith(_PICKLE) and not head.startswith(_TORCH_PICKLE):
        raise LoadError(
            f"{checkpoint} is a plain pickle, which runs whatever it holds, not a file of torch.save",
            "load it where it was made and save its state_dict with torch.save or safetensors",
        )
    if head.startswith(ARCHIVE) and _is_torchscript(checkpoint):
        return without_prefix(_state_dict(_read_torchscript(checkpoint), checkpoint))
    value = _read_torch(checkpoint, trust_checkpoint=trust_checkpoint)
    return without_prefix(_state_dict(value, checkpoint))


def refuse_other_files(checkpoint: Path) -> bytes:
    """First bytes of the file.

    Raises:
        LoadError: if there is no such file, it is empty, a web page, or a git-LFS pointer.
    """
    if checkpoint.is_dir():
        raise LoadError(f"{checkpoint} is a folder, not a file", "name the file inside it")
    try:
        with checkpoint.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        reason = reason_of(error)
        raise LoadError(f"cannot read {checkpoint}: {reason}", "check the path") from error
    if not head:
        raise LoadError(f"{checkpoint} is empty", "the download or copy failed; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise LoadError(
            f"{checkpoint} is a git-LFS pointer, not the file itself", "run `git lfs pull` where it came from"
        )
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise LoadError(
            f"{checkpoint} is a web page, not a checkpoint",
            "the download link led to a page (a login, a quota notice); fetch the file itself",
        )
    return head


def damaged(checkpoint: Path, reason: str) -> LoadError:
    """The error for a file that is cut short or not what its name says."""
    size = checkpoint.stat().st_size
    return LoadError(
        f"{checkpoint} is damaged or no checkpoint ({size:,} bytes): {reason}",
        "compare its size and sha256 with the source and fetch it again",
    )


def wants_code(checkpoint: Path, reason: str) -> LoadError:
    """The error for a file that cannot be read without running code it holds."""
    return LoadError(f"{checkpoint} wants to run code while it is read: {reason}", _TRUST_HINT)


def first_sentence(error: BaseException) -> str:
    """The start of an error's text, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _is_safetensors(checkpoint: Path, head: bytes) -> bool:
    if checkpoint.suffix == ".safetensors":
        return True
    length = struct.unpack("<Q", head[:8])[0] if len(head) > 8 else 0
    return head[8:9] == b"{" and 2 <= length <= 100_000_000


def _read_safetensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch  # heavy, and an optional extra

    try:
        tensors = safetensors.torch.load_file(checkpoint)
    except safetensors.SafetensorError as error:
        raise damaged(checkpoint, first_sentence(error)) from error
    return without_prefix(tensors)


def _read_torch(checkpoint: Path, *, trust_checkpoint: bool) -> Any:
    import torch  # heavy, and an optional extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(checkpoint, map_location="cpu", weights_only=not trust_checkpoint)
        except pickle.UnpicklingError as error:
            if not trust_checkpoint and (reason := _code_wanted(error)):
                raise wants_code(checkpoint, reason) from error
            raise damaged(checkpoint, "it holds no readable tensors") from error
        except Exception as error:
            # A damaged pickle can raise anything: EOFError, RuntimeError, KeyError, UnicodeDecodeError, ...
            raise damaged(checkpoint, first_sentence(error)) from error


def _code_wanted(error: pickle.UnpicklingError) -> str:
    """What a refused pickle asks for, or nothing if it is simply not a pickle."""
    # torch goes on to say how its own loader can be told to run the code.
    lines = [line.strip().partition(" Please use")[0] for line in str(error).splitlines()]
    return next((line[:200] for line in lines if any(mark in line for mark in _WANTS_CODE)), "")


def _is_torchscript(checkpoint: Path) -> bool:
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except UNREADABLE_ARCHIVE as error:
        raise damaged(checkpoint, first_sentence(error)) from error


def _read_torchscript(checkpoint: Path) -> Any:
    import torch  # heavy, and an optional extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.jit.load(str(checkpoint), map_location="cpu").state_dict()
        except RuntimeError as error:
            raise damaged(checkpoint, first_sentence(error)) from error


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
