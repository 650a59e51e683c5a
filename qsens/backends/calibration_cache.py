"""Ranges as a calibration cache in TensorRT's own text format, for TensorRT 10 and older."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qsens.calibration.ranges import Ranges
from qsens.core.errors import DataError

# What trtexec's calibrator, and most others, call themselves; TensorRT reads a cache of that name only.
ALGORITHM = "EntropyCalibration2"
LARGEST_CODE = 127
# From this major version on, minor and patch have two digits each in the header.
FIRST_LONG_MAJOR = 9


@dataclass(frozen=True)
class CalibrationCache:
    """What a cache file holds: `scales` are float32 values by tensor, `amax / 127`."""

    header: str
    scales: Mapping[str, np.float32]


def calibration_cache_text(ranges: Ranges, *, version: str) -> str:
    """The cache file for TensorRT `version` (`8.6.1`): a header, then one line a tensor.

    A line is `tensor: hex`, the big-endian IEEE 754 float32 of the scale. TensorRT quantizes what has a
    scale here; a tensor that was not calibrated stays in float. Scales are what `Ranges` says, whatever
    method measured them: the header names the algorithm that reads the file, not the one that wrote it.

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
    """How a header writes a version: `8.6.1` is 8601, `10.3.0` is 100300. Raises `DataError`."""
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
