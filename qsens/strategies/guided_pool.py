"""Which sets of units a search looks at: all of them where they are few, else what lies near good ones."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product

from qsens.search.knapsack import Items, most_saved

# 2 to the power of this many sets are predicted in some milliseconds.
MOST_ENUMERATED = 12
# Shares of the room in the budget that the sum of damages may take: the sum can be wrong both ways.
_ROOMS = (0.6, 0.8, 1.0, 1.25)
_NO_DAMAGE = 1e-3
_EXCHANGED = 24
_PAIRED = 8
Units = frozenset[int]


@lru_cache(maxsize=64)
def pool_of(items: Items, room: float, known: tuple[Units, ...]) -> tuple[Units, ...]:
    """Sets of the places whose damage is finite, each once.

    `room` is the damage that the sum may reach, `known` are sets whose neighbours are worth a look.
    """
    places = [place for place, damage in enumerate(items.damages) if damage < float("inf")]
    if len(places) <= MOST_ENUMERATED:
        return tuple(frozenset(chosen) for chosen in _all_subsets(places))
    found: dict[Units, None] = {}
    seeds = [*known, *(frozenset(most_saved(items, share * room)) for share in _ROOMS)]
    for seed in seeds:
        allowed = seed & set(places)
        found |= dict.fromkeys([allowed, *_neighbours(allowed, _by_worth(items, places))])
    return tuple(found)


def _all_subsets(places: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for bits in product((False, True), repeat=len(places)):
        yield tuple(place for place, bit in zip(places, bits, strict=True) if bit)


def _by_worth(items: Items, places: Sequence[int]) -> list[int]:
    """Those that save most for their damage first."""
    return sorted(places, key=lambda place: -items.savings[place] / (items.damages[place] + _NO_DAMAGE))


def _neighbours(seed: Units, places: Sequence[int]) -> Iterator[Units]:
    """One unit in or out, one for another, two others for one; of the first places in exchanges."""
    outside = [place for place in places if place not in seed]
    yield from (seed | {place} for place in outside)
    for place in seed:
        yield seed - {place}
        yield from (seed - {place} | {other} for other in outside[:_EXCHANGED])
        yield from (seed - {place} | set(pair) for pair in combinations(outside[:_PAIRED], 2))
