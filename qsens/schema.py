"""Checks plain values against the published JSON schemas and names the key that is wrong."""

import difflib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from qsens.errors import SpecError


def load_schema(name: str) -> dict[str, Any]:
    """The published schema `name`, for example `spec` or `precision_map`."""
    text = (files("qsens") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_schema(value: object, name: str, where: str) -> None:
    """Check `value` against the schema `name`; `where` is the file or the place that people know it by.

    Raises:
        SpecError: naming the key that is unknown, missing or wrong, with what was expected.
    """
    # jsonschema takes a fifth of a second to load.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(load_schema(name)).iter_errors(value))
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
    if "description" in schema:
        return f"expected: {schema['description']}"
    if "enum" in schema:
        return f"use one of: {', '.join(str(value) for value in schema['enum'])}"
    bounds = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
    words = [f"{text} {schema[key]}" for key, text in bounds.items() if key in schema]
    return " ".join(["expected:", str(schema.get("type", "another value")), *words])
