"""One feed a graph input: how the sample of an index becomes that input's array."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.arrays import read_array
from qsens.calibration.files import SetFiles
from qsens.calibration.images import (
    RESIZE_FILTER,
    common_size,
    prepare_image,
    read_image,
    read_image_size,
    size_text,
)
from qsens.calibration.input_shapes import fits_shape, image_sides, shape_text
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputRule, InputSpec
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS

_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}


class Feed(Protocol):
    """Arrays of one graph input by sample index."""

    def read(self, index: int) -> NDArray[Any]:
        """The array without its batch axis, in the graph's dtype. Raises `DataError` for a bad file."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Plain values that decide every array: for the digest of the set."""
        ...

    def describe(self) -> Mapping[str, str]:
        """What was done to the data, for people."""
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
