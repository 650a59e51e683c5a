"""The boundary curves of `guided`: screens near the place where the budget is used up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qsens.search.guided.knowledge import NOTHING, SearchKnowledge, percent, trials_of
from qsens.search.guided.next_set import Units

# Cuts of the first grid, as shares of the range that is left.
_GRID = (0.25, 0.5, 0.75)
# A sum of the damages alone that no boundary within the budget was ever seen at.
_HOPELESS_SUM = 2.5
# Two neighbours that fall by more standard errors than this show that a curve does not rise.
_FALL = 2.0
# Where it does not, intervals are halved this often: those that bend most first.
_DENSER = 2
_HALVED_AT_ONCE = 2


@dataclass(frozen=True)
class _Curve:
    """One direction: `units(cut)` is the set in INT8 for `cut` units of it, 0 to `last`."""

    name: str
    units: Callable[[int], Units]
    last: int


def screen_boundaries(known: SearchKnowledge) -> None:
    """Screen both directions near the place where the budget is used up, and note what was seen.

    A direction ends at its first unit that is beyond the budget alone: damages do not take each other away.
    """
    places = list(known.maps.movable)
    curves = [
        _Curve("INT8 first", lambda cut: frozenset(places[:cut]), _last(known, places)),
        _Curve("float first", lambda cut: frozenset(places[len(places) - cut :]), _last(known, places[::-1])),
    ]
    curves = [curve for curve in curves if curve.last > 1]
    known.screen(curve.units(cut) for curve in curves for cut in _grid(curve.last))
    for curve in curves:
        cuts = [cut for cut in sorted({1, *_grid(curve.last)}) if known.knows(curve.units(cut))]
        if _rises(known, curve, cuts):
            _halve(known, curve, cuts)
        else:
            _densify(known, curve, cuts)


def _last(known: SearchKnowledge, order: Sequence[int]) -> int:
    """The number of units of this order in INT8 before one alone, or all by their sum, use too much."""
    total = 0.0
    for count, place in enumerate(order):
        damage = known.alone[place]
        total += damage
        if math.isinf(damage) or damage - known.alone_errors[place] > 1.0 or total > _HOPELESS_SUM:
            return count
    return len(order) - 1


def _grid(last: int) -> list[int]:
    return sorted({max(2, math.ceil(share * last)) for share in _GRID} | {last})


def _rises(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> bool:
    uses = [known.estimate(curve.units(cut)) for cut in cuts]
    return all(
        after.share >= before.share - _FALL * math.hypot(before.error, after.error)
        for before, after in pairwise(uses)
    )


def _halve(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> None:
    within = max((cut for cut in cuts if known.estimate(curve.units(cut)).share <= 1.0), default=0)
    beyond = min((cut for cut in cuts if cut > within), default=curve.last + 1)
    while beyond - within > 1 and within:
        middle = (within + beyond) // 2
        known.screen([curve.units(middle)])
        if not known.knows(curve.units(middle)):
            break
        if known.estimate(curve.units(middle)).share <= 1.0:
            within = middle
        else:
            beyond = middle
    _note(known, curve, "rises on its grid, so it was halved", within)


def _densify(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> None:
    for _ in range(_DENSER):
        gaps = [(one, other) for one, other in pairwise(cuts) if other - one > 1]
        gaps.sort(key=lambda gap: -_bend(known, curve, gap))
        middles = [(one + other) // 2 for one, other in gaps[:_HALVED_AT_ONCE]]
        known.screen(curve.units(middle) for middle in middles)
        cuts = sorted({*cuts, *(middle for middle in middles if known.knows(curve.units(middle)))})
    within = max((cut for cut in cuts if known.estimate(curve.units(cut)).share <= 1.0), default=0)
    _note(known, curve, "does not rise everywhere, so it was made denser where it bends", within)


def _bend(known: SearchKnowledge, curve: _Curve, gap: tuple[int, int]) -> float:
    one, other = (known.estimate(curve.units(cut)).share for cut in gap)
    return abs(other - one) if math.isfinite(one + other) else math.inf


def _note(known: SearchKnowledge, curve: _Curve, seen: str, within: int) -> None:
    best = curve.units(within) if within else NOTHING
    asked = [units for cut in range(1, curve.last + 1) if (units := curve.units(cut)) in _sets(known)]
    found = f"INT8 in {within} {known.word}s uses about {percent(known.estimate(best).share)} of the budget"
    known.replay.note(f"The boundary curve, {curve.name}, {seen}; {found}", *trials_of(known, asked))


def _sets(known: SearchKnowledge) -> set[Units]:
    return {*known.scored, *known.screened}
