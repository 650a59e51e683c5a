"""Files that are either complete or absent, and what a full disk is called."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qsens.device.errors import reason_of
from qsens.errors import RunFolderError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write bytes, or let a function write them, to a neighbour that then takes the name `path`.

    Raises:
        RunFolderError: if the file cannot be written; an earlier version stays as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> RunFolderError:
    """The error a user reads when `path` could not be written."""
    # numpy reports a short write, which only a full disk makes, without an error number.
    if error.errno is None or error.errno in DISK_FULL:
        return RunFolderError(
            f"no space left while writing {path}",
            "nothing computed before is lost: free some space and run the same command again",
        )
    return RunFolderError(f"cannot write {path}: {reason_of(error)}", "check the folder and its permissions")
