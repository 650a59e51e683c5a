"""Maps made by giving some units INT8 and leaving the rest in float."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qsens.core.layer import map_of
from qsens.core.precision import Precision, PrecisionMap
from qsens.strategies.cut import Unit


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
        floats = every.floats
        movable = (place for place in range(len(units)) if every.with_int8([place]) != floats)
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
        inside = set(chosen)
        wished = {
            layer.name: Precision.INT8 if place in inside else self._float_of(layer.name)
            for place, unit in enumerate(self.units)
            for layer in unit.layers
        }
        layers = sorted(
            (layer for unit in self.units for layer in unit.layers), key=lambda layer: layer.index
        )
        return map_of(layers, wished)

    def macs(self, place: int) -> float:
        """Multiply-accumulates that INT8 in one unit moves; layers pinned to a precision do not move."""
        before, after = self.floats, self.with_int8([place])
        return float(
            sum(layer.macs for layer in self.units[place].layers if before[layer.name] != after[layer.name])
        )

    def savings(self, per_layer: Mapping[str, float] | None = None) -> tuple[float, ...]:
        """What INT8 in each unit saves: `per_layer` summed where it moves, or multiply-accumulates."""
        if per_layer is None:
            return tuple(self.macs(place) for place in range(len(self.units)))
        return tuple(
            sum(per_layer.get(layer.name, 0.0) for layer in unit.layers) if place in self.movable else 0.0
            for place, unit in enumerate(self.units)
        )

    def _float_of(self, layer: str) -> Precision:
        return Precision.FP32 if layer in self.wide else self.float_precision
