"""Names of files that are no files: reading a pipe or a device may never end."""

from __future__ import annotations

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
