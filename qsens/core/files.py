"""Files that are either complete or absent, and what a full disk is called."""

import contextlib
import errno
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qsens.core.errors import QsensWarning, RunFolderError
from qsens.device.errors import reason_of
from qsens.device.leftovers import is_left, process_mark
from qsens.device.special_files import special_kind

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


def digest_of_bytes(content: bytes) -> str:
    """The digest by which a file is known again."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_of_file(path: Path) -> str | None:
    """The same of a file, read in pieces; `None` where there is none, or none that can be read."""
    try:
        if special_kind(path) is not None:
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None


def is_as_written(path: Path, digest: str | None) -> bool:
    """Whether a file is the one of that digest, with a warning where it is another.

    An absent file is left to its reader; without a digest, as in runs made before there were any, a file is
    taken as it is.
    """
    found = None if digest is None else digest_of_file(path)
    if found is None or found == digest:
        return True
    warnings.warn(f"{path} is not the file that the run wrote: it is not used", QsensWarning, stacklevel=2)
    return False


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
