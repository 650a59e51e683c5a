"""Plain values that somebody else may have written, read by key: what is missing or wrong is named."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

_LONGEST = 60


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
