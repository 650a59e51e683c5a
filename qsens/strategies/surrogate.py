"""What a set of INT8 units should cost in quality: the sum of their damages, corrected by what was scored.

A Gaussian process over sets (Rasmussen & Williams 2006, chapter 2). Its mean adds the damages of the single
units; deviations from the sum come from a common scale, from the units themselves and from every pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

# Standard deviations, as shares: of the whole sum, of a unit's own damage, and of a pair's geometric mean.
# Sums of single damages were within 20 % of the scored damage on the generators of benchmarks/search.py.
SCALE = 0.25
SINGLE = 0.15
PAIR = 0.3
# A full score is what counts, but the process would not be smooth through numbers of 1e-9.
_FULL_NOISE = 0.005
_JITTER = 1e-6
_LARGEST = 1e4
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Observation:
    """Budget use of the map with INT8 in `units`; `error` is its standard deviation from the full score."""

    units: frozenset[int]
    use: float
    error: float = 0.0


@dataclass(frozen=True)
class Surrogate:
    """Predicts the budget use of any set of units.

    `floor` is the use of the map without INT8, `alone` what each unit adds to it by itself (0 or more) and
    `errors` the standard errors of that.
    """

    floor: float
    alone: tuple[float, ...]
    errors: tuple[float, ...]
    observations: tuple[Observation, ...]

    def predict(self, sets: Array) -> tuple[Array, Array]:
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
    def _damages(self) -> Array:
        return np.minimum(np.asarray(self.alone, dtype=np.float64), _LARGEST)

    @cached_property
    def _own(self) -> Array:
        """Variance of each unit's own damage."""
        return np.asarray((SINGLE * self._damages) ** 2 + np.asarray(self.errors, dtype=np.float64) ** 2)

    @cached_property
    def _seen(self) -> Array:
        return indicator([observation.units for observation in self.observations], len(self.alone))

    @cached_property
    def _fit(self) -> tuple[Any, Array]:
        uses = np.minimum([observation.use for observation in self.observations], _LARGEST)
        errors = np.asarray([observation.error for observation in self.observations])
        noise = errors**2 + (_FULL_NOISE * uses) ** 2 + _JITTER
        covariance = self._covariance(self._seen, self._seen) + np.diag(noise)
        return cho_factor(covariance, lower=True), uses - self._sum(self._seen)

    def _sum(self, sets: Array) -> Array:
        return np.asarray(self.floor + sets @ self._damages)

    def _covariance(self, one: Array, other: Array) -> Array:
        damages = self._damages
        shared = (one * damages) @ other.T
        squares = (one * damages**2) @ other.T
        scale = SCALE**2 * np.outer(one @ damages, other @ damages)
        return np.asarray(scale + (one * self._own) @ other.T + PAIR**2 * (shared**2 - squares) / 2.0)

    def _variance(self, sets: Array) -> Array:
        damages = self._damages
        total = sets @ damages
        return np.asarray(
            (SCALE * total) ** 2 + sets @ self._own + PAIR**2 * (total**2 - sets @ damages**2) / 2.0 + _JITTER
        )


def indicator(sets: Sequence[frozenset[int]], count: int) -> Array:
    """Sets of places as rows of 0 and 1, (M, count)."""
    rows = np.zeros((len(sets), count))
    lengths = [len(places) for places in sets]
    columns = np.fromiter((place for places in sets for place in places), np.intp, sum(lengths))
    rows[np.repeat(np.arange(len(sets)), lengths), columns] = 1.0
    return rows
