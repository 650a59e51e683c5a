"""JSON that somebody else may have written: parsed within bounds, refused in one kind of error."""

from __future__ import annotations

import json
import math
from typing import Any

# Documents of qsens are at most ten levels deep; code that walks them recursively is safe far beyond this.
DEEPEST = 64
# Whole numbers go into arrays and tables, which hold 64 bits.
LARGEST = 2**63 - 1


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
        for entry in level:
            if isinstance(entry, (int, float)):
                _check_number(entry, only_finite=only_finite)
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _check_number(number: int | float, *, only_finite: bool) -> None:
    if isinstance(number, float):
        if only_finite and not math.isfinite(number):
            raise ValueError(f"it holds a number that is {number}")
    elif abs(number) > LARGEST:
        raise ValueError("it holds a whole number beyond 64 bits")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
