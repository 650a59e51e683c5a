"""Strategies that list maps (`boundary`, `ends`, `one-at-a-time`, `exhaustive`), chains, and their units."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product

from qsens.core.errors import SpecError
from qsens.core.interfaces import Decision, Strategy
from qsens.core.layer import Layer, blocks_of, nearest_allowed
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.start import StartingPoint
from qsens.core.trial import Request, Screen, Trial, untried


class Chain(Strategy):
    """Asks each strategy for maps until it has none left, then the next; what one tried, none repeats."""

    def __init__(self, members: Sequence[Strategy]) -> None:
        if not members:
            raise SpecError("a chain of no strategies", "name one, or several joined by +")
        self.members = tuple(members)
        self.name = "+".join(member.name for member in members)
        self.keeps_to_budget = all(member.keeps_to_budget for member in members)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Request]:
        """The maps of the first strategy that is not finished."""
        return next(
            (list(proposed) for member in self.members if (proposed := member.propose(layers, trials))), []
        )

    def explain_search(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Decision]:
        """The decisions of those strategies that tell theirs."""
        return [decision for member in self.members for decision in member.explain_search(layers, trials)]


class StartingMap(Strategy):
    """Asks for the map that a run starts from."""

    name = "start"

    def __init__(self, start: StartingPoint, float_precision: Precision) -> None:
        self.start = start
        self.float_precision = float_precision

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """That map, once."""
        return untried([self.start.map_over(layers, self.float_precision)], trials)


@dataclass(frozen=True)
class Unit:
    """One or more layers that always share a precision."""

    name: str
    layers: tuple[Layer, ...]


def units_of(layers: Sequence[Layer], by: str) -> tuple[Unit, ...]:
    """Units in execution order: single layers, or blocks. Raises `SpecError` for another `by`."""
    if by == "layer":
        return tuple(Unit(layer.name, (layer,)) for layer in layers)
    if by == "block":
        return tuple(Unit(block.name, block.layers) for block in blocks_of(layers))
    raise SpecError(f"a strategy cannot go by {by!r}", "use layer or block")


def checked_direction(direction: str, known: Sequence[str]) -> str:
    """`direction` if it is `both` or one of `known`. Raises `SpecError` naming them."""
    if direction not in ("both", *known):
        raise SpecError(f"no direction named {direction!r}", f"use both, {' or '.join(known)}")
    return direction


def map_of_units(units: Sequence[Unit], precisions: Iterable[Precision]) -> PrecisionMap:
    """The canonical map that gives each unit its precision, or the nearest that each layer allows."""
    nearest = (_nearest(unit, precision) for unit, precision in zip(units, precisions, strict=True))
    return PrecisionMap.over(dict(chain.from_iterable(nearest)))


def _nearest(unit: Unit, precision: Precision) -> list[tuple[str, Precision]]:
    return [(layer.name, nearest_allowed(layer, precision)) for layer in unit.layers]


class Exhaustive(Strategy):
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


class _BothWays(Strategy):
    """Maps that divide the units between INT8 and float, one way, the other way, or both.

    `directions` names the two ways: in the first, the `one` side of `divisions` is in INT8.
    """

    directions: tuple[str, str]

    def __init__(
        self,
        *,
        by: str = "layer",
        direction: str = "both",
        float_precision: Precision = Precision.FP16,
    ) -> None:
        self.by = by
        self.direction = checked_direction(direction, self.directions)
        self.float_precision = Precision(float_precision)

    @abstractmethod
    def divisions(self, count: int, one: Precision, other: Precision) -> Iterator[list[Precision]]:
        """The precisions of `count` units in each map, in order."""

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """All divisions not yet tried."""
        return untried(self._maps(units_of(layers, self.by)), trials)

    def _maps(self, units: Sequence[Unit]) -> Iterator[PrecisionMap]:
        sides = (Precision.INT8, self.float_precision)
        nearest = {side: [_nearest(unit, side) for unit in units] for side in sides}
        for direction, (one, other) in zip(self.directions, (sides, sides[::-1]), strict=True):
            if self.direction in ("both", direction):
                for precisions in self.divisions(len(units), one, other):
                    chosen = (nearest[side][place] for place, side in enumerate(precisions))
                    yield PrecisionMap.over(dict(chain.from_iterable(chosen)))


class OneAtATime(_BothWays):
    """Sensitivity of each unit alone, from both sides."""

    name = "one-at-a-time"
    directions = ("only-this", "all-but-this")

    def divisions(self, count: int, one: Precision, other: Precision) -> Iterator[list[Precision]]:
        for index in range(count):
            precisions = [other] * count
            precisions[index] = one
            yield precisions


class Ends(Strategy):
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


class Boundary(_BothWays):
    """INT8 before the cut and float after it (`int8-first`), the reverse (`float-first`), or both.

    `by` is `layer` or `block`; `float_precision` is what the other side of the cut runs in.
    """

    name = "boundary"
    directions = ("int8-first", "float-first")

    def divisions(self, count: int, one: Precision, other: Precision) -> Iterator[list[Precision]]:
        for cut in range(1, count):
            yield [one] * cut + [other] * (count - cut)


class Curve(Strategy):
    """The boundary curve for looking at: INT8 before the cut, screened at `points` cuts, spread evenly.

    It decides nothing: a search that comes after it finds its screens made.
    """

    name = "curve"

    def __init__(
        self, *, by: str = "layer", points: int = 24, float_precision: Precision = Precision.FP16
    ) -> None:
        if points < 1:
            raise SpecError(f"a curve of {points} points", "use 1 or more")
        self.by = by
        self.points = points
        self.float_precision = Precision(float_precision)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Request]:
        """Screens of the cuts that no trial tells of."""
        units = units_of(layers, self.by)
        cuts = len(units) - 1
        shown = min(self.points, cuts)
        # The middles of equal parts; cuts count from 1.
        places = sorted({round((place + 0.5) * cuts / shown + 0.5) for place in range(shown)})
        sides = [[Precision.INT8] * place + [self.float_precision] * (len(units) - place) for place in places]
        return list(untried((Screen(map_of_units(units, side)) for side in sides), trials))
