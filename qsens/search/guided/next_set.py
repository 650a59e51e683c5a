"""Which set of units a search scores next: the one that is expected to gain most."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtr

from qsens.search.knapsack import Items
from qsens.strategies.guided_pool import Units, pool_of
from qsens.strategies.surrogate import Surrogate, indicator

# The search ends where no map is expected to save this share of everything more, or to use as much less.
_LEAST_GAIN = 0.002
_LEAST_LESS = 0.02
_LEAST_CHANCE = 0.05
# Sums of floats.
_SAME = 1e-9
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Candidate:
    """A set worth a score: the chance that it is better than the best one, and by how much it would be."""

    units: Units
    chance: float
    gain: float


@dataclass(frozen=True)
class Question:
    """All that the choice depends on, hashable: a resumed search asks the same questions again.

    `near` are sets whose neighbours are looked at, `closed` those that are out; `use` is that of `best`.
    """

    items: Items
    room: float
    near: tuple[Units, ...]
    closed: frozenset[Units]
    best: Units
    use: float
    least_saving: float | None
    surrogate: Surrogate


@lru_cache(maxsize=2048)
def next_candidate(question: Question) -> Candidate | None:
    """The set with the largest expected gain; `None` where none is worth a score."""
    pool = pool_of(question.items, question.room, question.near)
    sets = indicator(pool, len(question.items.savings))
    savings = sets @ np.asarray(question.items.savings)
    least = question.least_saving
    best = math.fsum(question.items.savings[place] for place in question.best)
    is_open = savings > best + _SAME if least is None else savings >= least - _SAME
    is_open &= np.fromiter((units not in question.closed for units in pool), bool, len(pool))
    places = np.flatnonzero(is_open)
    if not len(places):
        return None
    mean, deviation = question.surrogate.predict(sets[places])
    if least is None:
        found = _most_saving(mean, deviation, savings[places] - best)
    else:
        found = _least_use(mean, deviation, question.use)
    if found is None:
        return None
    place, chance, gain = found
    return Candidate(pool[int(places[place])], chance, gain)


def _most_saving(mean: Array, deviation: Array, gains: Array) -> tuple[int, float, float] | None:
    chances = ndtr((1.0 - mean) / deviation)
    place = int(np.argmax(chances * gains))
    if chances[place] * gains[place] < _LEAST_GAIN or chances[place] < _LEAST_CHANCE:
        return None
    return place, float(chances[place]), float(gains[place])


def _least_use(mean: Array, deviation: Array, now: float) -> tuple[int, float, float] | None:
    """Expected improvement (Jones, Schonlau & Welch 1998); the least where no map is known to improve on."""
    if math.isinf(now):
        return int(np.argmin(mean)), 1.0, math.inf
    ahead = (now - mean) / deviation
    gains = (now - mean) * ndtr(ahead) + deviation * np.exp(-(ahead**2) / 2) / math.sqrt(2 * math.pi)
    place = int(np.argmax(gains))
    if gains[place] < _LEAST_LESS * now:
        return None
    return place, float(ndtr(ahead[place])), float(gains[place])
