"""Shapes of graph inputs: which look like images, whether an array fits, how they are shown."""

from collections.abc import Sequence

import numpy as np

from qsens.core.interfaces import InputSpec


def image_sides(spec: InputSpec) -> tuple[int | None, int | None, int | None] | None:
    """(channels, height, width) of an input laid out like an image, `None` for a free side; else `None`."""
    shape = spec.shape
    if not spec.is_batched and len(shape) == 4 and shape[0] in (1, None):
        shape = shape[1:]
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def looks_like_an_image(spec: InputSpec) -> bool:
    """True for a 4-D float or uint8 input with 1, 3 or any number of channels."""
    sides = image_sides(spec)
    is_four_dimensional = spec.is_batched or len(spec.shape) == 4
    is_pixel_type = np.dtype(spec.dtype).kind == "f" or spec.dtype == "uint8"
    return is_four_dimensional and is_pixel_type and sides is not None and sides[0] in (1, 3, None)


def fits_shape(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """True where `shape` has the rank and every fixed side of `wanted`."""
    return len(shape) == len(wanted) and all(
        side is None or side == size for size, side in zip(shape, wanted, strict=True)
    )


def shape_text(spec: InputSpec) -> str:
    """`(3, ?, ?) float32`: the shape without the batch axis, and the dtype."""
    sides = ", ".join("?" if side is None else str(side) for side in spec.shape)
    return f"({sides}) {spec.dtype}"
