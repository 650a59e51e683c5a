"""Weight files of extractors: checked against a digest, read without running code, fetched whole or not."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import pickle
import shutil
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qsens.core.errors import DataError, LoadError, install_hint
from qsens.device.errors import reason_of
from qsens.device.leftovers import temporary_folder

CHUNK_BYTES = 1 << 20
# What torch's reader is seen to raise on files that are something else.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)


def file_digest(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_digest(path: Path, expected_prefix: str, hint: str) -> str:
    """The sha256 of a file, which must start with the expected digits.

    Raises:
        LoadError: if the file is missing or another one.
    """
    if not path.is_file():
        raise LoadError(f"no weights file {path}", hint)
    digest = file_digest(path)
    if not digest.startswith(expected_prefix):
        raise LoadError(
            f"{path} is damaged or another file: its sha256 starts with "
            f"{digest[: len(expected_prefix)]}, expected {expected_prefix}",
            hint,
        )
    return digest


def torch_hub_folder() -> Path:
    """The folder in which torch hub keeps weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("TORCH_HOME") or Path(cache) / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


@dataclass(frozen=True)
class PublishedFile:
    """A weights file that its authors published: its address, its sha256, and where it is kept.

    `folder` makes the folder in which their own package keeps it; `option` is the one that names a path.
    """

    name: str
    url: str
    sha256: str
    size: str
    folder: Callable[[], Path]
    option: str

    @property
    def path(self) -> Path:
        """The place where it is looked for, and fetched to."""
        return self.folder() / self.name

    @property
    def advice(self) -> str:
        """The ways to have it."""
        return (
            f"put {self.name} ({self.size}, {self.url}) at {self.path} or name it with "
            f"--option {self.option}=PATH"
        )

    def located(self, named: str | None = None, *, download: bool = False) -> Path:
        """The path that was named, else the one where it is kept, fetched with `download`.

        Raises:
            LoadError: if it is not there, or what was fetched is another file.
        """
        path = self.path if named is None else Path(named)
        if not path.is_file():
            if named is not None or not download:
                raise LoadError(f"no weights at {path}", self.advice)
            fetch_file(self.url, path, self.sha256)
        return path

    def checked(self, path: Path, sha256: str) -> str:
        """The sha256 of a file. Raises `LoadError` if it is not the one expected."""
        return check_digest(path, sha256, self.advice)

    def problem(self) -> str | None:
        """The reason that it cannot be used here without a download; `None` where it can."""
        if importlib.util.find_spec("torch") is None:
            return f"no torch: {install_hint('fid')}"
        if self.path.is_file():
            return None
        return f"no weights at {self.path}; --option {self.option}=PATH names another place"


def load_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name of a torch state dict; the pickle is read with `weights_only`.

    Raises:
        LoadError: if torch is missing or the file holds anything else.
    """
    try:
        import torch  # deferred: heavy, and only needed to read the weights file
    except ImportError:
        raise LoadError(
            f"reading {path.name} needs torch, which is not installed", install_hint("lite")
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    except UNREADABLE as error:
        raise LoadError(
            f"{path} is not a torch state dict: {error}", "use the file as it was published"
        ) from None


def fetch_file(url: str, path: Path, expected_prefix: str) -> None:
    """Download to `path`, which appears only when complete and with the expected sha256.

    Raises:
        LoadError: if the file cannot be fetched or is another one.
        DataError: if the folder cannot be written.
    """

    def fetch(partial: Path) -> None:
        try:
            with urllib.request.urlopen(url, timeout=30) as response, partial.open("wb") as stream:
                shutil.copyfileobj(response, stream, CHUNK_BYTES)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            raise LoadError(
                f"cannot download {url}: {reason_of(error)}", f"fetch it elsewhere and put it at {path}"
            ) from None
        check_digest(partial, expected_prefix, f"fetch {url} by hand and put it at {path}")

    write_whole(path, fetch)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Raises:
        DataError: if the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent, prefix=".part-") as folder:
            partial = folder / path.name
            write(partial)
            partial.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {reason_of(error)}", "free space or choose another folder"
        ) from None
