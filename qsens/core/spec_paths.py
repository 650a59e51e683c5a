"""Values of a spec that are paths: which they are, made absolute, and written so that a project can move."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PATH_FIELDS = frozenset(
    {"checkpoint", "inception_weights", "extractor", "calibration", "evaluation", "reference", "start_from"}
)
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_path(key: str, text: str) -> bool:
    """True where the value of a spec key is a path, not `noise`, `package.module:factory` or a plug-in."""
    if key == "extractor":
        return text.endswith(".onnx")
    if key.startswith("extractor_options."):
        return key.endswith(".weights")
    return key in PATH_FIELDS and text != "noise" and _FACTORY.fullmatch(text) is None


def without_folders(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec by key, paths by their last part."""
    return with_paths(values, lambda path: path.name)


def with_paths(values: Mapping[str, Any], change: Callable[[Path], str]) -> dict[str, Any]:
    """The values of a spec by key, each path as `change` writes it, those of lists too."""

    def changed(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: changed(f"{key}.{name}", entry) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [changed(key, entry) for entry in value]
        return change(Path(value)) if is_path(key, value) else value

    holders = (*PATH_FIELDS, "extractor_options")
    return {key: changed(key, value) if key in holders else value for key, value in values.items()}


def with_absolute_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with every path made absolute, relative ones from `folder`."""
    return with_paths(values, lambda path: _normalized(folder.absolute() / path.expanduser()).as_posix())


def _normalized(path: Path) -> Path:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts[1:] = parts[1:-1]
        else:
            parts.append(part)
    return Path(*parts)


def portable_path(path: Path, folder: Path) -> str:
    """A path relative to `folder`, where it is in that, or both are below the working folder."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    here = Path.cwd()
    if not (path.is_relative_to(here) and folder.is_relative_to(here)):
        return path.as_posix()
    shared = 0
    for one, other in zip(path.parts, folder.parts, strict=False):
        if one != other:
            break
        shared += 1
    return Path(*[".."] * (len(folder.parts) - shared), *path.parts[shared:]).as_posix()
