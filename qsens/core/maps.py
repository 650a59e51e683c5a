"""Maps over the layers in execution order: the uniform ones, a cut, two ends, one unit; and their names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING

from qsens.core.errors import SpecError
from qsens.core.layer import Layer, macs_share, match_layers, nearest_allowed, uniform_map
from qsens.core.other_work import share_in_layers
from qsens.core.precision import Precision, PrecisionMap, parse_precision

if TYPE_CHECKING:
    from qsens.core.trial import Study, Trial


class Direction(StrEnum):
    """The side of a boundary that runs in INT8."""

    INT8_FIRST = "int8-first"
    FLOAT_FIRST = "float-first"


class IsolationKind(StrEnum):
    """The ways to single out one unit."""

    ONLY_INT8 = "only this INT8"
    ALL_BUT_INT8 = "all but this INT8"


@dataclass(frozen=True)
class Cut:
    """Layers before `boundary` (0 to N) run one way and the rest the other.

    `float_precision` is the precision of the side that is not INT8; `None` where there is no such side.
    """

    boundary: int
    direction: Direction
    float_precision: Precision | None


@dataclass(frozen=True)
class Ends:
    """The first and the last layers in float, everything between them INT8; counts of layers."""

    first: int
    last: int


@dataclass(frozen=True)
class Isolation:
    """One unit (a layer or a block, `name`) treated unlike all others; `start` is its first layer's index."""

    kind: IsolationKind
    unit: str
    name: str
    start: int
    is_at_an_end: bool


def free_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers that may run INT8 or in float; pinned layers say nothing about the shape of a map."""
    return tuple(
        layer for layer in layers if Precision.INT8 in layer.allowed and len(layer.allowed) > 1
    ) or tuple(layers)


def cuts_of(precision_map: PrecisionMap, layers: Sequence[Layer]) -> tuple[Cut, ...]:
    """The cuts that the map is: none, one, or both directions where it is uniform over the free layers."""
    free = free_layers(layers)
    precisions = [precision_map[layer.name] for layer in free]
    flags = [precision is Precision.INT8 for precision in precisions]
    floats = set(precisions) - {Precision.INT8}
    switches = [place for place in range(1, len(free)) if flags[place] != flags[place - 1]]
    if len(floats) > 1 or len(switches) > 1 or not free:
        return ()
    side = next(iter(floats), None)
    if switches:
        direction = Direction.INT8_FIRST if flags[0] else Direction.FLOAT_FIRST
        return (Cut(free[switches[0]].index, direction, side),)
    int8_until = len(layers) if flags[0] else 0
    return (
        Cut(int8_until, Direction.INT8_FIRST, side),
        Cut(len(layers) - int8_until, Direction.FLOAT_FIRST, side),
    )


def ends_of(precision_map: PrecisionMap, layers: Sequence[Layer]) -> Ends | None:
    """The float ends of a map that is INT8 between them; `None` for any other map and for all-float maps."""
    free = free_layers(layers)
    places = [place for place, layer in enumerate(free) if precision_map[layer.name] is Precision.INT8]
    if not places or places[-1] - places[0] + 1 != len(places):
        return None
    first = free[places[0]].index if places[0] > 0 else 0
    last = len(layers) - 1 - free[places[-1]].index if places[-1] < len(free) - 1 else 0
    return Ends(first, last)


def isolations_of(precision_map: PrecisionMap, layers: Sequence[Layer]) -> tuple[Isolation, ...]:
    """The units that the map singles out; two where there are only two units, none for most maps."""
    free = free_layers(layers)
    in_int8 = [layer for layer in free if precision_map[layer.name] is Precision.INT8]
    in_float = [layer for layer in free if precision_map[layer.name] is not Precision.INT8]
    sides = ((IsolationKind.ONLY_INT8, in_int8), (IsolationKind.ALL_BUT_INT8, in_float))
    found = []
    for kind, members in sides:
        named = unit_of(members, layers)
        if named is not None and len(members) < len(free):
            at_end = members[0] is free[0] or members[-1] is free[-1]
            found.append(Isolation(kind, *named, members[0].index, at_end))
    return tuple(found)


def unit_of(members: Sequence[Layer], layers: Sequence[Layer]) -> tuple[str, str] | None:
    """`("layer", name)` for one layer, `("block", name)` for all free layers of a block, else `None`."""
    if len(members) == 1:
        return "layer", members[0].name
    blocks = {layer.block for layer in members}
    if len(blocks) != 1:
        return None
    (block,) = blocks
    whole = {layer.name for layer in free_layers(layers) if layer.block == block}
    return ("block", block) if whole == {layer.name for layer in members} else None


def map_title(precision_map: PrecisionMap, layers: Sequence[Layer]) -> str:
    """A few words that name the map for people, for example `first 21 INT8, last 2 FP16`."""
    cuts = cuts_of(precision_map, layers)
    if len(cuts) == 2:
        side = cuts[0].float_precision or Precision.INT8
        return _uniform_name(side, is_whole=all(precision_map[layer.name] is side for layer in layers))
    if cuts:
        return _cut_title(cuts[0], len(layers))
    isolations = isolations_of(precision_map, layers)
    if isolations:
        words = "only {} INT8" if isolations[0].kind is IsolationKind.ONLY_INT8 else "all but {} INT8"
        return words.format(isolations[0].name)
    ends = ends_of(precision_map, layers)
    if ends is not None:
        return _ends_title(ends)
    precisions = [precision_map[layer.name] for layer in layers]
    narrow = Precision.INT8 if Precision.INT8 in precisions else Precision.FP16
    return f"{precisions.count(narrow)} of {len(layers)} layers {narrow.upper()}"


class MapShapes:
    """Shapes, titles and shares of maps over the same layers; those of a map are worked out once."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.cuts_of = cache(partial(cuts_of, layers=layers))
        self.ends_of = cache(partial(ends_of, layers=layers))
        self.isolations_of = cache(partial(isolations_of, layers=layers))
        self.map_title = cache(partial(map_title, layers=layers))
        self.canonical = cache(partial(canonical_map, layers=layers))
        self.int8_share = cache(partial(macs_share, layers, precision=Precision.INT8))


def _ends_title(ends: Ends) -> str:
    sides = [f"{side} {count}" for side, count in (("first", ends.first), ("last", ends.last)) if count]
    return f"{' and '.join(sides)} in float, rest INT8"


def _cut_title(cut: Cut, total: int) -> str:
    side = (cut.float_precision or Precision.FP32).upper()
    if cut.direction is Direction.INT8_FIRST:
        return f"first {cut.boundary} INT8, last {total - cut.boundary} {side}"
    return f"first {cut.boundary} {side}, last {total - cut.boundary} INT8"


def anchor_maps(layers: Sequence[Layer]) -> dict[Precision, PrecisionMap]:
    """FP32 everywhere, then FP16 and INT8 wherever a layer allows them (the next wider precision elsewhere).

    These are the reference lines of every figure. FP32 ignores `Layer.allowed`: it is what all else is
    compared with.
    """
    anchors = {Precision.FP32: PrecisionMap(Precision.FP32)}
    for precision in (Precision.FP16, Precision.INT8):
        anchors[precision] = uniform_map(layers, precision)
    return anchors


def anchor_name(precision: Precision, layers: Sequence[Layer]) -> str:
    """The name of an anchor over these layers: `FP32`, `all INT8`, or `INT8 where it can be`."""
    if precision is Precision.FP32:
        return "FP32"
    return _uniform_name(precision, is_whole=all(precision in layer.allowed for layer in layers))


def _uniform_name(precision: Precision, *, is_whole: bool) -> str:
    return f"all {precision.upper()}" if is_whole else f"{precision.upper()} where it can be"


def anchor_trial(study: "Study", precision: Precision) -> "Trial | None":
    """The scored trial of an anchor, or `None`."""
    return study.anchors.get(precision)


def canonical_map(precision_map: PrecisionMap, layers: Sequence[Layer]) -> PrecisionMap:
    """The one map of what these layers run in, whatever its default and other names say."""
    return PrecisionMap.over(precision_map.assignment(layer.name for layer in layers))


def pin_layers(layers: Sequence[Layer], pinned: Sequence[str]) -> tuple[Layer, ...]:
    """The layers, those that a `PATTERN=PRECISION` text names allowed only that precision; later texts win.

    Raises:
        SpecError: for a text of another form, an unknown precision, or a pattern that matches no layer.
    """
    by_name = {layer.name: layer for layer in layers}
    for text in pinned:
        pattern, separator, precision = text.rpartition("=")
        if not separator:
            raise SpecError(
                f"cannot read the pin {text!r}", "write PATTERN=PRECISION, for example 'out.*=fp16'"
            )
        only = frozenset({parse_precision(precision)})
        for layer in match_layers(pattern, layers):
            by_name[layer.name] = replace(layer, allowed=only)
    return tuple(by_name.values())


def built_map(trial: "Trial") -> PrecisionMap:
    """The map that the backend built; the one asked for where it did not say."""
    return trial.requested if trial.applied is None else trial.applied


def map_to_ship(trial: "Trial", layers: Sequence[Layer], float_precision: str) -> PrecisionMap:
    """The canonical map of what was scored.

    A layer is INT8 only where it ran in INT8. Others take the float precision they were asked for, also
    where the engine that scored them had no FP16; one that was asked to be INT8 and did not run so takes
    that of the run.
    """
    built = built_map(trial)
    shipped = {}
    for layer in layers:
        asked = trial.requested[layer.name]
        if built[layer.name] is Precision.INT8:
            shipped[layer.name] = Precision.INT8
        elif asked is not Precision.INT8:
            shipped[layer.name] = asked
        else:
            shipped[layer.name] = nearest_allowed(layer, Precision(float_precision))
    return PrecisionMap.over(shipped)


def int8_share_of_all(study: "Study", trial: "Trial") -> float:
    """Share of all the network's multiply-accumulates that ran INT8, those in no layer counted too."""
    return int8_share(study, trial) * share_in_layers(study.layers, study.other_work)


def int8_share(study: "Study", trial: "Trial") -> float:
    """Share of the multiply-accumulates that ran INT8, 0 to 1."""
    return study.shapes.int8_share(built_map(trial))
