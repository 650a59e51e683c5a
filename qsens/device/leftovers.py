"""Temporary folders and partial files that say whose they are: what a killed process left can be removed."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Iterator

# Ends the names of what a process was about to replace: whoever knows where it belongs puts it back.
REPLACED = ".replaced"
_MARK = re.compile(r"of-([0-9a-f]{8})-(\d+)-(\d+)(?![0-9])")


def process_mark() -> str:
    """Text for file names that says which process made them: the machine, the process and when it began."""
    number = os.getpid()
    return f"of-{_machine()}-{number}-{_start_of(number) or 0}"


def remove_leftovers(folder: str | Path) -> None:
    """Remove the entries of a folder that carry the mark of a process of this machine that is gone."""
    try:
        entries = list(Path(folder).iterdir())
    except OSError:
        return
    for entry in entries:
        if is_left(entry.name) and not entry.name.endswith(REPLACED):
            remove_entry(entry)


@functools.lru_cache(maxsize=None)
def tidy_once(place: str) -> None:
    """The same, the first time that this process asks for a folder."""
    remove_leftovers(place)


def is_left(name: str) -> bool:
    """Whether a name carries the mark of a process of this machine that is gone."""
    found = _MARK.search(name)
    return found is not None and _is_gone(found[1], int(found[2]), int(found[3]))


@contextlib.contextmanager
def temporary_folder(parent: str | Path | None = None, *, prefix: str = "qsens-") -> Iterator[Path]:
    """A folder that is gone after the block; one left by a process that was killed goes with the next one.

    It lies in `parent`, or where this machine keeps temporary files.
    """
    place = tempfile.gettempdir() if parent is None else str(parent)
    tidy_once(place)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{process_mark()}-", dir=place) as folder:
        yield Path(folder)


def remove_entry(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as the system lets."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _is_gone(machine: str, number: int, start: int) -> bool:
    return machine == _machine() and _start_of(number) != start


def _start_of(number: int) -> int | None:
    """The start of a process in ticks since the machine's, or 0 where nothing says; `None` if it is gone."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_unknown(number)
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _start_unknown(number: int) -> int | None:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return 0
    return 0


@functools.lru_cache(maxsize=None)
def _machine() -> str:
    """Eight digits for this machine and its space of process numbers: a container has one of its own."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"
