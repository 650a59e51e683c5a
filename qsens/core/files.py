"""Files that are either complete or absent, and what a full disk is called."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qsens.core.errors import RunFolderError
from qsens.device.errors import reason_of
from qsens.device.leftovers import is_left, process_mark

_PARTIAL = ".partial"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write bytes, or let a function write them, to a neighbour that then takes the name `path`.

    The neighbour's name is this process's own; those that killed processes left are removed.

    Raises:
        RunFolderError: if the file cannot be written; an earlier version stays as it was.
    """
    partial = path.with_name(f".{path.name}.{process_mark()}{_PARTIAL}")
    try:
        _remove_left(path)
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _remove_left(path: Path) -> None:
    start = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start)]
    for name in names:
        if name.endswith(_PARTIAL) and is_left(name):
            path.with_name(name).unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> RunFolderError:
    """The error a user reads when `path` could not be written."""
    # numpy reports a short write, which only a full disk makes, without an error number.
    if error.errno is None or error.errno in DISK_FULL:
        return RunFolderError(
            f"no space left while writing {path}",
            "nothing computed before is lost: free some space and run the same command again",
        )
    return RunFolderError(f"cannot write {path}: {reason_of(error)}", "check the folder and its permissions")
