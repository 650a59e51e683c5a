"""Strategy `boundary`: every cut of the network in execution order, as Kim et al. 2023, Figure 3."""

from collections.abc import Iterator, Sequence

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Trial, untried
from qsens.strategies.cut import Unit, checked_direction, map_of_units, units_of

DIRECTIONS = ("int8-first", "float-first")


class Boundary:
    """INT8 before the cut and float after it (`int8-first`), the reverse (`float-first`), or both.

    `by` is `layer` or `block`; `float_precision` is what the other side of the cut runs in.
    """

    name = "boundary"

    def __init__(
        self,
        *,
        by: str = "layer",
        direction: str = "both",
        float_precision: Precision = Precision.FP16,
    ) -> None:
        self.by = by
        self.direction = checked_direction(direction, DIRECTIONS)
        self.float_precision = Precision(float_precision)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """All cuts not yet tried."""
        return untried(self._cuts(units_of(layers, self.by)), trials)

    def _cuts(self, units: Sequence[Unit]) -> Iterator[PrecisionMap]:
        sides = {"int8-first": (Precision.INT8, self.float_precision)}
        sides["float-first"] = (self.float_precision, Precision.INT8)
        for direction, (before, after) in sides.items():
            if self.direction not in ("both", direction):
                continue
            for cut in range(1, len(units)):
                yield map_of_units(units, [before] * cut + [after] * (len(units) - cut))
