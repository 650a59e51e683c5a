"""Ranges by the picture: coordinate descent changes one thing at a time, and keeps what helps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar

from qsens.core.interfaces import Progress

# Each try runs the generator over the samples once.
MOST_TRIES = 120
# Everything is gone through again where a pass has brought the error below this share of what it was.
WORTH_ANOTHER_PASS = 0.98
Key = TypeVar("Key")
Value = TypeVar("Value")


class Descent(Generic[Key, Value]):
    """The changes that helped (`changed`), the `error` with it, and the number of `tries`.

    `error_of` is asked with everything that is changed; after `most_tries` it is asked no more.
    """

    def __init__(
        self,
        error_of: Callable[[Mapping[Key, Value]], float],
        progress: Progress,
        label: str,
        most_tries: int,
    ) -> None:
        self._error_of = error_of
        self._progress = progress
        self._label = label
        self._most_tries = most_tries
        self.changed: dict[Key, Value] = {}
        self.tries = 0
        self.error = error_of({})

    def passes(self) -> Iterator[int]:
        """Numbers of passes, for as long as the last one was worth it."""
        number, error = 0, math.inf
        while self.error < WORTH_ANOTHER_PASS * error:
            error = self.error
            yield number
            number += 1

    def follow_either(self, key: Key, one: Sequence[Value], other: Sequence[Value]) -> bool:
        """Whether going along `one` helped, or, where it did not, along `other`."""
        return self._follow(key, one) or self._follow(key, other)

    def attempt(self, changes: Mapping[Key, Value]) -> bool:
        """Whether those changes together helped; they are kept then."""
        if self.tries >= self._most_tries:
            return False
        self.tries += 1
        self._progress(self.tries, self._most_tries, self._label)
        error = self._error_of({**self.changed, **changes})
        # So asked, an error that is NaN does not help.
        if not error < self.error:
            return False
        self.changed.update(changes)
        self.error = error
        return True

    def _follow(self, key: Key, values: Sequence[Value]) -> bool:
        return sum(1 for _ in takewhile(lambda value: self.attempt({key: value}), values)) > 0


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
    descent = Descent(error_of, progress, "repair: ranges by the picture", most_tries)
    order = sorted(candidates, key=lambda name: -_spread_of(candidates[name]))
    for _ in descent.passes():
        for tensor in order:
            own = descent.changed.get(tensor, start[tensor])
            smaller = [amax for amax in candidates[tensor] if amax < own][::-1]
            larger = [amax for amax in candidates[tensor] if amax > own]
            descent.follow_either(tensor, smaller, larger)
    return FoundRanges(descent.changed, descent.error, descent.tries)


def _spread_of(candidates: Sequence[float]) -> float:
    return math.log(candidates[-1] / candidates[0]) if candidates else 0.0
