"""Ranges by the picture: each tensor's threshold is the candidate that leaves the least error in the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qsens.core.interfaces import Progress

# Each try runs the generator over the samples once.
MOST_TRIES = 120
# The tensors are gone through again where a pass has brought the error below this share of what it was.
WORTH_ANOTHER_PASS = 0.98


@dataclass(frozen=True)
class FoundRanges:
    """Thresholds that differ from those the search began with, and the error with them."""

    amax: Mapping[str, float]
    error: float
    tries: int


def search_ranges(
    start: Mapping[str, float],
    candidates: Mapping[str, Sequence[float]],
    error_of: Callable[[Mapping[str, float]], float],
    progress: Progress,
    *,
    most_tries: int = MOST_TRIES,
) -> FoundRanges:
    """Coordinate descent over tensors, those first whose candidates differ most.

    `start` are the thresholds by tensor, `candidates` others of each, ascending; `error_of` is asked with
    thresholds by tensor that replace those of `start`. For each tensor the next smaller and the next
    larger candidate are tried, and what helps is followed until it no longer does.
    """
    search = _Search(dict(start), error_of, progress, most_tries)
    order = sorted(candidates, key=lambda name: -_spread_of(candidates[name]))
    error = math.inf
    while search.error < WORTH_ANOTHER_PASS * error:
        error = search.error
        for tensor in order:
            search.descend(tensor, candidates[tensor])
    return FoundRanges(search.changed, search.error, search.tries)


def _spread_of(candidates: Sequence[float]) -> float:
    return math.log(candidates[-1] / candidates[0]) if candidates else 0.0


class _Search:
    def __init__(
        self,
        start: Mapping[str, float],
        error_of: Callable[[Mapping[str, float]], float],
        progress: Progress,
        most_tries: int,
    ) -> None:
        self._start = start
        self._error_of = error_of
        self._progress = progress
        self._most_tries = most_tries
        self.changed: dict[str, float] = {}
        self.tries = 0
        self.error = error_of({})

    def descend(self, tensor: str, candidates: Sequence[float]) -> None:
        own = self.changed.get(tensor, self._start[tensor])
        smaller = [amax for amax in candidates if amax < own][::-1]
        larger = [amax for amax in candidates if amax > own]
        if not self._follow(tensor, smaller):
            self._follow(tensor, larger)

    def _follow(self, tensor: str, candidates: Sequence[float]) -> bool:
        """Whether going along the candidates helped."""
        has_helped = False
        for amax in candidates:
            if self.tries >= self._most_tries:
                break
            self.tries += 1
            self._progress(self.tries, self._most_tries, "repair: ranges by the picture")
            error = self._error_of({**self.changed, tensor: amax})
            if not error < self.error:
                break
            self.changed[tensor], self.error, has_helped = amax, error, True
        return has_helped
