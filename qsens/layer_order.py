"""Blocks and order of layers where the generator states them."""

from collections.abc import Sequence
from dataclasses import replace

from qsens.core.errors import SpecError
from qsens.core.interfaces import Generator
from qsens.core.layer import Layer


def in_blocks(layers: Sequence[Layer], generator: Generator) -> tuple[Layer, ...]:
    """The layers, in the blocks that the generator states for them."""
    blocks = getattr(generator, "layer_blocks", {})
    return tuple(replace(layer, block=blocks.get(layer.name, layer.block)) for layer in layers)


def in_order(layers: Sequence[Layer], generator: Generator, layer_order: str) -> tuple[Layer, ...]:
    """The layers in execution order or, as `definition`, in the order that the generator states.

    Raises:
        SpecError: if the generator states no order, or one that misses a layer.
    """
    if layer_order == "execution":
        return tuple(layers)
    places = {name: place for place, name in enumerate(getattr(generator, "definition_order", ()))}
    missing = [layer.name for layer in layers if layer.name not in places]
    if missing:
        raise SpecError(
            f"the generator {generator.name!r} does not say where {missing[0]!r} is defined",
            "use --layer-order execution",
        )
    ordered = sorted(layers, key=lambda layer: places[layer.name])
    return tuple(replace(layer, index=index) for index, layer in enumerate(ordered))
