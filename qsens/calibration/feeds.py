"""Feeds, one a graph input: they make that input's array of a sample's picture or of its `.npz`."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from qsens.calibration.files import SetFiles
from qsens.calibration.images import (
    RESIZE_FILTER,
    common_size,
    fits_shape,
    image_sides,
    prepare_image,
    read_image,
    read_image_size,
    shape_text,
    size_text,
)
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputRule, InputSpec
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS
from qsens.device.errors import reason_of
from qsens.device.npz_sizes import read_arrays
from qsens.device.special_files import special_kind

CLIP_KEY = "clip"
_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}


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
    if not fits_shape(shape, spec.sides):
        raise DataError(
            f"{path}: array {spec.name!r} is {tuple(shape)}, but --input-shape states {spec.sides} for it",
            "leave --input-shape out, or save all samples at that size",
        )
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


class Feed(Protocol):
    """Arrays of one graph input by sample index."""

    def read(self, index: int) -> NDArray[Any]:
        """The array without its batch axis, in the graph's dtype. Raises `DataError` for a bad file."""
        ...

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The ends that no array can pass, whatever its file holds; `None` where there are none."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Plain values that decide every array: for the digest of the set."""
        ...

    def describe(self) -> Mapping[str, str]:
        """The steps that made arrays of the data, for people."""
        ...


class ImageFeed:
    """Images of a folder. Headers are checked at once, pixels are read when asked for.

    Raises:
        DataError: for sizes that differ or do not fit the graph input.
        SpecError: for a rule that does not fit it.
    """

    def __init__(
        self,
        spec: InputSpec,
        rule: InputRule,
        files: SetFiles,
        largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS,
    ) -> None:
        # What is stated is compared with the sizes of the pictures once both are known.
        spec = replace(spec, stated=None)
        self._spec = spec
        self._rule = rule
        self._files = files
        self._largest_megapixels = largest_megapixels
        sides = image_sides(spec)
        if sides is None:
            raise SpecError(
                f"input {spec.name!r} is {shape_text(spec)}, not (channels, height, width)",
                "use a folder of .npz files with one array per input",
            )
        _check_channels(spec, rule, sides[0])
        _check_range(spec, rule)
        self._size = _checked_size(spec, rule, files, largest_megapixels)

    def read(self, index: int) -> NDArray[Any]:
        """Floats (3, H, W), or (1, H, W) for gray, with the graph's leading 1 where it has one."""
        path = self._files.paths[index]
        pixels = prepare_image(read_image(path, self._largest_megapixels), self._rule)
        if pixels.shape[1:] != self._size:
            raise DataError(
                f"{path} is {size_text(pixels.shape[1:])}, but was {size_text(self._size)} when opened",
                "leave the files alone while they are in use",
            )
        if np.dtype(self._spec.dtype).kind != "f":
            pixels = np.rint(pixels)
        is_led_by_one = len(self._spec.shape) == 4
        return (pixels[None] if is_led_by_one else pixels).astype(self._spec.dtype, copy=False)

    @property
    def value_range(self) -> tuple[float, float]:
        """The rule's: levels 0 to 255 are mapped to it."""
        return self._rule.value_range

    def identity(self) -> Mapping[str, object]:
        """Files and every step of the preprocessing."""
        rule = self._rule
        return {
            "source": "image",
            "files": self._files.digest,
            "value_range": [float(end) for end in rule.value_range],
            "colour_order": rule.colour_order,
            "crop": rule.crop,
            "resize": rule.resize,
            "filter": RESIZE_FILTER,
            "shape": self._spec.shape,
            "dtype": self._spec.dtype,
        }

    def describe(self) -> Mapping[str, str]:
        """Size, value range, colour, crop and resize."""
        rule = self._rule
        low, high = rule.value_range
        return {
            "image input": self._spec.name,
            "size": size_text(self._size),
            "value range": f"{low:g}..{high:g}",
            "colour": rule.colour_order,
            "crop": rule.crop,
            "resize": "none" if rule.resize is None else f"{size_text(rule.resize)}, {RESIZE_FILTER}",
        }


class ArrayFeed:
    """The array of one graph input in each `.npz` of a folder."""

    def __init__(self, spec: InputSpec, files: SetFiles) -> None:
        self._spec = spec
        self._files = files

    def read(self, index: int) -> NDArray[Any]:
        """The array of that file."""
        return read_array(self._files.paths[index], self._spec)

    @property
    def value_range(self) -> None:
        """Any value may be in a file."""

    def identity(self) -> Mapping[str, object]:
        """Files and the input they feed."""
        spec = self._spec
        return {"source": "array", "files": self._files.digest, "shape": spec.shape, "dtype": spec.dtype}

    def describe(self) -> Mapping[str, str]:
        """One line for `qsens plan`."""
        return {f"input {self._spec.name}": f"array {shape_text(self._spec)}"}


def _check_channels(spec: InputSpec, rule: InputRule, channels: int | None) -> None:
    got = _CHANNELS[rule.colour_order]
    if channels not in (None, got):
        raise SpecError(
            f"input {spec.name!r} takes {channels} channels, colour order {rule.colour_order!r} gives {got}",
            "use gray for 1 channel, rgb or bgr for 3, and .npz files for any other number",
        )


def _check_range(spec: InputSpec, rule: InputRule) -> None:
    kind = np.dtype(spec.dtype).kind
    if kind != "f" and (spec.dtype != "uint8" or rule.value_range != (0.0, 255.0)):
        low, high = rule.value_range
        raise SpecError(
            f"input {spec.name!r} is {spec.dtype}, its value range {low:g}..{high:g}",
            "image inputs are float, or uint8 with the value range 0..255",
        )


def _checked_size(
    spec: InputSpec, rule: InputRule, files: SetFiles, largest_megapixels: int
) -> tuple[int, int]:
    sides = image_sides(spec)
    wanted = sides[1:] if sides is not None else (None, None)
    if rule.resize is not None:
        # Reads every header all the same, so that a file that is no image is found now.
        for path in files.paths:
            read_image_size(path, largest_megapixels)
        if not fits_shape(rule.resize, wanted):
            raise SpecError(
                f"resize {size_text(rule.resize)} does not fit input {spec.name!r} {shape_text(spec)}",
                f"use --resize {size_text(wanted)}",
            )
        return rule.resize
    size = common_size(files.paths, largest_megapixels)
    if not fits_shape(size, wanted):
        fixed = [side or own for side, own in zip(wanted, size, strict=True)]
        raise DataError(
            f"{files.paths[0]} is {size_text(size)}, but input {spec.name!r} takes {size_text(wanted)}",
            f"add --resize {size_text(tuple(fixed))}",
        )
    return size
