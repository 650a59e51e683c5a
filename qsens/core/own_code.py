"""A user's own metrics, strategies and extractors without packaging: by `module:Class`, or as an object."""

import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qsens.core.errors import PluginError, SpecError, name_hint

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# A spec's name of an object that only the process that was given it has.
LENT = "object:"
# What this process may import, by group: a file that is only read must not choose code (docs/trust.md).
_in_use: set[tuple[str, str]] = set()
_lent: ContextVar[Mapping[str, Any]] = ContextVar("lent", default=MappingProxyType({}))


def is_reference(text: str) -> bool:
    """True for `package.module:Class`."""
    return _REFERENCE.fullmatch(text) is not None


def use_own_code(group: str, *names: str) -> None:
    """Let plug-ins be named `module:name` from here on: a person typed them, or runs a spec that has them."""
    _in_use.update((group, name) for name in names if is_reference(name))


def own_plugin(group: str, name: str) -> Any:
    """The object that `package.module:name` names. Raises `SpecError` unless it was named for `group`."""
    if (group, name) not in _in_use:
        raise SpecError(
            f"{name!r} is code, and only a sweep, or what runs its maps again, runs code that a file names",
            "see docs/trust.md",
        )
    return object_named(name)


def object_named(text: str) -> Any:
    """The object that `package.module:name` names; the working folder is searched first.

    Raises:
        SpecError: naming the part that is wrong.
    """
    module_name, _, attribute = text.partition(":")
    if not module_name or not attribute:
        raise SpecError(f"not a factory: {text!r}", "write it as package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or module_name
        reason = str(error).partition("\n")[0]
        raise SpecError(
            f"cannot import {module_name!r}: {reason}",
            f"install the package that holds {missing!r}, or start qsens in the folder that holds it",
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = name_hint(part, dir(found), "check the spelling after the colon")
            raise SpecError(f"{module_name!r} has no {attribute!r}", hint)
        found = getattr(found, part)
    return found


@contextmanager
def lending(objects: Mapping[str, Any]) -> Iterator[None]:
    """Have these objects stand for their names in specs until the `with` block ends."""
    token = _lent.set({**_lent.get(), **objects})
    try:
        yield
    finally:
        _lent.reset(token)


def lent_object(name: str) -> Any:
    """The object that this name stands for. Raises `SpecError` where none was lent."""
    if name not in _lent.get():
        raise SpecError(
            f"{name!r} was given as an object from Python, which this process does not have",
            "go on from Python with the same object, or begin a new run with package.module:Class",
        )
    return _lent.get()[name]


def name_of_own(value: Any) -> tuple[str, Mapping[str, Any]]:
    """The name of an own class, function or object in a spec, and what has to be lent under it.

    What stands at the top of a module is named so that other processes find it; an object is lent.
    """
    if isinstance(value, str):
        return value, {}
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    text = f"{module}:{name}"
    if name and is_reference(text) and _is_found(text, value):
        return text, {}
    lent = f"{LENT}{name.rpartition('.')[2] or type(value).__name__}"
    return lent, {lent: value}


def _is_found(text: str, value: Any) -> bool:
    try:
        return object_named(text) is value
    except SpecError:
        return False


def failure_in_own_code(error: BaseException) -> PluginError | None:
    """The error to show for an exception from code that is no library's; `None` where it is ours.

    Of the traceback the message keeps the lines of the code that qsens called, from the first one on.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    packages = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in frames]
    if "qsens" not in packages:
        return None
    first = packages.index("qsens")
    own = [
        (frame, line)
        for (frame, line), package in zip(frames[first:], packages[first:], strict=True)
        if package != "qsens" and not _is_of_library(frame.f_code.co_filename)
    ]
    if not own:
        return None
    lines = "".join(traceback.StackSummary.extract(iter(own)).format()).rstrip()
    return PluginError(
        f"code of yours failed: {type(error).__name__}: {error}\n{lines}",
        "correct it and do the same again, trials that ended are kept; qsens --debug shows all lines",
    )


def _is_of_library(file: str) -> bool:
    # Code that a library made: a frozen module, a dataclass's own methods.
    if file.startswith(("<frozen", "<string", "<__")):
        return True
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    is_installed = any(Path(file).is_relative_to(place) for place in places)
    return is_installed or "site-packages" in Path(file).parts
