"""From a generator's output tensor to the uint8 RGB images a viewer sees, rounded once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qsens.core.errors import ScoreError, SpecError, name_hint
from qsens.core.interfaces import FLOAT_RANGE, OutputRule
from qsens.core.picture_layout import (
    is_channels_last,
    is_picture,
    layout_fault,
    layout_hint,
    sides_text,
)

# Shares of white: pictures of 0..1 overshoot black by less, those of -1..1 reach no further.
FAR_BELOW = 0.25
FAR_BEYOND = 1.25
FEW_LEVELS = 16
LARGE_CLIPPED_SHARE = 0.4
BYTE_RANGE = (0.0, 255.0)
Array = np.ndarray[Any, np.dtype[Any]]


def check_output(outputs: Sequence[str], rule: OutputRule) -> None:
    """Raise `SpecError` if the rule names an output that is not there."""
    for name in rule.names:
        if name not in outputs:
            hint = name_hint(name, outputs, f"its outputs are {', '.join(outputs)}")
            raise SpecError(f"the generator has no output {name!r}", hint)


def picture_output(outputs: Mapping[str, Array], rule: OutputRule) -> str:
    """Name of the output that is the picture, the first where several are scored.

    Raises:
        SpecError: as `picture_outputs`.
    """
    return picture_outputs(outputs, rule)[0]


def picture_outputs(outputs: Mapping[str, Array], rule: OutputRule) -> tuple[str, ...]:
    """Names of the outputs that are scored as pictures.

    Raises:
        SpecError: if the rule names no output, or several outputs (or none) look like an image.
    """
    check_output(tuple(outputs), rule)
    for name in rule.names:
        _refuse_layout(name, outputs[name])
    return rule.names or (_only_picture(outputs),)


def _only_picture(outputs: Mapping[str, Array]) -> str:
    alike = [name for name, value in outputs.items() if is_picture(value.shape)]
    if len(alike) == 1:
        return alike[0]
    others = [name for name, value in outputs.items() if is_channels_last(value.shape)] or list(outputs)
    if not alike and len(others) == 1:
        _refuse_layout(others[0], outputs[others[0]])
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())
    raise SpecError(
        f"{len(alike) or 'no'} outputs look like an image (N, 1 or 3, H, W): {shapes}",
        "name the picture with [output] name = ... in the spec, or --output NAME",
    )


def _refuse_layout(name: str, values: Array) -> None:
    fault = layout_fault(values.shape)
    if fault is not None:
        raise SpecError(
            f"output {name!r} {sides_text(values.shape)} cannot be scored as pictures: {fault}",
            layout_hint(values.shape, name, is_input=False),
        )


def settled_output(outputs: Mapping[str, Array], rule: OutputRule) -> OutputRule:
    """The rule with the value range of the picture's type, where none is stated.

    `outputs` are those of FP32 for a sample.

    Raises:
        SpecError: as `picture_outputs`; for an integer type that says no range; for a stated range that the
            type, or most of the values, contradict; for several outputs whose types say different ranges.
    """
    names = picture_outputs(outputs, rule)
    ranges = [_settled_range(name, outputs[name], rule.value_range) for name in names]
    for name, found in zip(names, ranges, strict=True):
        if found != ranges[0]:
            raise SpecError(
                f"outputs {names[0]!r} ({outputs[names[0]].dtype}) and {name!r} ({outputs[name].dtype}) go "
                f"over different ranges, {ranges[0][0]:g}..{ranges[0][1]:g} and {found[0]:g}..{found[1]:g}",
                "score one of them, or give them one type: several outputs share one range",
            )
    return replace(rule, value_range=ranges[0])


def _settled_range(name: str, values: Array, stated: tuple[float, float] | None) -> tuple[float, float]:
    if stated is not None:
        _refuse_contradiction(name, values, stated)
        return stated
    if values.dtype == np.uint8:
        return BYTE_RANGE
    if values.dtype.kind in "iu":
        raise SpecError(
            f"output {name!r} is {values.dtype}, a type that does not say which values are black and white",
            f"state them with --output-range LOW..HIGH, for example --output-range={_example(values.dtype)}",
        )
    return FLOAT_RANGE


def _example(dtype: np.dtype[Any]) -> str:
    limits = np.iinfo(dtype)
    return f"{limits.min}..{limits.max}" if limits.bits <= 16 else "0..255"


def _refuse_contradiction(name: str, values: Array, value_range: tuple[float, float]) -> None:
    """Check a stated range against integers and booleans; floats may go anywhere, and are warned about."""
    if values.dtype.kind not in "iub":
        return
    low, high = value_range
    outside = float(np.mean((values < low) | (values > high)))
    if outside > LARGE_CLIPPED_SHARE or not _holds(values.dtype, value_range):
        raise SpecError(
            f"output {name!r} is {values.dtype} and goes from {int(values.min())} to {int(values.max())} "
            f"for the first sample, which contradicts the range {low:g}..{high:g}",
            "leave --output-range out where its type is uint8 or bool, else state which of its values are "
            "black and white",
        )


def _holds(dtype: np.dtype[Any], value_range: tuple[float, float]) -> bool:
    if dtype.kind == "b":
        return value_range == FLOAT_RANGE
    limits = np.iinfo(dtype)
    return limits.min <= value_range[0] and value_range[1] <= limits.max


def refuse_one_level(images: Array, output: str | None = None) -> None:
    """Check uint8 pictures of FP32, or those of one of several outputs, for there being something to see.

    Raises:
        ScoreError: if all their values are one: every map would be perfect.
    """
    low, high = int(images.min()), int(images.max())
    if low == high:
        named = {0: " (black)", 255: " (white)"}.get(low, "")
        which = "" if output is None else f" in output {output!r}"
        raise ScoreError(
            f"all {len(images)} pictures of FP32{which} have the one value {low}{named} throughout, "
            "against which every map would be perfect",
            "check --output, --output-range and --value-range, and the samples",
        )


def range_warnings(
    outputs: Mapping[str, Array], rule: OutputRule, of_tanh: Collection[str] = ()
) -> list[str]:
    """A sentence for each picture of float values of -1..1 that are shown as if 0 were black.

    That is: the graph makes it by a tanh (`of_tanh`), whatever its values are here; or some values lie well
    below black, and none much further from 0 than white.
    """
    low, high = rule.pixel_range
    found = []
    for name in picture_outputs(outputs, rule):
        values = outputs[name]
        if name in of_tanh and low == 0:
            found.append(
                f"output {name!r} is made by a tanh, which gives -1..1, and shown as {low:g}..{high:g}: add "
                "--output-range -1..1, and --value-range -1..1 where the pictures that it reads were -1..1 "
                "in its training"
            )
            continue
        least, most = float(values.min()), float(values.max())
        is_dark = low == 0 and least < -FAR_BELOW * high
        if values.dtype.kind == "f" and is_dark and max(-least, most) <= FAR_BEYOND * high:
            found.append(
                f"values of output {name!r} go from {least:.2g} to {most:.2g} and are shown as {low:g} to "
                f"{high:g}: {float(np.mean(values < 0)):.0%} of them become black; where the generator ends "
                f"with tanh, add --output-range -{high:g}..{high:g}"
            )
    return found


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
    low, high = rule.pixel_range
    scaled = (values - np.float32(low)) * np.float32(255.0 / (high - low))
    images: Array = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if images.shape[1] == 1:
        return np.repeat(images, 3, axis=1)
    return images[:, ::-1] if rule.colour_order == "bgr" else images
