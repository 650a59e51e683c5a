"""Strategy `one-at-a-time`: only this unit in INT8, and everything but this unit in INT8."""

from collections.abc import Iterator, Sequence

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Trial, untried
from qsens.strategies.cut import Unit, checked_direction, map_of_units, units_of

DIRECTIONS = ("only-this", "all-but-this")


class OneAtATime:
    """Sensitivity of each unit alone, from both sides."""

    name = "one-at-a-time"

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
        """All single units not yet tried."""
        return untried(self._singles(units_of(layers, self.by)), trials)

    def _singles(self, units: Sequence[Unit]) -> Iterator[PrecisionMap]:
        sides = {"only-this": (Precision.INT8, self.float_precision)}
        sides["all-but-this"] = (self.float_precision, Precision.INT8)
        for direction, (this, others) in sides.items():
            if self.direction not in ("both", direction):
                continue
            for index in range(len(units)):
                precisions = [others] * len(units)
                precisions[index] = this
                yield map_of_units(units, precisions)
