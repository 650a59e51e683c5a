"""JSON that somebody else may have written: parsed within bounds, read by key, errors with the key named."""

from __future__ import annotations

import json
import math
from typing import Any, Iterator, Sequence

# Documents of qsens are at most ten levels deep; code that walks them recursively is safe far beyond this.
DEEPEST = 64
# Whole numbers go into arrays and tables, which hold 64 bits.
LARGEST = 2**63 - 1
_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"
_LONGEST = 60


def parse_json(text: str | bytes, *, only_finite: bool = True) -> Any:
    """The plain value of a JSON text in UTF-8.

    Raises:
        ValueError: for text that is no JSON or no UTF-8, nested more than `DEEPEST` levels deep, with whole
            numbers beyond `LARGEST`, or (with `only_finite`) with numbers that are NaN or infinite.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_plain(value, only_finite=only_finite)
    return value


def check_plain(value: Any, *, only_finite: bool = True) -> None:
    """Raise `ValueError` for plain values that are nested too deep, or numbers that are too large or none."""
    level = [value]
    for _ in range(DEEPEST):
        inside: list[Any] = []
        for entry in level:
            if isinstance(entry, str):
                continue
            if isinstance(entry, (int, float)):
                _check_number(entry, only_finite=only_finite)
            elif isinstance(entry, (dict, list)):
                inside += entry.values() if isinstance(entry, dict) else entry
        level = inside
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _check_number(number: int | float, *, only_finite: bool) -> None:
    if isinstance(number, float):
        if only_finite and not math.isfinite(number):
            raise ValueError(f"it holds a number that is {number}")
    elif abs(number) > LARGEST:
        raise ValueError("it holds a whole number beyond 64 bits")


class PlainValue:
    """A value of a document and the key that people find it by, for example `layers.3.node`.

    Every reading raises `ValueError` for a value of another kind or beyond the bounds.
    """

    def __init__(self, value: Any, key: str = "") -> None:
        self.value = value
        self.key = key

    def at(self, name: str) -> PlainValue:
        """The value of a table at a key."""
        if not isinstance(self.value, dict):
            raise self.unlike("a table")
        if name not in self.value:
            raise ValueError(f"{self._inner(name)!r} is missing")
        return PlainValue(self.value[name], self._inner(name))

    def items(self, *, at_least: int = 0) -> Iterator[PlainValue]:
        """The entries of a list."""
        if not isinstance(self.value, list) or len(self.value) < at_least:
            raise self.unlike(f"a list of at least {at_least}" if at_least else "a list")
        return (PlainValue(entry, self._inner(str(place))) for place, entry in enumerate(self.value))

    def entries(self) -> Iterator[PlainValue]:
        """The values of a table, whatever its keys are."""
        if not isinstance(self.value, dict):
            raise self.unlike("a table")
        return (PlainValue(entry, self._inner(name)) for name, entry in self.value.items())

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            raise self.unlike("a text")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.unlike("true or false")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            raise self.unlike(f"a whole number from {low} to {high}")
        return self.value

    def number(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.unlike("a number")
        if not low <= self.value <= high:
            raise self.unlike(f"a number from {low:g} to {high:g}")
        return float(self.value)

    def one_of(self, words: Sequence[str]) -> str:
        if not isinstance(self.value, str) or self.value not in words:
            raise self.unlike(f"one of {', '.join(words)}")
        return self.value

    def unlike(self, expected: str) -> ValueError:
        """The error of a value that is something else than `expected`."""
        text = repr(self.value)
        shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
        return ValueError(f"{self.key!r} is {shown}, expected {expected}")

    def _inner(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


def check_distinct(names: Sequence[str], key: str) -> None:
    """Raise `ValueError` where a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{key!r} names {name!r} twice")
        seen.add(name)
