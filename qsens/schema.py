"""Plain values from TOML and JSON: parsed within bounds, checked against the published JSON schemas."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from qsens.device.json_text import check_plain
from qsens.errors import SpecError


def parse_toml(content: bytes) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        ValueError: for content that is no TOML or no UTF-8, is nested too deep, or holds a number that is
            NaN, infinite or beyond 64 bits.
    """
    try:
        table = tomllib.loads(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    check_plain(table)
    return table


def load_schema(name: str) -> dict[str, Any]:
    """The published schema `name`, for example `spec` or `precision_map`."""
    text = (files("qsens") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_schema(value: object, name: str, where: str) -> None:
    """Check `value` against the published schema `name`. Raises as `check_value`."""
    check_value(value, load_schema(name), where)


def check_value(value: object, schema: Mapping[str, Any], where: str) -> None:
    """Check `value` against `schema`; `where` is the file or the place that people know it by.

    Raises:
        SpecError: naming the key that is unknown, missing or wrong, with what was expected.
    """
    # jsonschema takes a fifth of a second to load.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(value))
    if error is not None:
        raise _spec_error(error, where)


def _spec_error(error: Any, where: str) -> SpecError:
    key = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        return _unknown_key(error, key, where)
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return SpecError(f"{where}: {_joined(key, missing)!r} is missing", _expected(error.schema))
    return SpecError(f"{where}: {key or 'the whole file'!r} is {error.instance!r}", _expected(error.schema))


def _unknown_key(error: Any, parent: str, where: str) -> SpecError:
    allowed = list(error.schema.get("properties", {}))
    unknown = next(name for name in error.instance if name not in allowed)
    close = difflib.get_close_matches(unknown, allowed, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(allowed)}"
    return SpecError(f"{where}: no key named {_joined(parent, unknown)!r}", hint)


def _joined(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _expected(schema: Mapping[str, Any]) -> str:
    named = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
    bounds = " and ".join(f"{text} {schema[key]}" for key, text in named.items() if key in schema)
    choices = ", ".join(str(value) for value in schema.get("enum", ()))
    if "description" not in schema and choices:
        return f"use one of: {choices}"
    what = str(schema.get("description", schema.get("type", "another value")))
    more = [part for part in (bounds, choices) if part and part not in what]
    return f"expected: {what}{''.join(f'; {part}' for part in more)}"
