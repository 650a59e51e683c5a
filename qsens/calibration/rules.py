"""Rules that say where each graph input comes from: given ones are checked, missing ones inferred."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qsens.calibration.images import (
    image_sides,
    looks_like_an_image,
    shape_flag,
    shape_text,
    size_text,
)
from qsens.calibration.manifest import Manifest, is_range
from qsens.core.errors import SpecError, name_hint
from qsens.core.interfaces import InputRule, InputSpec
from qsens.core.picture_layout import is_channels_last, layout_fault, layout_hint, sides_text

ANY_IMAGE = "*"
COLOUR_ORDERS = ("rgb", "bgr", "gray")
CROPS = ("none", "center")
SOURCES = ("image", "array", "normal", "uniform", "constant")


def check_rules(rules: Mapping[str, InputRule], inputs: Sequence[InputSpec]) -> None:
    """Raise `SpecError` for a rule of an unknown input, or with a value that cannot be used."""
    names = [spec.name for spec in inputs]
    for name, rule in rules.items():
        if name not in names and name != ANY_IMAGE:
            hint = name_hint(name, names, f"the graph's inputs are {', '.join(names)}")
            raise SpecError(f"a rule for input {name!r}, which the graph does not have", hint)
        _check_rule(name, rule)


def rules_for_images(
    inputs: Sequence[InputSpec], rules: Mapping[str, InputRule], manifest: Manifest | None = None
) -> dict[str, InputRule]:
    """Complete rules for a folder of images: one input is the image, the others noise or constant.

    Without a rule of its own, the single 4-D input with 1, 3 or any number of channels is the image. It
    takes the rule named `*` (`ANY_IMAGE`), and where that has `InputRule`'s defaults the manifest's value
    range and colour order; one channel is gray.

    Raises:
        SpecError: if no input or more than one can be the image, or an input has no source.
    """
    check_rules(rules, inputs)
    named = {name: rule for name, rule in rules.items() if name != ANY_IMAGE}
    _refuse_sources(("array",), named, "a folder of images holds no arrays")
    name = _image_input(inputs, named)
    if name not in named:
        spec = next(spec for spec in inputs if spec.name == name)
        named[name] = _inferred_image_rule(spec, rules.get(ANY_IMAGE, InputRule()), manifest)
    for spec in inputs:
        if spec.name not in named:
            raise SpecError(f"nothing feeds input {spec.name!r} {shape_text(spec)}", how_to_feed(spec))
    return named


def rules_for_arrays(inputs: Sequence[InputSpec], rules: Mapping[str, InputRule]) -> dict[str, InputRule]:
    """Complete rules for a folder of `.npz`: inputs without a rule are arrays."""
    check_rules(rules, inputs)
    named = {name: rule for name, rule in rules.items() if name != ANY_IMAGE}
    _refuse_sources(("image",), named, "a folder of .npz files holds no images")
    return {spec.name: named.get(spec.name, InputRule(source="array")) for spec in inputs}


def rules_for_noise(inputs: Sequence[InputSpec], rules: Mapping[str, InputRule]) -> dict[str, InputRule]:
    """Complete rules for seeded noise: inputs without a rule are normal, free sides from `*`'s resize."""
    check_rules(rules, inputs)
    named = {name: rule for name, rule in rules.items() if name != ANY_IMAGE}
    _refuse_sources(("image", "array"), named, "the set is seeded noise")
    other = InputRule(source="normal", resize=rules.get(ANY_IMAGE, InputRule()).resize)
    return {spec.name: named.get(spec.name, other) for spec in inputs}


def _check_rule(name: str, rule: InputRule) -> None:
    choices = (
        ("source", rule.source, SOURCES),
        ("colour_order", rule.colour_order, COLOUR_ORDERS),
        ("crop", rule.crop, CROPS),
    )
    for key, value, allowed in choices:
        if value not in allowed:
            raise SpecError(f"input {name!r}: {key} is {value!r}", f"use {', '.join(allowed)}")
    low, high = rule.value_range
    if not is_range(low, high):
        raise SpecError(
            f"input {name!r}: value_range is {low:g}..{high:g}",
            "give two finite numbers, the lower one first",
        )
    if rule.resize is not None and min(rule.resize) < 1:
        raise SpecError(
            f"input {name!r}: resize is {size_text(rule.resize)}", "give height x width in pixels"
        )
    if rule.crop == "center" and rule.resize is None:
        raise SpecError(f"input {name!r}: crop 'center' needs a size", "add --resize HxW")
    if rule.source == "constant" and not rule.value:
        raise SpecError(
            f"input {name!r} is constant without a value", "give one value, or one for each element"
        )


def _refuse_sources(sources: Sequence[str], rules: Mapping[str, InputRule], reason: str) -> None:
    for name, rule in rules.items():
        if rule.source in sources:
            raise SpecError(
                f"input {name!r} has the source {rule.source!r}, but {reason}", "change the rule's source"
            )


def _image_input(inputs: Sequence[InputSpec], rules: Mapping[str, InputRule]) -> str:
    stated = [name for name, rule in rules.items() if rule.source == "image"]
    candidates = stated or [
        spec.name for spec in inputs if spec.name not in rules and looks_like_an_image(spec)
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise SpecError(
            f"a folder of images feeds one input, but {' and '.join(map(repr, candidates))} could take it",
            "state the size of one that is no picture with --input-shape NAME=SHAPE, give all but one a rule "
            "whose source is normal, uniform or constant ([inputs.NAME] in the file of --spec), or use .npz "
            "files",
        )
    for spec in inputs:
        sides = (None, *spec.shape) if spec.is_batched else spec.shape
        if is_channels_last(sides) and spec.name not in rules:
            raise SpecError(
                f"input {spec.name!r} {sides_text(sides)} cannot take images: {layout_fault(sides)}",
                layout_hint(sides, spec.name, is_input=True),
            )
    shapes = "; ".join(f"{spec.name} {shape_text(spec)}" for spec in inputs)
    raise SpecError(
        f"no input looks like an image (1 or 3 channels, height, width; floats or uint8): {shapes}",
        "use a folder of .npz files with one array per input",
    )


def how_to_feed(spec: InputSpec) -> str:
    """The rules that suit the input's type, and the flag for sides that no rule knows."""
    sources = "normal, uniform or constant" if np.dtype(spec.dtype).kind == "f" else "constant"
    flag = f", its free sides with {shape_flag(spec)}" if None in spec.sides else ""
    return (
        f"give it a rule whose source is {sources} ([inputs.{spec.name}] in the file of --spec){flag}, or "
        "use a folder of .npz files"
    )


def _inferred_image_rule(spec: InputSpec, given: InputRule, manifest: Manifest | None) -> InputRule:
    default = InputRule()
    value_range, colour_order = given.value_range, given.colour_order
    if value_range == default.value_range:
        stated = manifest.value_range if manifest else None
        value_range = stated or ((0.0, 255.0) if spec.dtype == "uint8" else value_range)
    if colour_order == default.colour_order and manifest and manifest.colour_order:
        colour_order = manifest.colour_order
    sides = image_sides(spec)
    if sides is not None and sides[0] == 1:
        colour_order = "gray"
    return replace(given, source="image", value_range=value_range, colour_order=colour_order)
