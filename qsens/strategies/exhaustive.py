"""Strategy `exhaustive`: every map of INT8 and float, for small networks and to check other strategies."""

from collections.abc import Sequence
from itertools import product

from qsens.core.errors import SpecError
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Trial, untried
from qsens.strategies.cut import map_of_units, units_of


class Exhaustive:
    """All 2^n maps over n units. `maximum_maps` is the count above which it refuses."""

    name = "exhaustive"

    def __init__(
        self,
        *,
        by: str = "block",
        maximum_maps: int = 1024,
        float_precision: Precision = Precision.FP16,
    ) -> None:
        self.by = by
        self.maximum_maps = maximum_maps
        self.float_precision = Precision(float_precision)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """All maps not yet tried.

        Raises:
            SpecError: if there are more than `maximum_maps`.
        """
        units = units_of(layers, self.by)
        if 2 ** len(units) > self.maximum_maps:
            raise SpecError(
                f"{len(units)} units ({self.by}s) make {2 ** len(units)} maps, over the limit of "
                f"{self.maximum_maps}",
                "use --by block, another strategy, or raise maximum_maps in the spec's strategy_options",
            )
        choices = product((Precision.INT8, self.float_precision), repeat=len(units))
        return untried((map_of_units(units, choice) for choice in choices), trials)
