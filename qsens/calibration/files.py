"""Files of a set: which ones belong to it, in which order, and their checksums."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qsens.core.errors import DataError
from qsens.device.errors import reason_of
from qsens.device.special_files import special_kind

IMAGE_EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp")
ARRAY_EXTENSIONS = (".npz",)


@dataclass(eq=False)
class SetFiles:
    """The files of one set, in order. Checksums are computed when first asked for, and kept."""

    folder: Path
    paths: tuple[Path, ...]
    are_images: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Each file's path below the folder, with forward slashes."""
        return tuple(path.relative_to(self.folder).as_posix() for path in self.paths)

    @cached_property
    def checksums(self) -> tuple[str, ...]:
        """sha256 of each file, hexadecimal."""
        return tuple(file_sha256(path) for path in self.paths)

    @property
    def digest(self) -> str:
        """sha256 over the checksums in order; file names do not count."""
        return hashlib.sha256("\n".join(self.checksums).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces. Raises `DataError` if it cannot be read."""
    try:
        refuse_special(path)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", "check the file and its rights") from error


def list_files(folder: Path, extensions: Sequence[str]) -> tuple[Path, ...]:
    """Files directly in `folder` with one of the extensions (any case), sorted by name; none hidden.

    Raises:
        DataError: if the folder does not exist, cannot be listed, holds no such file, or a link to nothing, a
            pipe or a device under such a name.
    """
    entries = _entries(folder)
    named = tuple(path for path in entries if path.suffix.lower() in extensions)
    for path in named:
        _refuse_what_is_no_file(path)
    found = tuple(path for path in named if path.is_file())
    if not found:
        raise DataError(f"nothing to read in {folder}", _what_was_looked_for(entries, extensions))
    return found


def list_set_files(folder: Path) -> SetFiles:
    """The images or the `.npz` files directly in `folder`, sorted by name.

    Raises:
        DataError: if the folder holds neither, or both.
    """
    paths = list_files(folder, IMAGE_EXTENSIONS + ARRAY_EXTENSIONS)
    arrays = [path for path in paths if path.suffix.lower() in ARRAY_EXTENSIONS]
    if arrays and len(arrays) < len(paths):
        image = next(path for path in paths if path not in arrays)
        raise DataError(
            f"{folder} holds images ({image.name}) and arrays ({arrays[0].name})",
            "keep one kind in a folder",
        )
    return SetFiles(folder, paths, are_images=not arrays)


def list_nested_files(folder: Path) -> SetFiles:
    """All files in subfolders of `folder`, hidden ones left out, sorted by path: a set with an opener.

    Raises:
        DataError: if there is no such folder or no file in its subfolders.
    """
    found: list[Path] = []
    for entry in _entries(folder):
        if entry.is_dir():
            visible = [path for path in entry.rglob("*") if not _is_hidden(path, folder)]
            for path in visible:
                _refuse_what_is_no_file(path)
            found += [path for path in visible if path.is_file()]
    if not found:
        raise DataError(f"nothing to read in the subfolders of {folder}", "check the path")
    return SetFiles(folder, tuple(sorted(found, key=lambda path: path.as_posix())), are_images=False)


def refuse_special(path: Path) -> None:
    """Raise `DataError` for a pipe, a device or a socket, which reading may never leave."""
    if kind := special_kind(path):
        raise DataError(f"{path} is {kind}, not a file", "give a file, or remove it from the folder")


def _refuse_what_is_no_file(path: Path) -> None:
    """A set without one of its files would be another set."""
    refuse_special(path)
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to nothing", "restore what it points to, or remove it")


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _entries(folder: Path) -> list[Path]:
    if folder.is_file():
        raise DataError(f"{folder} is a file", "give the folder that holds the images")
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        raise DataError(f"cannot list folder {folder}: {reason_of(error)}", "check the path") from error
    return [path for path in entries if not path.name.startswith(".")]


def _what_was_looked_for(entries: Sequence[Path], extensions: Sequence[str]) -> str:
    wanted = f"looked for {', '.join(extensions)} (any case) directly in the folder"
    folders = [path.name for path in entries if path.is_dir()]
    return f"{wanted}; subfolders such as {folders[0]!r} are not read" if folders else wanted
