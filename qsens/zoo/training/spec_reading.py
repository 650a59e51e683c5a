"""Reads, completes, compares and writes training specs."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from qsens.core.errors import RunFolderError, SpecError
from qsens.core.schema import check_value
from qsens.device.errors import reason_of
from qsens.zoo.training.spec import (
    NO_EFFECT_ON_WEIGHTS,
    ExpertSpec,
    StudentSpec,
    TalkerSpec,
    TeacherSpec,
    TrainingSpec,
)
from qsens.zoo.training.spec_keys import path_keys, schema_of

SPEC_CLASSES: dict[str, type[TrainingSpec]] = {
    "talker": TalkerSpec,
    "expert": ExpertSpec,
    "teacher": TeacherSpec,
    "student": StudentSpec,
}


def read_training_spec(name: str, overrides: Mapping[str, Any]) -> TrainingSpec:
    """The spec in the TOML file `name`, or the shipped one of that name; `overrides` win.

    Relative paths in the file are relative to it, those in `overrides` to the working folder.

    Raises:
        SpecError: if there is no such spec, or naming the key that is unknown, missing or wrong.
    """
    where = name if Path(name).is_file() else f"the shipped spec {name!r}"
    return spec_from_values(merged_values(name, overrides), where)


def merged_values(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a spec, unchecked, with those of `overrides` that are given in their place.

    Raises:
        SpecError: if there is no such spec, or it is not TOML.
    """
    values = read_spec_values(name)
    given = {key: value for key, value in overrides.items() if value not in (None, ())}
    kind = {"kind": values["kind"]} if "kind" in values else {}
    return {**values, **absolute_paths({**kind, **given}, Path.cwd())}


def read_spec_values(name: str) -> dict[str, Any]:
    """Plain values of a spec file or a shipped spec, paths made absolute.

    Raises:
        SpecError: if there is no such spec, or it is not TOML.
    """
    file = Path(name)
    shipped = files("qsens.zoo") / "specs" / f"{name}.toml"
    if not file.is_file() and shipped.is_file():
        return _parsed(shipped.read_bytes(), f"the shipped spec {name!r}")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cannot read the spec {name}: {reason_of(error)}",
            f"give a TOML file, or one of the shipped specs: {', '.join(shipped_specs())}",
        ) from error
    return absolute_paths(_parsed(content, name), file.parent)


def shipped_specs() -> tuple[str, ...]:
    """Names of the specs that come with qsens."""
    entries = (files("qsens.zoo") / "specs").iterdir()
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))
    )


def spec_from_values(values: Mapping[str, Any], where: str) -> TrainingSpec:
    """A complete spec from plain values.

    Raises:
        SpecError: naming the key that is unknown, missing or wrong.
    """
    kind = values.get("kind")
    if kind not in SPEC_CLASSES:
        shown = "is missing" if kind is None else f"is {kind!r}"
        raise SpecError(f"{where}: 'kind' {shown}", f"use one of: {', '.join(SPEC_CLASSES)}")
    spec_class = SPEC_CLASSES[kind]
    check_value(dict(values), schema_of(spec_class), where)
    typed = {key: _typed(key, value, spec_class) for key, value in values.items()}
    spec = spec_class(**typed)
    check_folders(spec)
    return spec


def check_folders(spec: TrainingSpec) -> None:
    """Refuse a spec without the folders that training needs.

    Raises:
        SpecError: naming the folder that is missing.
    """
    if not spec.data:
        raise SpecError("no folder to train on", "give --data FOLDER, or data = ['FOLDER'] in the spec")
    if spec.out is None:
        raise SpecError("no folder for the result", "give --out FOLDER, or out = 'FOLDER' in the spec")
    roots = [*spec.data, *([spec.validation] if spec.validation else [])]
    for root in roots:
        if not root.is_dir():
            raise SpecError(
                f"the folder of clips {root} does not exist",
                "make one with `qsens zoo corpus` or `qsens zoo prepare`",
            )


def plain_values(spec: TrainingSpec) -> dict[str, Any]:
    """Every value of a spec as TOML can hold it; absent ones are left out."""
    pairs = ((entry.name, getattr(spec, entry.name)) for entry in dataclasses.fields(spec))
    return {name: _plain(value) for name, value in pairs if value is not None}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `key: old -> new` for every value that changes the weights."""
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in NO_EFFECT_ON_WEIGHTS]
    return [
        f"{key}: {_shown(old, key)} -> {_shown(new, key)}" for key in keys if old.get(key) != new.get(key)
    ]


def refuse_difference(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Keep a folder to the run that began in it.

    Raises:
        RunFolderError: with what differs.
    """
    found = differences(old, new)
    if found:
        raise RunFolderError(
            f"{folder} holds a run of another spec: {'; '.join(found)}",
            "give another --out, or the spec that the run began with",
        )


def absolute_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with paths made absolute, relative ones from `folder`; texts, as in the file."""
    spec_class = SPEC_CLASSES.get(str(values.get("kind")), TrainingSpec)
    result = dict(values)
    for key in path_keys(spec_class):
        value = values.get(key)
        if isinstance(value, str | Path):
            result[key] = _absolute(value, folder)
        elif isinstance(value, list | tuple):
            result[key] = [_absolute(entry, folder) for entry in value if isinstance(entry, str | Path)]
    return result


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(
            f"{where} is not TOML: {error}", "strings need quotes, lists need brackets"
        ) from error


def _absolute(value: str | Path, folder: Path) -> str:
    return (folder.absolute() / Path(value).expanduser()).resolve().as_posix()


def _typed(key: str, value: Any, spec_class: type[TrainingSpec]) -> Any:
    is_path = key in path_keys(spec_class)
    if isinstance(value, list | tuple):
        return tuple(map(Path, value)) if is_path else tuple(value)
    return Path(value) if is_path else value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value.as_posix() if isinstance(value, Path) else value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "absent"
