"""Maps with INT8 in some units and float in the rest, and the time that INT8 saves in each unit."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qsens.core.errors import SpecError
from qsens.core.layer import Layer, nearest_allowed
from qsens.core.precision import Precision, PrecisionMap
from qsens.search.enumerations import Unit
from qsens.selection.timings import LatencyTable, MeasuredMap, read_latency_table


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds that INT8 saves, by layer, at least 0; and what the whole map takes without INT8."""

    saved_ms: Mapping[str, float]
    float_ms: float


def read_layer_times(path: Path) -> LayerTimes:
    """Float minus INT8 milliseconds at the smallest batch that both were measured at.

    The profiles are those of the map with the most layers in INT8, and of the one without any that has the
    most in FP16. Layers that an engine runs as one share its time evenly.

    Raises:
        SpecError: if the file cannot be read, or lacks one of the two maps or the times of its layers.
    """
    table = read_latency_table(path)
    for batch in table.batches:
        entries = [entry for entry in table.measurements if entry.batch == batch]
        floats = [entry for entry in entries if not entry.has_int8]
        mixed = [entry for entry in entries if entry.has_int8]
        if floats and mixed:
            slow = _most_in(Precision.FP16, floats, table)
            before = _times(slow, table)
            after = _times(_most_in(Precision.INT8, mixed, table), table)
            saved = {layer: max(before[layer] - after[layer], 0.0) for layer in table.layers}
            return LayerTimes(saved, slow.ms)
    raise SpecError(
        f"{path} has no map with INT8 and one without at the same batch size",
        "measure both: qsens bench RUN --maps anchors --latency-json FILE",
    )


def check_times(saved_ms: Mapping[str, float], layers: Sequence[Layer]) -> None:
    """Raise `SpecError` naming a layer that `saved_ms` says nothing of: it is of another generator."""
    foreign = [layer.name for layer in layers if layer.name not in saved_ms]
    if foreign:
        raise SpecError(
            f"the latency file has no layer {foreign[0]!r}: it is of another generator",
            "measure this run's maps: qsens bench RUN --maps anchors --latency-json FILE",
        )


def _most_in(precision: Precision, entries: Sequence[MeasuredMap], table: LatencyTable) -> MeasuredMap:
    def count(entry: MeasuredMap) -> int:
        return sum(entry.precision_map[layer] is precision for layer in table.layers)

    return max(entries, key=count)


def _times(entry: MeasuredMap, table: LatencyTable) -> dict[str, float]:
    sharing = Counter(row["engine_layer"] for row in entry.layers)
    times = {
        row["layer"]: row["ms"] / sharing[row["engine_layer"]]
        for row in entry.layers
        if row["ms"] is not None
    }
    missing = [layer for layer in table.layers if layer not in times]
    if missing:
        raise SpecError(
            f"{table.path} has no time for the layer {missing[0]!r} in {entry.label}",
            "this runtime does not tell the times of layers: leave the file out, and shares of "
            "multiply-accumulates are counted instead",
        )
    return times


@dataclass(frozen=True)
class UnitMaps:
    """Maps over units; `movable` are the places of the units that INT8 changes at all.

    A layer outside INT8 runs in `float_precision`, or in FP32 where `wide` names it.
    """

    units: tuple[Unit, ...]
    float_precision: Precision
    wide: frozenset[str] = frozenset()
    movable: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, units: Sequence[Unit], float_precision: Precision, wide: frozenset[str] = frozenset()
    ) -> "UnitMaps":
        """All units, the movable ones found."""
        every = cls(tuple(units), float_precision, wide)
        movable = (place for place in range(len(units)) if every.moved(place))
        return cls(every.units, float_precision, wide, tuple(movable))

    @property
    def floats(self) -> PrecisionMap:
        """Nothing in INT8 that need not be."""
        return self.with_int8(())

    @property
    def int8(self) -> PrecisionMap:
        """Everything in INT8 that may be."""
        return self.with_int8(range(len(self.units)))

    def all_but(self, place: int) -> PrecisionMap:
        """INT8 in every unit but one."""
        return self.with_int8([other for other in self.movable if other != place])

    def with_int8(self, chosen: Iterable[int]) -> PrecisionMap:
        """INT8 in the units at these places, float elsewhere; or the nearest that each layer allows."""
        assignment = dict(self._as_floats)
        for place in chosen:
            assignment.update(self._as_int8[place])
        return PrecisionMap.over(assignment)

    def macs(self, place: int) -> float:
        """Multiply-accumulates that INT8 in one unit moves; layers pinned to a precision do not move."""
        return float(sum(layer.macs for layer in self.moved(place)))

    def savings(self, per_layer: Mapping[str, float] | None = None) -> tuple[float, ...]:
        """The savings of INT8 in each unit: `per_layer` summed where it moves, or multiply-accumulates."""
        if per_layer is None:
            return tuple(self.macs(place) for place in range(len(self.units)))
        movable = set(self.movable)
        return tuple(
            sum(per_layer.get(layer.name, 0.0) for layer in unit.layers) if place in movable else 0.0
            for place, unit in enumerate(self.units)
        )

    def moved(self, place: int) -> list[Layer]:
        """The layers of a unit that INT8 changes."""
        inside = self._as_int8[place]
        return [
            layer for layer in self.units[place].layers if inside[layer.name] != self._as_floats[layer.name]
        ]

    # Each layer's nearest precisions are looked up once: a search makes a map for every set it asks for.
    @cached_property
    def _as_floats(self) -> dict[str, Precision]:
        return {
            layer.name: nearest_allowed(layer, self._float_of(layer.name))
            for unit in self.units
            for layer in unit.layers
        }

    @cached_property
    def _as_int8(self) -> tuple[dict[str, Precision], ...]:
        return tuple(
            {layer.name: nearest_allowed(layer, Precision.INT8) for layer in unit.layers}
            for unit in self.units
        )

    def _float_of(self, layer: str) -> Precision:
        return Precision.FP32 if layer in self.wide else self.float_precision
