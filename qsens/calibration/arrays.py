"""Arrays of one `.npz` sample: which keys it holds, their shapes and types, and their values."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from qsens.calibration.input_shapes import fits_shape, shape_text
from qsens.core.errors import DataError
from qsens.core.interfaces import InputSpec
from qsens.device.errors import reason_of
from qsens.device.npz_sizes import read_arrays
from qsens.device.special_files import special_kind

CLIP_KEY = "clip"
_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of an array, read without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def check_array_file(path: Path, inputs: Sequence[InputSpec]) -> str | None:
    """Check keys, shapes and types from the headers alone; return the clip the sample belongs to, if stated.

    Raises:
        DataError: naming file, key, what it holds and what was wanted.
    """
    headers = _read_headers(path)
    wanted = {spec.name: spec for spec in inputs}
    for name, spec in wanted.items():
        if name not in headers:
            raise DataError(
                f"{path} has no array {name!r}; it holds {', '.join(headers) or 'nothing'}",
                f"save {shape_text(spec)} under that key, or give the input a rule",
            )
        _check_fit(path, spec, headers[name].shape, headers[name].dtype)
    for key in headers:
        if key not in wanted and key != CLIP_KEY:
            raise DataError(
                f"{path} has an unexpected array {key!r}",
                f"expected {', '.join(wanted)} and optionally {CLIP_KEY!r}",
            )
    return _read_clip(path) if CLIP_KEY in headers else None


def read_array(path: Path, spec: InputSpec) -> NDArray[Any]:
    """The array of one graph input, in the dtype and shape the graph wants.

    Raises:
        DataError: if it is missing, damaged, of another shape or kind, not finite, or does not fit the dtype.
    """
    values = _read_member(path, spec.name)
    _check_fit(path, spec, values.shape, values.dtype)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path}: array {spec.name!r} holds NaN or infinity", "replace or remove the file")
    with np.errstate(over="ignore"):  # checked just below
        converted = values.astype(spec.dtype)
    is_kept = np.isfinite(converted).all() if converted.dtype.kind == "f" else (converted == values).all()
    if not is_kept:
        raise DataError(
            f"{path}: array {spec.name!r} holds values that {spec.dtype} cannot", "check the array's values"
        )
    return converted


def check_readable(path: Path) -> None:
    """Read every array of a file. Raises `DataError` if one is damaged."""
    _read_members(path, None)


def _check_fit(path: Path, spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    got = f"{path}: array {spec.name!r} is {tuple(shape)} {dtype}, the graph wants {shape_text(spec)}"
    if not fits_shape(shape, spec.shape):
        has_batch_axis = spec.is_batched and fits_shape(shape[1:], spec.shape)
        hint = (
            "save one sample a file, without the batch axis" if has_batch_axis else "check how it was saved"
        )
        raise DataError(got, hint)
    if _kind(dtype) != _kind(np.dtype(spec.dtype)):
        raise DataError(got, f"save it as {spec.dtype}, in the value range the generator expects")


def _kind(dtype: np.dtype[Any]) -> str:
    return "integer" if dtype.kind in "iu" else dtype.kind


def _read_headers(path: Path) -> Mapping[str, ArrayHeader]:
    if kind := special_kind(path):
        raise DataError(f"{path} is {kind}, not an .npz file", "remove it from the folder")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _read_header(archive, name) for name in names}
    except Exception as error:  # zip, zlib and header errors differ by which byte is damaged
        raise _damaged(path, error) from error


def _read_header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    with archive.open(name) as stream:
        shape, _, dtype = _HEADER_READERS[npy_format.read_magic(stream)](stream)
    return ArrayHeader(shape, dtype)


def _read_member(path: Path, key: str) -> NDArray[Any]:
    values: NDArray[Any] = _read_members(path, [key])[key]
    return values


def _read_members(path: Path, keys: Sequence[str] | None) -> Mapping[str, NDArray[Any]]:
    try:
        return read_arrays(path, keys)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_clip(path: Path) -> str:
    values = _read_member(path, CLIP_KEY)
    if values.size != 1 or values.dtype.kind not in "Uiu":
        raise DataError(
            f"{path}: {CLIP_KEY!r} is {values.shape} {values.dtype}", "save the clip's name as one string"
        )
    return str(values.reshape(-1)[0])


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"cannot read {path}: {reason_of(error)}", "save it again with numpy.savez, without object arrays"
    )
