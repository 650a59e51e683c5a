"""Keys of training specs: each dataclass field holds its default and the JSON schema of its value."""

from dataclasses import MISSING, field, fields
from typing import Any


def number(text: str, default: float, **bounds: Any) -> Any:
    """A key whose value is a number within JSON-schema bounds."""
    return _key(text, default, type="number", **bounds)


def whole(text: str, default: int, **bounds: Any) -> Any:
    """A key whose value is a whole number within JSON-schema bounds."""
    return _key(text, default, type="integer", **bounds)


def optional_number(text: str, **bounds: Any) -> Any:
    """A number that may be absent."""
    return _key(text, None, type="number", **bounds)


def flag(text: str, *, default: bool) -> Any:
    """True or false."""
    return _key(text, default, type="boolean")


def choice(text: str, default: str, options: tuple[str, ...]) -> Any:
    """One of a few words; the first listed is not special, `default` is."""
    return _key(f"{text}: {', '.join(options)}", default, enum=list(options))


def word(text: str, default: str) -> Any:
    """A text."""
    return _key(text, default, type="string", minLength=1)


def location(text: str) -> Any:
    """A path that may be absent; relative ones are relative to the spec file."""
    return _key(text, None, is_path=True, type="string", minLength=1)


def pair(text: str, default: tuple[float, float]) -> Any:
    """Two numbers."""
    return _key(text, default, type="array", items={"type": "number"}, minItems=2, maxItems=2)


def locations(text: str) -> Any:
    """Several paths, or none."""
    items = {"type": "string", "minLength": 1}
    return _key(text, (), is_path=True, type="array", items=items)


def schema_of(spec_class: type) -> dict[str, Any]:
    """The JSON schema of a spec file that describes one `spec_class`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": spec_class.__doc__,
        "type": "object",
        "properties": {entry.name: _schema(entry) for entry in fields(spec_class)},
        "required": [entry.name for entry in fields(spec_class) if entry.default is MISSING],
        "additionalProperties": False,
    }


def path_keys(spec_class: type) -> tuple[str, ...]:
    """Keys whose values are paths."""
    return tuple(entry.name for entry in fields(spec_class) if entry.metadata.get("is_path"))


def _key(text: str, default: Any, *, is_path: bool = False, **schema: Any) -> Any:
    return field(default=default, metadata={"schema": {"description": text, **schema}, "is_path": is_path})


def _schema(entry: Any) -> dict[str, Any]:
    schema: dict[str, Any] = entry.metadata.get("schema", {"type": "string"})
    return schema
