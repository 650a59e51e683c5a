"""The reasons for which a generator's file is refused, in words for its owner."""

from __future__ import annotations

import codecs
import struct
import zipfile
import zlib
from pathlib import Path

from qsens.core.errors import LoadError
from qsens.device.errors import reason_of
from qsens.device.special_files import special_kind

# What reading a damaged archive can raise: its parts are lengths, texts and JSON.
UNREADABLE_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, OSError,
    OverflowError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_TRUST_HINT = (
    "if you trust whoever made the file, say --trust-checkpoint; otherwise save only its state_dict, or "
    "use safetensors"
)

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def refuse_what_holds_no_weights(checkpoint: Path) -> None:
    """Refuse a picture or a text by its first bytes.

    Raises:
        LoadError: for these, and as `refuse_other_files`.
    """
    head = refuse_other_files(checkpoint)
    kind = "a picture" if head.startswith(_PICTURES) else "a text file" if _is_text(head) else None
    if kind is not None:
        raise LoadError(
            f"{checkpoint} is {kind}, not a generator",
            "name an .onnx or .pt2 file, or weights (.pth, .safetensors) with --model package.module:factory",
        )


def _is_text(head: bytes) -> bool:
    """Whether these bytes are printable UTF-8; the last character may be cut off."""
    try:
        decoded = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f" for character in decoded)


def refuse_other_files(checkpoint: Path) -> bytes:
    """First bytes of the file.

    Raises:
        LoadError: if there is no such file, it is no regular one, empty, a web page, or a git-LFS pointer.
    """
    if checkpoint.is_dir():
        raise LoadError(f"{checkpoint} is a folder, not a file", "name the file inside it")
    if kind := special_kind(checkpoint):
        raise LoadError(f"{checkpoint} is {kind}, not a file", "save it as a file and name that")
    try:
        with checkpoint.open("rb") as file:
            head = file.read(512)
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
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
