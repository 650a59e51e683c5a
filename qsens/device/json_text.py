"""JSON that somebody else may have written: parsed within bounds, refused in one kind of error."""

from __future__ import annotations

import json
from typing import Any

# Documents of qsens are at most ten levels deep; code that walks them recursively is safe far beyond this.
DEEPEST = 64


def parse_json(text: str | bytes) -> Any:
    """The plain value of a JSON text.

    Raises:
        ValueError: for text that is no JSON or no UTF-8, nested more than `DEEPEST` levels deep, or with
            integers of thousands of digits.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise `ValueError` for dicts and lists that are nested more than `DEEPEST` levels deep."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
