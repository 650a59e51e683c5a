"""Zip archives of torch: read by one reader, and written anew for torch from the parts that were looked at.

Python's zipfile and torch's reader can find different directories in one crafted file, so what one of them
checked says nothing of what the other loads. torch gets an archive that we wrote.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qsens.generators.refusals import UNREADABLE_ARCHIVE, damaged, first_sentence

# torch stores tensors as they are and packs only small texts.
_LARGEST_PACKED_BYTES = 2**26
_PART = re.compile(r"([^/\\]+)/((?:[^/\\]+/)*[^/\\]+)")


class Archive:
    """An open archive of one top folder; `names` are those of its parts below that folder."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        self._archive = archive
        self._parts = _parts_by_name(archive)
        # Many entries of the directory may point at the same bytes.
        if sum(part.compress_size for part in self._parts.values()) > size_bytes:
            raise zipfile.BadZipFile("its parts overlap")

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._parts)

    def read(self, name: str) -> bytes:
        """The content of a part.

        Raises:
            KeyError: if there is no such part.
            zipfile.BadZipFile: if its checksum is wrong, or it unpacks to more than torch would pack.
        """
        part = self._parts[name]
        if part.compress_type != zipfile.ZIP_STORED and part.file_size > _LARGEST_PACKED_BYTES:
            raise zipfile.BadZipFile(f"{name!r} unpacks to {part.file_size:,} bytes")
        with self._archive.open(part) as file:
            content = file.read(part.file_size)
        if len(content) != part.file_size:
            raise zipfile.BadZipFile(f"{name!r} is cut short")
        return content


def _parts_by_name(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    parts, folders = {}, set()
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        found = _PART.fullmatch(entry.filename)
        if found is None or ".." in entry.filename.split("/") or found[2] in parts:
            raise zipfile.BadZipFile(f"a part is named {entry.filename[:80]!r}")
        parts[found[2]] = entry
        folders.add(found[1])
    if len(folders) > 1:
        raise zipfile.BadZipFile("it has more than one top folder")
    return parts


@contextmanager
def open_archive(checkpoint: Path) -> Iterator[Archive]:
    """The archive in a file, for reading.

    Raises:
        LoadError: if it is damaged, whether that is seen at once or while its parts are read.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            yield Archive(archive, checkpoint.stat().st_size)
    except UNREADABLE_ARCHIVE as error:
        raise damaged(checkpoint, first_sentence(error)) from error


@contextmanager
def written_anew(parts: Iterable[tuple[str, bytes]]) -> Iterator[IO[bytes]]:
    """A nameless temporary file with an archive of these parts, as torch reads it."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts:
                archive.writestr(f"archive/{name}", content)
        file.seek(0, os.SEEK_SET)
        yield file
