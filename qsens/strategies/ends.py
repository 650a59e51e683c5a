"""Strategy `ends`: float for the first i and the last j units, INT8 in between."""

from collections.abc import Iterator, Sequence

from qsens.core.errors import SpecError
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Trial, untried
from qsens.strategies.cut import Unit, map_of_units, units_of


class Ends:
    """Both ends in float, as the paper's choice for its teacher (first two and last two blocks).

    `first` and `last` bound i and j; every pair up to them is tried that leaves at least one unit in INT8.
    """

    name = "ends"

    def __init__(
        self,
        *,
        by: str = "block",
        first: int = 4,
        last: int = 4,
        float_precision: Precision = Precision.FP16,
    ) -> None:
        if first < 0 or last < 0:
            raise SpecError(f"ends cannot keep {min(first, last)} units in float", "use 0 or more")
        self.by = by
        self.first = first
        self.last = last
        self.float_precision = Precision(float_precision)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """All pairs of ends not yet tried."""
        return untried(self._pairs(units_of(layers, self.by)), trials)

    def _pairs(self, units: Sequence[Unit]) -> Iterator[PrecisionMap]:
        for first in range(self.first + 1):
            for last in range(self.last + 1):
                middle = len(units) - first - last
                if middle < 1:
                    continue
                precisions = [self.float_precision] * first + [Precision.INT8] * middle
                yield map_of_units(units, precisions + [self.float_precision] * last)
