"""Opens the plug-ins that a spec names: backend, strategies, metrics and extractors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsens.core.errors import SpecError
from qsens.core.interfaces import Backend, Extractor, Metric, Strategy
from qsens.core.plugins import create, option_names
from qsens.core.precision import Precision
from qsens.core.schema import check_schema
from qsens.core.spec import SweepSpec
from qsens.core.start import StartingPoint
from qsens.scoring.extractors import load_extractors
from qsens.scoring.feature_session import user_cache_folder
from qsens.search.enumerations import Chain, StartingMap


def open_backend(spec: SweepSpec) -> Backend:
    """The backend of the spec; one that takes `threads` gets those of the spec.

    Raises:
        SpecError, PluginError: for an unknown name or option.
    """
    options = spec.backend_options.to_dict()
    if "threads" in options:
        check_schema({"threads": options["threads"]}, "spec", "the backend's options")
    backend: Backend = create("backends", spec.backend, options, offered={"threads": spec.threads})
    return backend


def open_strategy(spec: SweepSpec, start: StartingPoint | None = None) -> Strategy:
    """One strategy, or several joined by `+`: an option goes to each that knows it.

    With a `start` its map comes first.

    Raises:
        SpecError, PluginError: for an unknown name, or an option that no strategy knows.
    """
    wished = names_of_strategies(spec)
    options = spec.strategy_options.to_dict()
    known = {name: option_names("strategies", name) for name in wished}
    for option in options:
        if len(wished) > 1 and not any(option in taken for taken in known.values()):
            listed = "; ".join(f"{name}: {', '.join(taken)}" for name, taken in known.items())
            raise SpecError(
                f"no strategy of {spec.strategy!r} has an option {option!r}", f"options: {listed}"
            )
    members = [_open_one_strategy(name, spec, known[name], takes_all=len(wished) == 1) for name in wished]
    if start is not None:
        first = StartingMap(start, Precision(spec.float_precision))
        members = [first, *(member.starting_from(start) for member in members)]
    return members[0] if len(members) == 1 else Chain(members)


def names_of_strategies(spec: SweepSpec) -> list[str]:
    """The strategies that are joined by `+`."""
    return [name.strip() for name in spec.strategy.split("+")]


def _open_one_strategy(name: str, spec: SweepSpec, known: Sequence[str], *, takes_all: bool) -> Strategy:
    options = spec.strategy_options.to_dict()
    wanted = {key: value for key, value in options.items() if takes_all or key in known}
    offered = {"float_precision": spec.float_precision}
    if {"budget", "guard"} <= set(known):
        limits = {"budget": spec.budget or spec.delivery, "guard": spec.guard}
        wanted = {**{key: text for key, text in limits.items() if text is not None}, **wanted}
    strategy: Strategy = create("strategies", name, wanted, offered=offered)
    return strategy


def open_metrics(spec: SweepSpec) -> tuple[Metric, ...]:
    """The metrics of the spec; of the default ones, those that need real images only where there are any.

    Raises:
        SpecError: for a metric asked for by name that needs real images where there are none.
        PluginError: for an unknown name.
    """
    options = spec.metric_options.to_dict()
    _check_owners("metric", options, spec.metrics)
    metrics: list[Metric] = [create("metrics", name, options.get(name, {})) for name in spec.metrics]
    if spec.reference is not None:
        return tuple(metrics)
    without = [metric for metric in metrics if not metric.needs_reference]
    if spec.metrics != SweepSpec().metrics and len(without) < len(metrics):
        missing = next(metric.name for metric in metrics if metric.needs_reference)
        raise SpecError(
            f"metric {missing!r} compares with real images", "give a folder of them with --reference"
        )
    return tuple(without)


def _check_owners(kind: str, options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse options of a plug-in that the run does not have. Raises `SpecError`."""
    for name in options:
        if name not in names:
            raise SpecError(
                f"options for the {kind} {name!r}, which the run does not have", f"it has {', '.join(names)}"
            )


def open_extractor(spec: SweepSpec, metrics: Sequence[Metric]) -> Extractor | None:
    """The extractors of the spec side by side, weights fetched; `None` where no metric reads features."""
    if not any(metric.needs_features for metric in metrics):
        return None
    weights = None if spec.inception_weights is None else Path(spec.inception_weights)
    return load_extractors(
        spec.extractor,
        spec.extractor_options.to_dict(),
        inception_weights=weights,
        threads=spec.threads,
        cache=user_cache_folder(),
        download=True,
    )
