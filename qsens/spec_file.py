"""Reads, merges and writes `spec.toml`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsens import __version__
from qsens.core.errors import SpecError
from qsens.core.files import write_atomically
from qsens.core.schema import check_schema, parse_toml
from qsens.core.spec import PATH_FIELDS, SweepSpec, is_path
from qsens.device.errors import reason_of
from qsens.device.special_files import read_file
from qsens.device.visible_text import visible_name

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_spec(path: Path) -> SweepSpec:
    """The spec in a TOML file; its relative paths are relative to the file.

    Raises:
        SpecError: if the file cannot be read, or naming the key that is unknown or wrong.
    """
    return SweepSpec.from_mapping(read_spec_values(path))


def read_spec_values(path: Path) -> dict[str, Any]:
    """The checked values that a TOML file sets, without defaults, paths made absolute."""
    try:
        values = parse_toml(read_file(path))
    except OSError as error:
        raise SpecError(
            f"cannot read the spec {path}: {reason_of(error)}", "give the path of a TOML file"
        ) from error
    except ValueError as error:
        raise SpecError(
            f"{path} is not TOML: {error}",
            "strings need quotes, lists need brackets, the text is UTF-8",
        ) from error
    check_schema(values, "spec", str(path))
    absolute = with_absolute_paths(values, path.parent)
    _check_texts(absolute, str(path))
    return absolute


def spec_from_values(
    values: Mapping[str, Any], where: str, base: Mapping[str, Any] | None = None
) -> SweepSpec:
    """A spec from plain values laid over `base` (tables are merged key by key; `values` win).

    Relative paths are relative to the working folder. `where` names the source of `values` in errors.

    Raises:
        SpecError: naming the key that is unknown or wrong.
    """
    check_schema(values, "spec", where)
    absolute = with_absolute_paths(values, Path.cwd())
    _check_texts(absolute, where)
    return SweepSpec.from_mapping(merge_values(base or {}, absolute))


def merge_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` laid over `base`, tables merged key by key."""
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge_values(below, value)
        else:
            merged[key] = value
    return merged


def with_absolute_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with every path made absolute, relative ones from `folder`."""
    absolute = dict(values)
    for key in PATH_FIELDS & absolute.keys():
        if is_path(key, absolute[key]):
            joined = folder.absolute() / Path(absolute[key]).expanduser()
            absolute[key] = _normalized(joined).as_posix()
    return absolute


def write_spec(path: Path, spec: SweepSpec) -> None:
    """Write every value, defaults included; keys without a value are named in a comment.

    Paths below the working folder are written relative to the file, so that a project can be moved.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    import tomli_w  # only needed where a run begins

    values = spec.to_mapping()
    for key in PATH_FIELDS & values.keys():
        if is_path(key, values[key]):
            values[key] = _portable(Path(values[key]), path.parent.absolute())
    absent = [name for name in SweepSpec.__dataclass_fields__ if name not in values]
    header = f"# Written by qsens {__version__}. Not set: {', '.join(absent) or 'nothing'}.\n"
    write_atomically(path, (header + tomli_w.dumps(values)).encode())


def _check_texts(values: Any, where: str) -> None:
    """Raise `SpecError` for a text that a TOML file cannot hold, or that no path can be."""
    if isinstance(values, Mapping | list | tuple):
        for entry in (*values.keys(), *values.values()) if isinstance(values, Mapping) else values:
            _check_texts(entry, where)
    elif isinstance(values, str) and _NO_TEXT.search(values):
        fault = "holds a NUL" if "\0" in values else "is no UTF-8"
        raise SpecError(f"{where}: {visible_name(values)} {fault}", "rename it, or give a link to it")


def _normalized(path: Path) -> Path:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts[1:] = parts[1:-1]
        else:
            parts.append(part)
    return Path(*parts)


def _portable(path: Path, folder: Path) -> str:
    here = Path.cwd()
    if not (path.is_relative_to(here) and folder.is_relative_to(here)):
        return path.as_posix()
    shared = 0
    for one, other in zip(path.parts, folder.parts, strict=False):
        if one != other:
            break
        shared += 1
    return Path(*[".."] * (len(folder.parts) - shared), *path.parts[shared:]).as_posix()
