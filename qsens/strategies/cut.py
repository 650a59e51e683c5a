"""Units that strategies move (layers or blocks) and the maps made by giving each unit a precision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qsens.core.errors import SpecError
from qsens.core.layer import Layer, blocks_of, map_of
from qsens.core.precision import Precision, PrecisionMap


@dataclass(frozen=True)
class Unit:
    """One or more layers that always share a precision."""

    name: str
    layers: tuple[Layer, ...]


def units_of(layers: Sequence[Layer], by: str) -> tuple[Unit, ...]:
    """Units in execution order: single layers, or blocks. Raises `SpecError` for another `by`."""
    if by == "layer":
        return tuple(Unit(layer.name, (layer,)) for layer in layers)
    if by == "block":
        return tuple(Unit(block.name, block.layers) for block in blocks_of(layers))
    raise SpecError(f"a strategy cannot go by {by!r}", "use layer or block")


def checked_direction(direction: str, known: Sequence[str]) -> str:
    """`direction` if it is `both` or one of `known`. Raises `SpecError` naming them."""
    if direction not in ("both", *known):
        raise SpecError(f"no direction named {direction!r}", f"use both, {' or '.join(known)}")
    return direction


def map_of_units(units: Sequence[Unit], precisions: Iterable[Precision]) -> PrecisionMap:
    """The canonical map that gives each unit its precision, or the nearest that each layer allows."""
    wished = {
        layer.name: precision
        for unit, precision in zip(units, precisions, strict=True)
        for layer in unit.layers
    }
    layers = sorted((layer for unit in units for layer in unit.layers), key=lambda layer: layer.index)
    return map_of(layers, wished)
