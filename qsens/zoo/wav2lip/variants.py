"""The generators of Kim et al. 2023 by name, orders of their layers, and the paper's mixed precisions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from qsens.core.errors import SpecError, name_hint
from qsens.zoo.wav2lip.architecture import (
    TEACHER,
    Architecture,
    Stage,
    in_definition_order,
    layers_of,
    scaled,
)

ORDERS = ("execution", "definition")


def cut_inner(base: Architecture, *, levels: int, keep: float) -> Architecture:
    """Keep a share of the channels of the `levels` innermost resolutions of face encoder and decoder.

    The innermost resolutions are 1, 3, 6, 12, ... pixels. The audio encoder stays as it is.
    """

    def narrowed(stage: Stage) -> Stage:
        return replace(stage, channels=max(1, round(stage.channels * keep)))

    kept = len(base.encoder) - levels
    encoder = (*base.encoder[:kept], *map(narrowed, base.encoder[kept:]))
    decoder = (*map(narrowed, base.decoder[:levels]), *base.decoder[levels:])
    return replace(base, encoder=encoder, decoder=decoder)


CUT_INNER = cut_inner(scaled(0.375, residual=True), levels=4, keep=0.5)
"""The "Cut Inner Layers" baseline (Kim, Choi, Park 2022), as near as it can be pinned down.

Published: the method (prune the filters of the layers next to the bottleneck of a U-Net generator, 50 to
75 % of them, or drop those layers; leave the outer ones) and, in Table 3 of Kim et al. 2023, 1.9 M parameters
and 0.70 G MACs in the paper's convention. Not found in any text that could be read: how wide the layers
outside are, which layers count as inner, the share kept in each, and whether residual layers stay. Of the
960 assignments with one width for all (1, 3/4, 1/2, 3/8, 1/3, 1/4), residual layers or not, one share kept
(1/8 to 3/4) in the one to four innermost resolutions, and up to three inner stages of the audio encoder cut
likewise, this is the only one that rounds to both figures: x0.375 with residual layers, half of the channels
kept at 12 pixels and below: 1,864,821 parameters and 698,856,576 MACs. It has the published size, not
necessarily the published shape, and no published weights load into it.
"""

VARIANTS: Mapping[str, Architecture] = MappingProxyType(
    {
        "teacher": TEACHER,
        "student-residual": scaled(0.25, residual=True),
        "student": scaled(0.25, residual=False),
        "cut-inner": CUT_INNER,
    }
)


@dataclass(frozen=True)
class Preset:
    """A mixed precision of the paper: `blocks` in FP16, every other one in INT8."""

    name: str
    title: str
    blocks: tuple[str, ...]


PRESETS = (
    Preset("paper-student", "MIX of the student: the output block in FP16", ("OUT",)),
    Preset(
        "paper-teacher-a",
        "MIX of the teacher, the output block being one of its last two decoder blocks",
        ("FE0", "FE1", "FD6", "OUT"),
    ),
    Preset(
        "paper-teacher-b",
        "MIX of the teacher, the output block in addition to its last two decoder blocks",
        ("FE0", "FE1", "FD5", "FD6", "OUT"),
    ),
)


def variant_named(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        SpecError: listing the names.
    """
    if name not in VARIANTS:
        raise SpecError(f"no Wav2Lip variant named {name!r}", _hint(name, tuple(VARIANTS)))
    return VARIANTS[name]


def preset_named(name: str) -> Preset:
    """The paper's mixed precision of that name.

    Raises:
        SpecError: listing the names.
    """
    found = {preset.name: preset for preset in PRESETS}
    if name not in found:
        raise SpecError(f"no mixed precision of the paper named {name!r}", _hint(name, tuple(found)))
    return found[name]


def layer_names(architecture: Architecture, *, order: str = "execution") -> tuple[str, ...]:
    """Layers as qsens names them, in `execution` or `definition` order.

    Raises:
        SpecError: for another order.
    """
    if order not in ORDERS:
        raise SpecError(f"no order of layers named {order!r}", _hint(order, ORDERS))
    layers = layers_of(architecture)
    ordered = layers if order == "execution" else in_definition_order(layers)
    return tuple(layer.module for layer in ordered)


def layer_blocks(architecture: Architecture) -> Mapping[str, str]:
    """Block (AE, FE0 to FE6, FD0 to FD6, OUT) by qsens layer name."""
    return {layer.module: layer.block for layer in layers_of(architecture)}


def paper_ids(architecture: Architecture) -> Mapping[str, str]:
    """The paper-side id (`FE1.0`) by qsens layer name."""
    return {layer.module: layer.name for layer in layers_of(architecture)}


def fp16_layers(architecture: Architecture, preset: Preset) -> tuple[str, ...]:
    """Layers of the preset's FP16 blocks as qsens names them, in execution order."""
    return tuple(layer.module for layer in layers_of(architecture) if layer.block in preset.blocks)


def fp16_after(architecture: Architecture, boundary: int, *, order: str = "execution") -> tuple[str, ...]:
    """FP16 layers where the first `boundary` ones run in INT8; 21 of 23 is the paper's student.

    Raises:
        SpecError: for a boundary outside 0 to the number of layers.
    """
    names = layer_names(architecture, order=order)
    if not 0 <= boundary <= len(names):
        raise SpecError(f"no boundary {boundary} in {len(names)} layers", f"use 0 to {len(names)}")
    return names[boundary:]


def _hint(name: str, known: tuple[str, ...]) -> str:
    return name_hint(name, known, f"there are {', '.join(known)}")
