"""Files that are either complete or absent, records in them, and what a full disk is called."""

import contextlib
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from qsens.core.errors import QsensWarning, RunFolderError
from qsens.core.schema import read_record
from qsens.device.errors import reason_of
from qsens.device.leftovers import process_mark, tidy_once
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file, special_kind

Record = TypeVar("Record")
_PARTIAL = ".partial"
_SEAL = "seal"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def keep_record(path: Path, record: Any) -> None:
    """Write a dataclass of plain values as sealed JSON. Raises `RunFolderError` if it cannot be written."""
    write_atomically(path, (json.dumps(sealed(asdict(record))) + "\n").encode())


def kept_record(kind: type[Record], path: Path) -> Record | None:
    """The record in a file; `None` where there is none, as in runs of older versions, or it is damaged.

    One that was changed by another hand is not used, with a warning.
    """
    try:
        return read_record(kind, unsealed(parse_json(read_file(path))))
    except ChangedRecordError:
        _warn_of_change(path)
    except (OSError, ValueError):
        pass
    return None


class ChangedRecordError(ValueError):
    """A record is not the one that its seal was made of."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON with a digest of them beside them, by which a change shows."""
    return {**values, _SEAL: _digest_of_values(values)}


def unsealed(values: Any) -> Any:
    """The values that were sealed; what bears no seal, as files of older versions, is taken as it is.

    Raises:
        ChangedRecordError: if they are others than those that were sealed.
    """
    if not isinstance(values, dict) or _SEAL not in values:
        return values
    plain = {name: value for name, value in values.items() if name != _SEAL}
    if values[_SEAL] != _digest_of_values(plain):
        raise ChangedRecordError("it is not what the run wrote")
    return plain


def _digest_of_values(values: Mapping[str, Any]) -> str:
    # As they will be read: names that are numbers become texts, and are sorted as such.
    read_back = json.loads(json.dumps(values))
    return digest_of_bytes(json.dumps(read_back, sort_keys=True).encode())


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write bytes, or let a function write them, to a neighbour that then takes the name `path`.

    The neighbour's name is this process's own; those that killed processes left in the folder are removed
    when this one writes there first: a folder of 100,000 files takes long to read.

    Raises:
        RunFolderError: if the file cannot be written; an earlier version stays as it was.
    """
    partial = path.with_name(f".{path.name}.{process_mark()}{_PARTIAL}")
    try:
        tidy_once(str(path.parent))
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
    _warn_of_change(path)
    return False


def _warn_of_change(path: Path) -> None:
    warnings.warn(f"{path} is not the file that the run wrote: it is not used", QsensWarning, stacklevel=3)


def write_error(path: Path, error: OSError) -> RunFolderError:
    """The error a user reads when `path` could not be written."""
    # numpy reports a short write, which only a full disk makes, without an error number.
    if error.errno is None or error.errno in DISK_FULL:
        return RunFolderError(
            f"no space left while writing {path}",
            "nothing computed before is lost: free some space and run the same command again",
        )
    return RunFolderError(f"cannot write {path}: {reason_of(error)}", "check the folder and its permissions")
