"""The point that a search starts from, in units of the search."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qsens.core.precision import Precision
from qsens.core.start import StartingPoint
from qsens.search.budget_use import BudgetShare
from qsens.search.guided.next_set import Units
from qsens.search.unit_maps import UnitMaps

# What another run knew of a unit is worth half of it, more or less: checkpoints of a training differ so much.
_PASSED_ON = 0.5


@dataclass(frozen=True)
class SearchStart:
    """The units in INT8 that another run chose, and what units used alone there."""

    run: str
    units: Units
    alone: Mapping[int, BudgetShare]

    @classmethod
    def of(cls, start: StartingPoint, maps: UnitMaps) -> "SearchStart | None":
        """The start in units of this search; `None` where it has none in INT8."""
        layers = [layer for unit in maps.units for layer in unit.layers]
        wished = start.map_over(layers, maps.float_precision)
        moved = {place: [layer.name for layer in maps.moved(place)] for place in maps.movable}
        units = frozenset(
            place for place, names in moved.items() if all(wished[name] is Precision.INT8 for name in names)
        )
        found = {place: start.use_of(names) for place, names in moved.items()}
        alone = {
            place: BudgetShare(use.share, math.hypot(use.error, _PASSED_ON * use.share))
            for place, use in found.items()
            if use is not None
        }
        return cls(start.run, units, alone) if units else None
