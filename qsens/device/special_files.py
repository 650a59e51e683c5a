"""Names of files that are no files: reading a pipe or a device may never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def special_kind(path: Path) -> str | None:
    """`a pipe`, `a device` or `a socket`, links followed; `None` for a file, a folder, or nothing at all."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # absent, or a name with NUL
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: if it cannot be read; a pipe, a device or a socket never is.
    """
    kind = special_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    try:
        return path.read_bytes()
    except ValueError as error:  # a name with NUL
        raise OSError(errno.EINVAL, str(error), str(path)) from error
