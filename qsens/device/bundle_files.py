"""The files of a bundle: checksums, and `bundle.json` read into what the checks need."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from qsens.device.audit import AskedLayer
from qsens.device.errors import DeviceError, reason_of

SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
GOLDENS = "goldens.npz"
CHECKSUMS = "SHA256SUMS"
PRECISIONS = ("int8", "fp16", "fp32")
_CHUNK_BYTES = 2**20
_LISTED = 5
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(frozen=True)
class BundleInput:
    """One input of the model: `shape` is that of the goldens, without the batch axis if `is_batched`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_batched: bool


@dataclass(frozen=True)
class Bounds:
    """Least PSNR in dB, on the picture's value range, of the engine against both golden outputs."""

    fp32_psnr_db: float
    exact_psnr_db: float


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose `bundle.json` was read and checked; `document` is all of it.

    `asked` lists every layer in execution order. `float_pins` are ONNX nodes that TensorRT 8 must be told
    not to run in INT8, with their precision. The picture is the output `picture`, whose values in
    `value_range` a viewer sees.
    """

    folder: Path
    runtime: str
    flavour: str
    batch: int
    inputs: tuple[BundleInput, ...]
    outputs: tuple[str, ...]
    picture: str
    value_range: tuple[float, float]
    asked: tuple[AskedLayer, ...]
    float_pins: tuple[tuple[str, str], ...]
    bounds: Bounds
    document: Mapping[str, Any]

    @property
    def model_path(self) -> Path:
        """The graph that the engine is built from."""
        return self.folder / MODEL

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Full shapes by input name, at the bundle's batch."""
        return {
            entry.name: ((self.batch,) if entry.is_batched else ()) + entry.shape for entry in self.inputs
        }


def read_bundle(folder: Path) -> Bundle:
    """Read `bundle.json`.

    Raises:
        DeviceError: if the folder is no bundle, naming the key that is missing or wrong.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        raise DeviceError(
            f"{folder} is not a bundle: it has no {DOCUMENT}",
            "give the folder that `qsens export` wrote",
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read {path}: {reason_of(error)}", "copy the bundle again") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        found = document.get("schema_version") if isinstance(document, dict) else document
        raise DeviceError(
            f"{path} has schema version {found!r}, this script reads {SCHEMA_VERSION}",
            "run the verify.py that lies in the bundle",
        )
    try:
        return _bundle(folder, document)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DeviceError(f"{path}: {what}", "copy the bundle again") from error


def check_files(folder: Path) -> int:
    """Compare every file with `SHA256SUMS`; returns how many there are.

    Raises:
        DeviceError: naming files that are missing, changed, or not part of the bundle.
    """
    sums = _read_checksums(folder / CHECKSUMS)
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    } - {CHECKSUMS}
    _refuse(sorted(sums.keys() - found), "missing")
    _refuse(sorted(found - sums.keys()), "not part of the bundle", "delete what does not belong there")
    _refuse([name for name in sorted(found) if _digest_or_none(folder / name) != sums[name]], "damaged")
    return len(sums)


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` over all files of the folder, as `sha256sum --check` reads it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{file_digest(folder / name)}  {name}\n" for name in names if name != CHECKSUMS]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def file_digest(path: Path) -> str:
    """The sha256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _refuse(names: Sequence[str], what: str, hint: str = "copy or export the bundle again") -> None:
    if names:
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise DeviceError("{}: {}{}".format(what, ", ".join(names[:_LISTED]), more), hint)


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read {path}: {reason_of(error)}", "copy the bundle again") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches):
        number = next(place for place, match in enumerate(matches, 1) if match is None)
        raise DeviceError(f"damaged: line {number} of {path.name}", "copy the bundle again")
    return {match.group(2): match.group(1) for match in matches if match is not None}


def _bundle(folder: Path, document: Mapping[str, Any]) -> Bundle:
    low, high = (float(value) for value in document["picture"]["value_range"])
    bounds = document["goldens"]["bounds"]
    return Bundle(
        folder=folder,
        runtime=str(document["runtime"]),
        flavour=str(document["flavour"]),
        batch=_positive(document, "batch"),
        inputs=tuple(_input(entry) for entry in document["inputs"]),
        outputs=tuple(str(name) for name in document["outputs"]),
        picture=str(document["picture"]["output"]),
        value_range=(low, high),
        asked=tuple(_asked(entry) for entry in document["layers"]),
        float_pins=tuple((str(node), _precision(word)) for node, word in document["float_pins"]),
        bounds=Bounds(float(bounds["fp32_psnr_db"]), float(bounds["exact_psnr_db"])),
        document=document,
    )


def _input(entry: Mapping[str, Any]) -> BundleInput:
    shape = tuple(int(side) for side in entry["shape"])
    return BundleInput(str(entry["name"]), str(entry["dtype"]), shape, bool(entry["is_batched"]))


def _asked(entry: Mapping[str, Any]) -> AskedLayer:
    requested, expected = _precision(entry["requested"]), _precision(entry["expected"])
    return AskedLayer(str(entry["layer"]), str(entry["node"]), requested, expected)


def _positive(document: Mapping[str, Any], key: str) -> int:
    value = document[key]
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{key!r} is {value!r}, expected a number above zero")
    return value


def _precision(word: Any) -> str:
    if word not in PRECISIONS:
        raise ValueError(f"no precision named {word!r}")
    return str(word)
