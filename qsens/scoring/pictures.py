"""From a generator's output tensor to the uint8 RGB images a viewer sees, rounded once."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import OutputRule

FEW_LEVELS = 16
LARGE_CLIPPED_SHARE = 0.4
Array = np.ndarray[Any, np.dtype[Any]]


def check_output(outputs: Sequence[str], rule: OutputRule) -> None:
    """Raise `SpecError` if the rule names an output that is not there."""
    if rule.name is not None and rule.name not in outputs:
        close = difflib.get_close_matches(rule.name, outputs, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"its outputs are {', '.join(outputs)}"
        raise SpecError(f"the generator has no output {rule.name!r}", hint)


def picture_output(outputs: Mapping[str, Array], rule: OutputRule) -> str:
    """Name of the output that is the picture.

    Raises:
        SpecError: if the rule names no output, or several outputs (or none) look like an image.
    """
    if rule.name is not None:
        check_output(tuple(outputs), rule)
        return rule.name
    alike = [name for name, value in outputs.items() if value.ndim == 4 and value.shape[1] in (1, 3)]
    if len(alike) != 1:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())
        raise SpecError(
            f"{len(alike) or 'no'} outputs look like an image (N, 1 or 3, H, W): {shapes}",
            "name the picture with [output] name = ... in the spec, or --output NAME",
        )
    return alike[0]


def picture_warning(images: Array) -> str | None:
    """A sentence if uint8 pictures look as if the value range of the input or the output were wrong.

    That is: hardly any levels in use, or much of the pictures black or white to the last level.
    """
    levels = len(np.unique(images))
    clipped = float(np.mean((images == 0) | (images == 255)))
    if levels > FEW_LEVELS and clipped < LARGE_CLIPPED_SHARE:
        return None
    return (
        f"the pictures use {levels} of 256 levels, and {clipped:.0%} of their values are black or white: "
        "check --output-range and --value-range"
    )


def pictures_from_values(values: Array, rule: OutputRule) -> Array:
    """Images uint8 (N, 3, H, W), 0 to 255, RGB, from float (N, 1 or 3, H, W) in the rule's range and colours.

    Raises:
        ScoreError: for NaN or infinite values.
    """
    broken = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if broken.any():
        raise ScoreError(
            f"{int(broken.sum())} of {len(values)} images of a batch hold NaN or infinite values",
            "a value range of the inputs that the generator was not made for does this",
        )
    low, high = rule.value_range
    scaled = (values - np.float32(low)) * np.float32(255.0 / (high - low))
    images: Array = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if images.shape[1] == 1:
        return np.repeat(images, 3, axis=1)
    return images[:, ::-1] if rule.colour_order == "bgr" else images
