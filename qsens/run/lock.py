"""The lock of a run folder: one process writes it at a time, and the next one is told which."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from qsens.core.errors import RunFolderError
from qsens.core.files import write_atomically
from qsens.device.errors import reason_of


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the run folder `path`.

    Raises:
        RunFolderError: if another process holds it, which is named, or the file system has no locks.
    """
    lock, owner = FileLock(path / ".lock"), path / ".lock-owner"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"{path} is being written by another process ({_read_owner(owner)})",
            "wait until it ends, or give another folder with --out",
        ) from None
    except (OSError, NotImplementedError) as error:
        raise RunFolderError(
            f"cannot lock {path}: {reason_of(error)}", "give a folder on a local disk with --out"
        ) from error
    try:
        # The lock file itself is emptied by every process that tries to take it.
        write_atomically(owner, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read_owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "process unknown"
