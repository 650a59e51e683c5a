"""The files of a bundle: checksums, and `bundle.json` read into what the checks need."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from qsens.device.audit import AskedLayer
from qsens.device.bundle_loop import BundleLoop, opened_loop, read_bundle_loop
from qsens.device.errors import DeviceError, reason_of
from qsens.device.plain_values import PlainValue, check_distinct, parse_json
from qsens.device.special_files import read_file

SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"
GOLDENS = "goldens.npz"
BEYOND = "beyond.npz"
CHECKSUMS = "SHA256SUMS"
PRECISIONS = ("int8", "fp16", "fp32")
# The forms of graphs that there are; the file of a runtime says which of them it takes.
FLAVOURS = ("strong", "weak", "u8")
_RUNTIME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
LARGEST_BATCH = 2**16
LARGEST_DOCUMENT_BYTES = 2**24
# What one run may be fed: engines take a multiple of it.
LARGEST_FEED_BYTES = 2**32
# A range beyond these has no PSNR in float64.
LARGEST_VALUE, LEAST_WIDTH = 1e12, 1e-12
# Two pictures within one range are at least 0 dB alike, and bounds lie a few below what was measured.
LEAST_BOUND_DB, LARGEST_BOUND_DB = -10.0, 100.0
_DTYPES = {
    **{"bool": 1, "int8": 1, "uint8": 1, "float16": 2, "int16": 2, "uint16": 2},
    **{"float32": 4, "int32": 4, "uint32": 4, "float64": 8, "int64": 8, "uint64": 8},
}
_LARGEST_SIDE = 2**31
_MOST_SAMPLES = 2**31
_MOST_BEYOND = 64
_CHUNK_BYTES = 2**20


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
class BeyondGoldens:
    """Goldens of inputs beyond what calibration saw: how many, and the bounds on them alone."""

    samples: int
    bounds: Bounds


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose `bundle.json` was read and checked; `document` is all of it.

    `asked` lists every layer in execution order. `float_pins` are ONNX nodes that TensorRT 8 must be told
    not to run in INT8, with their precision. The picture is the output `picture`, whose values in
    `value_range` a viewer sees. Bundles of older versions have no goldens `beyond` the calibration.
    `opened_by` is the module that opens the engine where a plug-in brings it and qsens is at hand; on a
    device it is the copy that the bundle carries, and this is empty. `loop` makes the picture of several
    calls; then goldens hold the inputs of samples, and `inputs` has the shapes of a call.
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
    beyond: BeyondGoldens | None = None
    opened_by: str = ""
    loop: BundleLoop | None = None

    @property
    def sample_inputs(self) -> tuple[BundleInput, ...]:
        """The inputs that goldens hold: all but those that a loop makes itself."""
        if self.loop is None:
            return self.inputs
        return tuple(entry for entry in self.inputs if entry.name in self.loop.samples)

    def opened_loop(self, batch: int) -> Any:
        """The loop at so many samples a call; one call a picture without one. Raises `DeviceError`."""
        return opened_loop(self.loop, self.inputs, self.outputs, batch)

    @property
    def model_path(self) -> Path:
        """The graph that the engine is built from."""
        return self.folder / MODEL

    @property
    def golden_samples(self) -> int:
        """The number of samples in the goldens."""
        return len(self.document["goldens"]["samples"])

    @property
    def nodes_in_no_layer(self) -> frozenset[str]:
        """Nodes that multiply with constants and are no layer all the same: their form has no INT8."""
        work = self.document.get("all_work")
        rows = work.get("in_no_layer") if isinstance(work, dict) else None
        names = [row.get("name") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return frozenset(name for name in names if isinstance(name, str))

    @property
    def beyond_calibration(self) -> Bundle | None:
        """The same bundle with the goldens beyond the calibration in place of the others; `None` without.

        These are of single calls.
        """
        if self.beyond is None:
            return None
        goldens = {**self.document.get("goldens", {}), "samples": list(range(self.beyond.samples))}
        document = {**self.document, "goldens": goldens}
        return replace(self, bounds=self.beyond.bounds, document=document, beyond=None, loop=None)

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
        if path.stat().st_size > LARGEST_DOCUMENT_BYTES:
            raise ValueError(f"it is larger than {LARGEST_DOCUMENT_BYTES / 2**20:.0f} MiB")
        document = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read {path}: {reason_of(error)}", "copy the bundle again") from error
    found = document.get("schema_version") if isinstance(document, dict) else document
    if found != SCHEMA_VERSION or isinstance(found, bool):
        raise DeviceError(
            f"{path} has schema version {str(found)[:20]}, this script reads {SCHEMA_VERSION}",
            "run the verify.py that lies in the bundle",
        )
    try:
        bundle = _bundle(folder, PlainValue(document))
        _check_names(bundle)
        _check_feed(bundle)
    except ValueError as error:
        raise DeviceError(f"{path}: {error}", "copy or export the bundle again") from error
    return bundle


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


def _bundle(folder: Path, document: PlainValue) -> Bundle:
    bounds = document.at("goldens").at("bounds")
    _check_reported(document)
    return Bundle(
        folder=folder,
        runtime=_runtime(document.at("runtime")),
        flavour=document.at("flavour").one_of(FLAVOURS),
        batch=document.at("batch").whole(1, LARGEST_BATCH),
        inputs=tuple(_input(entry) for entry in document.at("inputs").items(at_least=1)),
        outputs=tuple(entry.text() for entry in document.at("outputs").items(at_least=1)),
        picture=document.at("picture").at("output").text(),
        value_range=_value_range(document.at("picture").at("value_range")),
        asked=tuple(_asked(entry) for entry in document.at("layers").items(at_least=1)),
        float_pins=tuple(_pin(entry) for entry in document.at("float_pins").items()),
        bounds=Bounds(_bound(bounds.at("fp32_psnr_db")), _bound(bounds.at("exact_psnr_db"))),
        document=document.value,
        beyond=_beyond(document.at("goldens")),
        loop=read_bundle_loop(document),
    )


def _runtime(name: PlainValue) -> str:
    if not _RUNTIME.fullmatch(name.text()):
        raise name.unlike("the name of a runtime's module")
    return name.text()


def _beyond(goldens: PlainValue) -> BeyondGoldens | None:
    if goldens.value.get("beyond") is None:
        return None
    found = goldens.at("beyond")
    bounds = found.at("bounds")
    return BeyondGoldens(
        samples=found.at("samples").whole(1, _MOST_BEYOND),
        bounds=Bounds(_bound(bounds.at("fp32_psnr_db")), _bound(bounds.at("exact_psnr_db"))),
    )


def _check_reported(document: PlainValue) -> None:
    """Check what is only read later: for the goldens, and into a latency file."""
    for sample in document.at("goldens").at("samples").items(at_least=1):
        sample.whole(0, _MOST_SAMPLES)
    for key in ("name", "graph"):
        document.at("model").at(key).text()
    document.at("map").at("digest").text()
    deployed = document.at("map").at("deployed")
    deployed.at("default").one_of(PRECISIONS)
    for entry in deployed.at("overrides").entries():
        entry.one_of(PRECISIONS)


def _check_names(bundle: Bundle) -> None:
    check_distinct([entry.name for entry in bundle.inputs], "inputs")
    check_distinct(bundle.outputs, "outputs")
    if bundle.loop is not None and len(bundle.sample_inputs) != len(set(bundle.loop.samples)):
        raise ValueError(f"'loop.samples' are {', '.join(bundle.loop.samples)}, not all of which are inputs")
    check_distinct([row.layer for row in bundle.asked], "layers")
    check_distinct([row.node for row in bundle.asked], "layers")
    if bundle.picture not in bundle.outputs:
        raise ValueError(f"'picture.output' is {bundle.picture!r}, outputs are {', '.join(bundle.outputs)}")
    layers = {row.layer for row in bundle.asked}
    unknown = sorted(set(bundle.document["map"]["deployed"]["overrides"]) - layers)
    if unknown:
        raise ValueError(f"'map.deployed' names {unknown[0]!r}, which is not among 'layers'")


def _check_feed(bundle: Bundle) -> None:
    size = 0
    for entry in bundle.inputs:
        count = _DTYPES[entry.dtype]
        for side in bundle.input_shapes[entry.name]:
            count *= side
        size += count
    if size > LARGEST_FEED_BYTES:
        raise ValueError(f"'batch' is {bundle.batch}: its inputs would take {size / 2**30:,.0f} GiB")


def _value_range(value: PlainValue) -> tuple[float, float]:
    ends = [entry.number(-LARGEST_VALUE, LARGEST_VALUE) for entry in value.items()]
    if len(ends) != 2 or not ends[0] + LEAST_WIDTH <= ends[1]:
        raise value.unlike("[low, high]")
    return ends[0], ends[1]


def _input(entry: PlainValue) -> BundleInput:
    shape = tuple(side.whole(1, _LARGEST_SIDE) for side in entry.at("shape").items())
    dtype = entry.at("dtype").one_of(tuple(_DTYPES))
    return BundleInput(entry.at("name").text(), dtype, shape, entry.at("is_batched").flag())


def _asked(entry: PlainValue) -> AskedLayer:
    requested, expected = (entry.at(key).one_of(PRECISIONS) for key in ("requested", "expected"))
    return AskedLayer(entry.at("layer").text(), entry.at("node").text(), requested, expected)


def _pin(entry: PlainValue) -> tuple[str, str]:
    pair = tuple(entry.items())
    if len(pair) != 2:
        raise entry.unlike("[node, precision]")
    return pair[0].text(), pair[1].one_of(PRECISIONS)


def _bound(value: PlainValue) -> float:
    return value.number(LEAST_BOUND_DB, LARGEST_BOUND_DB)
