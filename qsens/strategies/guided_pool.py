"""Which sets of units a search looks at: all of them where they are few, else what lies near good ones."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product

from qsens.strategies.knapsack import Items, most_saved

# 2 to the power of this many sets are predicted in some milliseconds.
MOST_ENUMERATED = 12
# Shares of the room in the budget that the sum of damages may take: the sum can be wrong both ways.
_ROOMS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
Units = frozenset[int]


def pool_of(items: Items, room: float, known: Iterable[Units]) -> list[Units]:
    """Sets of the places whose damage is finite, each once.

    `room` is the damage that the sum may reach, `known` are sets whose neighbours are worth a look.
    """
    places = [place for place, damage in enumerate(items.damages) if damage < float("inf")]
    if len(places) <= MOST_ENUMERATED:
        return [frozenset(chosen) for chosen in _all_subsets(places)]
    found: dict[Units, None] = {}
    seeds = [*known, *(frozenset(most_saved(items, share * room)) for share in _ROOMS)]
    for seed in seeds:
        found |= dict.fromkeys([seed, *_neighbours(seed, places)])
    return list(found)


def _all_subsets(places: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for bits in product((False, True), repeat=len(places)):
        yield tuple(place for place, bit in zip(places, bits, strict=True) if bit)


def _neighbours(seed: Units, places: Sequence[int]) -> Iterator[Units]:
    """One unit in or out, one for another, two others for one."""
    outside = [place for place in places if place not in seed]
    yield from (seed | {place} for place in outside)
    for place in seed:
        yield seed - {place}
        yield from (seed - {place} | {other} for other in outside)
        yield from (seed - {place} | set(pair) for pair in combinations(outside[:24], 2))
