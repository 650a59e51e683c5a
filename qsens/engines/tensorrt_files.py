"""Extra files of a bundle for TensorRT: `trtexec` commands, and the cache of scales for implicit INT8."""

import shlex
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from qsens.calibration.ranges import Ranges
from qsens.core.errors import BuildError, DataError
from qsens.core.precision import Precision
from qsens.core.targets import ExtraFiles
from qsens.engines.float_fallback import LARGEST_MESSAGE
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph

# What trtexec's calibrator, and most others, call themselves; TensorRT reads a cache of that name only.
ALGORITHM = "EntropyCalibration2"
LARGEST_CODE = 127
# From this major version on, minor and patch have two digits each in the header.
FIRST_LONG_MAJOR = 9
# trtexec separates layers by commas and takes * for any text; it has no way to write these in a name.
UNWRITABLE = frozenset(",*")
_INSPECTED = ("--profilingVerbosity=detailed", "--exportLayerInfo=layers.json")
_STRONG_NOTE = (
    "# Every type is in the graph. TensorRT 10.12 and later 10.x:",
    "# TensorRT 11 (always strongly typed; it refuses precision flags):",
)
_WEAK_NOTE = "# TensorRT 8.5 to 10.x: INT8 where the graph has Q/DQ, the other layers as they are named here."
_IMPLICIT_NOTE = (
    "# TensorRT 8.5 to 10.x without Q/DQ: scales from the calibration cache. A fusion may still change a\n"
    "# layer's precision: look at layers.json."
)
# The last TensorRT 8, which JetPack 6.0 has.
CACHE_VERSION = "8.6.1"
COMMAND = "trtexec.txt"
CACHE = "calibration.cache"
PLAIN_MODEL = "fp32.onnx"


@dataclass(frozen=True)
class CalibrationCache:
    """The contents of a calibration cache: `scales` are float32 values by tensor, `amax / 127`."""

    header: str
    scales: Mapping[str, np.float32]


def calibration_cache_text(ranges: Ranges, *, version: str) -> str:
    """The cache file for TensorRT `version` (`8.6.1`): a header, then one line a tensor.

    TensorRT 10 and older read it, for implicit quantization. A line is `tensor: hex`, the big-endian IEEE 754
    float32 of the scale. TensorRT quantizes what has a scale here; a tensor that was not calibrated stays in
    float. Scales are what `Ranges` says, whatever method measured them: the header names the algorithm that
    reads the file, not the one that wrote it.

    Raises:
        DataError: for a version that cannot be read, or a tensor name that the format cannot hold.
    """
    lines = [f"TRT-{version_number(version)}-{ALGORITHM}"]
    for entry in ranges.tensors:
        if "\n" in entry.tensor:
            raise DataError(
                f"tensor {entry.tensor!r} cannot be written to a calibration cache",
                "rename it: the format has one line a tensor",
            )
        scale = np.float32(entry.amax) / np.float32(LARGEST_CODE)
        lines.append(f"{entry.tensor}: {struct.pack('>f', scale).hex()}")
    return "\n".join(lines) + "\n"


def read_calibration_cache(text: str) -> CalibrationCache:
    """Read a cache that qsens or TensorRT wrote.

    Raises:
        DataError: naming the line that is not of the format.
    """
    header, *lines = text.splitlines() or [""]
    if not header.startswith("TRT-"):
        raise DataError(f"no calibration cache: it begins with {header[:40]!r}", "it begins with TRT-")
    return CalibrationCache(header, dict(_read_line(line) for line in lines if line.strip()))


def version_number(version: str) -> str:
    """A version as headers write it: `8.6.1` is 8601, `10.3.0` is 100300. Raises `DataError`."""
    try:
        major, minor, patch = (int(part) for part in [*version.split("."), "0", "0"][:3])
    except ValueError:
        raise DataError(f"no TensorRT version: {version!r}", "write it like 8.6.1") from None
    if major < FIRST_LONG_MAJOR:
        return f"{major}{minor}{patch:02d}"
    return f"{major}{minor:02d}{patch:02d}"


def _read_line(line: str) -> tuple[str, np.float32]:
    tensor, separator, digits = line.rpartition(": ")
    try:
        (scale,) = struct.unpack(">f", bytes.fromhex(digits))
    except (ValueError, struct.error):
        separator = ""
    if not separator:
        raise DataError(f"no line of a calibration cache: {line[:60]!r}", "it has the form 'tensor: hex'")
    return tensor, np.float32(scale)


def trtexec_lines(
    lowered: LoweredGraph,
    *,
    model: str = "model.onnx",
    plain_model: str | None = None,
    calibration: str = "calibration.cache",
    batches: tuple[int, int, int] = (1, 8, 16),
) -> str:
    """Shell lines with comments: one command for each way to build the lowered graph.

    `model` is the file of the lowered graph. `plain_model` is the generator's FP32 graph without Q/DQ: with
    it, a command for implicit quantization with the cache file `calibration` follows. `batches` are the
    smallest, the usual and the largest batch of a graph whose batch is free.

    Raises:
        BuildError: for a flavour that TensorRT does not take.
    """
    shapes = _shape_flags(lowered, batches)
    if lowered.flavour == Flavour.STRONG:
        extras: tuple[list[str], list[str]] = (["--stronglyTyped"], [])
        commands = [
            f"{note}\n{_command(model, [*extra, *shapes])}"
            for note, extra in zip(_STRONG_NOTE, extras, strict=True)
        ]
    elif lowered.flavour == Flavour.WEAK:
        commands = [f"{_WEAK_NOTE}\n{_command(model, [*_weak_flags(lowered), *shapes])}"]
        if plain_model is not None:
            flags = [*_implicit_flags(lowered), f"--calib={calibration}", *shapes]
            commands.append(f"{_IMPLICIT_NOTE}\n{_command(plain_model, flags)}")
        commands += _left_out(lowered.float_pins)
    else:
        raise BuildError(f"trtexec cannot build flavour '{lowered.flavour}'", "lower as strong or weak")
    return "\n\n".join(commands) + "\n"


def _command(model: str, flags: Iterable[str]) -> str:
    plan = model.rsplit(".", 1)[0] + ".plan"
    arguments = [f"--onnx={model}", f"--saveEngine={plan}", *flags, *_INSPECTED]
    return " \\\n  ".join(["trtexec", *(shlex.quote(argument) for argument in arguments)])


def _weak_flags(lowered: LoweredGraph) -> list[str]:
    return _precision_flags(lowered, dict(lowered.float_pins))


def _implicit_flags(lowered: LoweredGraph) -> list[str]:
    """Every layer by name, and every other node that must not be INT8."""
    layers = {layer.node: str(lowered.requested[layer.name]) for layer in lowered.graph.layers}
    return _precision_flags(lowered, {**dict(lowered.float_pins), **layers})


def _precision_flags(lowered: LoweredGraph, precisions: Mapping[str, str]) -> list[str]:
    written = {name: kind for name, kind in precisions.items() if not UNWRITABLE & set(name)}
    flags = []
    asked = {lowered.requested[layer.name] for layer in lowered.graph.layers}
    if Precision.INT8 in asked:
        flags.append("--int8")
    if Precision.FP16 in asked:
        flags.append("--fp16")
    if written:
        flags.append("--precisionConstraints=obey")
        flags.append(f"--layerPrecisions={_listed(written.items())}")
        floats = [(name, kind) for name, kind in written.items() if kind != Precision.INT8]
        flags += [f"--layerOutputTypes={_listed(floats)}"] if floats else []
    return flags


def _left_out(pins: Sequence[tuple[str, str]]) -> list[str]:
    names = [name for name, _ in pins if UNWRITABLE & set(name)]
    if not names:
        return []
    listed = "\n".join(f"#   {name}" for name in names)
    return [f"# trtexec cannot write these names; the backend tensorrt pins them all the same:\n{listed}"]


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{name}:{kind}" for name, kind in pairs)


def _shape_flags(lowered: LoweredGraph, batches: tuple[int, int, int]) -> list[str]:
    """Shapes of the inputs with free sides; trtexec refuses them for inputs that have none."""
    examples = dict(lowered.graph.example_shapes)
    free = []
    for value in lowered.detached.skeleton.graph.input:
        sides = value.type.tensor_type.shape.dim
        if any(not side.HasField("dim_value") for side in sides):
            free.append((value.name, examples[value.name], not sides[0].HasField("dim_value")))
    if not free:
        return []
    return [
        f"--{word}Shapes="
        + ",".join(_shape(name, shape, batch if has_batch else None) for name, shape, has_batch in free)
        for word, batch in zip(("min", "opt", "max"), batches, strict=True)
    ]


def _shape(name: str, shape: tuple[int, ...], batch: int | None) -> str:
    sides = shape if batch is None else (batch, *shape[1:])
    return f"{name}:{'x'.join(str(side) for side in sides)}"


def write_tensorrt_files(folder: Path, lowered: LoweredGraph, ranges: Ranges, batch: int) -> ExtraFiles:
    """Write `trtexec.txt` and `calibration.cache`; for TensorRT 8 the FP32 graph that takes the cache too."""
    described = {
        COMMAND: "the commands that build the engine without Python",
        CACHE: "`ranges.json` as TensorRT 10 and older read it, for implicit quantization; its first line "
        f"names TensorRT {CACHE_VERSION}: write the device's version there (8.5.2 is 8502, 10.3.0 is 100300)",
    }
    plain = None
    model = lowered.graph.model
    if lowered.flavour == Flavour.WEAK and model.ByteSize() < LARGEST_MESSAGE:
        plain = PLAIN_MODEL
        onnx.save(model, folder / plain)
        described[plain] = "the generator in FP32, without quantization, for implicit quantization"
    command = trtexec_lines(lowered, plain_model=plain, batches=(batch, batch, batch))
    (folder / COMMAND).write_text(command, encoding="utf-8")
    (folder / CACHE).write_text(calibration_cache_text(ranges, version=CACHE_VERSION), encoding="utf-8")
    return ExtraFiles(described, command)
