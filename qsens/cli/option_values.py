"""Texts of options that stand for ranges, sizes, shapes and options of plug-ins."""

import math
import re
from dataclasses import dataclass
from typing import Any

import click

from qsens.device.plain_values import parse_json

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
# More digits than any size has would take int() long, or end it.
_SIDES = re.compile(r"[0-9]{1,12}(x[0-9]{1,12})*")
LARGEST_SIDE = 8192
OPTION_GROUPS = ("model", "backend", "strategy", "metric", "extractor", "loop")
# Of these a run has several, and an option says whose it is: metric.jod.display.
NAMED_GROUPS = ("metric", "extractor")


def parse_range(text: str) -> list[float]:
    """Read `LOW..HIGH`, for example `-1..1`."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not float(match[1]) < float(match[2]) < math.inf:
        raise click.BadParameter(f"{text!r} is not a range: write LOW..HIGH, for example -1..1 or 0..255")
    return [float(match[1]), float(match[2])]


def parse_size(text: str) -> list[int]:
    """Read `HxW` in pixels."""
    sides = [int(side) for side in text.split("x")] if _SIDES.fullmatch(text) else []
    if len(sides) != 2 or min(sides) < 1 or max(sides) > LARGEST_SIDE:
        raise click.BadParameter(
            f"{text!r} is not a size: write HxW in pixels, for example 256x256, at most {LARGEST_SIDE}"
        )
    return sides


def parse_named_shape(text: str) -> tuple[str, list[int]]:
    """Read `NAME=1x3x256x256`."""
    name, _, shape = text.rpartition("=")
    if not name or not _SIDES.fullmatch(shape):
        raise click.BadParameter(f"{text!r} is not a named shape: write NAME=1x3x256x256")
    return name, [int(side) for side in shape.split("x")]


def parse_state(text: str) -> tuple[str, str]:
    """Read `INPUT=OUTPUT`: the input that takes the output at the next frame."""
    source, separator, made = text.partition("=")
    if not separator or not source or not made:
        raise click.BadParameter(f"{text!r} is not a state: write INPUT=OUTPUT, for example r1i=r1o")
    return source, made


@dataclass(frozen=True)
class PluginOption:
    """One option of a plug-in; of those in `NAMED_GROUPS` the name is `PLUGIN.KEY`."""

    group: str
    name: str
    value: Any


def parse_plugin_option(text: str) -> PluginOption:
    """Read `GROUP.KEY=VALUE`; the value is JSON where it can be read as such, else text."""
    key, separator, value = text.partition("=")
    group, _, name = key.partition(".")
    if not separator or not name or group not in OPTION_GROUPS:
        groups = ", ".join(OPTION_GROUPS)
        raise click.BadParameter(f"{text!r} is not an option: write GROUP.KEY=VALUE with GROUP in {groups}")
    if group in NAMED_GROUPS and not all(name.partition(".")):
        raise click.BadParameter(
            f"{text!r} does not say whose option it is: write {group}.NAME.KEY=VALUE with the {group}'s name"
        )
    try:
        return PluginOption(group, name, parse_json(value))
    except ValueError:
        return PluginOption(group, name, value)
