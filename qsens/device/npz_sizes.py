"""Archives of arrays that somebody else may have written: sizes are known before anything is unpacked."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from qsens.device.special_files import special_kind

Array = Any  # np.ndarray takes no parameters in the NumPy of Python 3.8
# More than any archive of qsens unpacks to, unless it is as large itself.
LARGEST_BYTES = 1 << 30


def read_arrays(
    path: Path, names: Sequence[str] | None = None, largest_bytes: int = LARGEST_BYTES
) -> dict[str, Array]:
    """Arrays of an `.npz` by name: those of `names`, else all.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is no archive of arrays, is damaged, lacks one of `names`, or would unpack to more
            than `largest_bytes` and more than the file itself has.
    """
    unpacked = unpacked_bytes(path)
    if unpacked > max(largest_bytes, path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes")
    try:
        with np.load(str(path), allow_pickle=False) as archive:
            return {name: archive[name] for name in (archive.files if names is None else names)}
    except _DAMAGE as error:
        raise ValueError(f"it is damaged: {error}") from error


def mapped_array(path: Path) -> Array:
    """The array of an `.npy`, read from the file where it is used.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is a pipe or a device, holds no array, or less than its header says.
    """
    kind = special_kind(path)
    if kind is not None:
        raise ValueError(f"it is {kind}")
    try:
        return np.load(str(path), mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(f"it is damaged: {error}") from error


def unpacked_bytes(path: Path) -> int:
    """The bytes that the arrays of an `.npz` take, as its directory and their headers say.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is a pipe or a device, or no archive of arrays.
    """
    kind = special_kind(path)
    if kind is not None:
        raise ValueError(f"it is {kind}")
    try:
        with zipfile.ZipFile(str(path)) as archive:
            return sum(max(_array_bytes(archive, entry), entry.file_size) for entry in archive.infolist())
    except _DAMAGE as error:
        raise ValueError(f"it is damaged: {error}") from error


def _array_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Bytes of the array that a member's header tells of: NumPy takes that much memory before it reads."""
    if not entry.filename.endswith(".npy"):
        return 0
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(entry) as member:
        reader = readers.get(np.lib.format.read_magic(member))
        if reader is None:  # only structured types of names beyond Latin-1
            raise ValueError("its header is of another version")
        shape, _, dtype = reader(member)
    count = 1
    for side in shape:
        count *= max(side, 0)
    return count * dtype.itemsize


# What numpy and zipfile raise for a file that is torn or has flipped bits.
_DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
