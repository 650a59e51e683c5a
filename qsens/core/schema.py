"""Plain values from TOML and JSON: parsed within bounds, checked against published schemas or our records."""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from qsens.core.errors import SpecError, name_hint
from qsens.device.plain_values import check_plain

Record = TypeVar("Record")


_MOST_PARTS = 500
_DOTTED = re.compile(rb"[\w.-]{%d,}" % _MOST_PARTS)


def parse_toml(content: bytes) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        ValueError: for content that is no TOML or no UTF-8, is nested too deep, or holds a number that is
            NaN, infinite or beyond 64 bits.
    """
    # A key of thousands of parts makes as many tables, each looked up from the first: minutes for 100 KB.
    plain = content.translate(None, b" \t\"'")
    if any(found[0].count(b".") > _MOST_PARTS for found in _DOTTED.finditer(plain)):
        raise ValueError(f"a key has more than {_MOST_PARTS} parts")
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
    hint = name_hint(unknown, allowed, f"known keys: {', '.join(allowed)}")
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


def read_record(kind: type[Record], value: object, **known: object) -> Record:
    """A dataclass from the plain values of its fields; `known` are fields that the caller has read already.

    Raises:
        ValueError: naming the field that is missing, unknown, or of another type than `read_value` takes.
    """
    of_any: Any = kind
    hints, required = _hints(of_any), _required(of_any)
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is no table of {', '.join(hints)}")
    unknown = value.keys() - hints.keys()
    if unknown:
        raise ValueError(f"no field named {shown(min(unknown))}")
    given = {name: read_value(hints[name], entry, name) for name, entry in value.items() if name not in known}
    missing = required - given.keys() - known.keys()
    if missing:
        raise ValueError(f"{min(missing)!r} is missing")
    return kind(**given, **known)


def read_value(hint: Any, value: Any, name: str) -> Any:
    """A plain value as the type `hint` says; `name` is what errors call it.

    Whole numbers of ours count something: they are 0 or more. A whole number may stand for a float.

    Raises:
        ValueError: for a value of another type.
    """
    origin, parts = _form(hint)
    if origin is UnionType:
        return None if value is None else read_value(parts[0], value, name)
    if origin is tuple:
        items = enumerate(_plain(list, value, name))
        return tuple(read_value(parts[0], item, f"{name}[{place}]") for place, item in items)
    if origin is Mapping:
        table = _plain(Mapping, value, name)
        return {key: read_value(parts[1], entry, f"{name}.{key}") for key, entry in table.items()}
    if hint in _WORDS:
        return _plain(hint, value, name)
    return _named(hint, value, name) if issubclass(hint, StrEnum) else _inner(hint, value, name)


def finite(value: Any) -> Any:
    """Plain values for JSON, which has no infinity: the PSNR of equal pictures is written as `null`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def shown(value: object) -> str:
    """A value for a message, not longer than a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def in_words(names: Sequence[str]) -> str:
    """Names for a sentence, at least one: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


@cache
def _form(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    # Asked for with every value of a journal, of few types. `None` may stand anywhere in a union.
    return get_origin(hint), tuple(part for part in get_args(hint) if part is not NoneType)


@cache
def _required(kind: Any) -> frozenset[str]:
    return frozenset(
        entry.name for entry in fields(kind) if entry.default is MISSING and entry.default_factory is MISSING
    )


def _plain(hint: Any, value: Any, name: str) -> Any:
    kinds = _ALSO.get(hint, hint)
    is_wrong = not isinstance(value, kinds) or isinstance(value, bool) is not (hint is bool)
    if is_wrong or (hint is int and value < 0):
        raise ValueError(f"{name!r} is {shown(value)}, not {_WORDS[hint]}")
    # Half a pair, as of a file name that is no UTF-8, can stand in JSON but in no other file.
    return value.encode(errors="backslashreplace").decode() if hint is str else value


def _named(kind: type[StrEnum], value: object, name: str) -> StrEnum:
    if not isinstance(value, str) or value not in list(kind):
        raise ValueError(f"{name!r} is {shown(value)}, not one of {', '.join(kind)}")
    return kind(value)


def _inner(kind: type[Record], value: object, name: str) -> Record:
    try:
        return read_record(kind, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


_LONGEST = 60
# Plain values of ours that were never written hold tuples.
_ALSO: Mapping[Any, Any] = {float: (float, int), list: (list, tuple)}
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number from 0",
    float: "a number",
    str: "a text",
    list: "a list",
    Mapping: "a table",
}
