"""The set of units to score next: a pool of sets, a model of their damage, and the largest expected gain."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from qsens.search.knapsack import Items, most_saved

# Standard deviations, as shares: of the whole sum, of a unit's own damage, and of a pair's geometric mean.
# Sums of single damages were within 20 % of the scored damage on the generators of benchmarks/search.py.
SCALE = 0.25
SINGLE = 0.15
PAIR = 0.3
# A full score is what counts, but the process would not be smooth through numbers of 1e-9.
_FULL_NOISE = 0.005
_JITTER = 1e-6
# So many times the budget is hopeless, however much more; its square would drown all others.
_LARGEST = 1e4
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
# 2 to the power of this many sets are predicted in some milliseconds.
MOST_ENUMERATED = 12
# Shares of the room in the budget that the sum of damages may take: the sum can be wrong both ways.
_ROOMS = (0.6, 0.8, 1.0, 1.25)
_NO_DAMAGE = 1e-3
# Exchanges grow with the square of the units, those of two for one with the cube: the most worthy only.
_EXCHANGED = 24
_PAIRED = 8
Units = frozenset[int]
# The search ends where no map is expected to save this share of everything more, or to use as much less.
_LEAST_GAIN = 0.002
_LEAST_LESS = 0.02
_LEAST_CHANCE = 0.05
# Savings that count as the same, as shares of everything, and the standard errors at which uses do not.
_SAME_SAVING = 0.002
_TOLD_APART = 2.0
# So many maps without success, and others that cannot be told from them are not scored.
_MOST_ALIKE = 3
# Sums of floats.
_SAME = 1e-9
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Observation:
    """Budget use of the map with INT8 in `units`; `error` is its standard deviation from the full score."""

    units: frozenset[int]
    use: float
    error: float = 0.0


@dataclass(frozen=True)
class Surrogate:
    """Predicts the budget use of any set of units: a Gaussian process (Rasmussen & Williams 2006, chapter 2).

    Its mean adds the damages of the single units; deviations from the sum come from a common scale, from the
    units themselves and from every pair.

    `floor` is the use of the map without INT8, `alone` what each unit adds to it by itself (0 or more) and
    `errors` the standard errors of that.
    """

    floor: float
    alone: tuple[float, ...]
    errors: tuple[float, ...]
    observations: tuple[Observation, ...]

    def predict(self, sets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (M,) of the budget use of sets, 0 or 1 in (M, K)."""
        mean = self._sum(sets)
        variance = self._variance(sets)
        if not self.observations:
            return mean, np.sqrt(variance)
        across = self._covariance(sets, self._seen)
        factor, residual = self._fit
        moved = mean + across @ cho_solve(factor, residual)
        left = variance - np.einsum("mo,om->m", across, cho_solve(factor, across.T))
        return np.asarray(np.maximum(moved, 0.0)), np.sqrt(np.maximum(left, _JITTER))

    @cached_property
    def _damages(self) -> FloatArray:
        return np.minimum(np.asarray(self.alone, dtype=np.float64), _LARGEST)

    @cached_property
    def _own(self) -> FloatArray:
        """Variance of each unit's own damage."""
        return np.asarray((SINGLE * self._damages) ** 2 + np.asarray(self.errors, dtype=np.float64) ** 2)

    @cached_property
    def _seen(self) -> FloatArray:
        return indicator([observation.units for observation in self.observations], len(self.alone))

    @cached_property
    def _fit(self) -> tuple[Any, FloatArray]:
        uses = np.minimum([observation.use for observation in self.observations], _LARGEST)
        errors = np.asarray([observation.error for observation in self.observations])
        noise = errors**2 + (_FULL_NOISE * uses) ** 2 + _JITTER
        covariance = self._covariance(self._seen, self._seen) + np.diag(noise)
        return cho_factor(covariance, lower=True), uses - self._sum(self._seen)

    def _sum(self, sets: FloatArray) -> FloatArray:
        return np.asarray(self.floor + sets @ self._damages)

    def _covariance(self, one: FloatArray, other: FloatArray) -> FloatArray:
        damages = self._damages
        shared = (one * damages) @ other.T
        squares = (one * damages**2) @ other.T
        scale = SCALE**2 * np.outer(one @ damages, other @ damages)
        # The square of a sum less the squares has every pair of different units twice.
        return np.asarray(scale + (one * self._own) @ other.T + PAIR**2 * (shared**2 - squares) / 2.0)

    def _variance(self, sets: FloatArray) -> FloatArray:
        damages = self._damages
        total = sets @ damages
        return np.asarray(
            (SCALE * total) ** 2 + sets @ self._own + PAIR**2 * (total**2 - sets @ damages**2) / 2.0 + _JITTER
        )


# A search that is replayed asks again what it asked before.
@lru_cache(maxsize=2048)
def chances_of(surrogate: Surrogate, sets: tuple[Units, ...]) -> tuple[float, ...]:
    """The probability of each set to keep to the budget."""
    mean, deviation = surrogate.predict(indicator(sets, len(surrogate.alone)))
    return tuple(float(chance) for chance in ndtr((1.0 - mean) / deviation))


def indicator(sets: Sequence[frozenset[int]], count: int) -> FloatArray:
    """Sets of places as rows of 0 and 1, (M, count)."""
    rows = np.zeros((len(sets), count))
    lengths = [len(places) for places in sets]
    columns = np.fromiter((place for places in sets for place in places), np.intp, sum(lengths))
    rows[np.repeat(np.arange(len(sets)), lengths), columns] = 1.0
    return rows


@dataclass(frozen=True, eq=False)
class Pool:
    """Sets to choose from, and the same as rows of 0 and 1 (M, K)."""

    sets: tuple[Units, ...]
    rows: FloatArray


# One search looks into few pools, which may be large, many times each.
@lru_cache(maxsize=8)
def pool_of(items: Items, room: float, known: tuple[Units, ...]) -> Pool:
    """Sets of the places whose damage is finite, each once.

    `room` is the damage that the sum may reach, `known` are sets whose neighbours are worth a look.
    """
    sets = _pooled(items, room, known)
    return Pool(sets, indicator(sets, len(items.savings)))


def _pooled(items: Items, room: float, known: tuple[Units, ...]) -> tuple[Units, ...]:
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


@dataclass(frozen=True)
class Candidate:
    """A set worth a score: the chance that it is better than the best one, and by how much it would be."""

    units: Units
    chance: float
    gain: float


@dataclass(frozen=True)
class Question:
    """All that the choice depends on, hashable: a resumed search asks the same questions again.

    `near` are sets whose neighbours are looked at, `closed` those that are out, `failed` those that were
    scored without success; `use` is that of `best`.
    """

    items: Items
    room: float
    near: tuple[Units, ...]
    closed: frozenset[Units]
    best: Units
    use: float
    least_saving: float | None
    surrogate: Surrogate
    failed: tuple[Units, ...] = ()


@lru_cache(maxsize=2048)
def next_candidate(question: Question) -> Candidate | None:
    """The set with the largest expected gain; `None` where none is worth a score."""
    pool = pool_of(question.items, question.room, question.near)
    sets = pool.rows
    savings = sets @ np.asarray(question.items.savings)
    least = question.least_saving
    best = math.fsum(question.items.savings[place] for place in question.best)
    is_open = savings > best + _SAME if least is None else savings >= least - _SAME
    is_open &= np.fromiter((units not in question.closed for units in pool.sets), bool, len(sets))
    if question.failed:
        is_open &= are_alike(question, sets).sum(axis=1) < _MOST_ALIKE
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
    return Candidate(pool.sets[int(places[place])], chance, gain)


def are_alike(question: Question, sets: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether sets (M, K) save what failed ones do and their units alone do not tell them apart: (M, F)."""
    failed = indicator(question.failed, sets.shape[1])
    damages = np.minimum(np.asarray(question.surrogate.alone), _LARGEST)
    squares = np.asarray(question.surrogate.errors) ** 2
    savings = np.asarray(question.items.savings)
    apart = np.abs(np.subtract.outer(sets @ damages, failed @ damages))
    shared = (sets * squares) @ failed.T
    variance = np.add.outer(sets @ squares, failed @ squares) - 2.0 * shared
    saves_same = np.abs(np.subtract.outer(sets @ savings, failed @ savings)) <= _SAME_SAVING
    return np.asarray(saves_same & (apart <= _TOLD_APART * np.sqrt(np.maximum(variance, 0.0)) + _SAME))


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
