"""Opens what a spec names: generator, backend, strategy, metrics and extractor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsens.core.errors import SpecError
from qsens.core.interfaces import Backend, Extractor, Generator, Metric, Strategy
from qsens.core.plugins import create, option_names
from qsens.core.schema import check_schema
from qsens.core.spec import SweepSpec
from qsens.scoring.extractors import default_extractor_name, load_extractor, user_cache_folder
from qsens.strategies.chain import Chain

_BY_SUFFIX = {".onnx": "onnx", ".pt2": "exported-program"}
_SHARED_OPTIONS = frozenset({"input_shapes", "trust_checkpoint"})


def open_generator(
    checkpoint: Path | None, model: str | None, options: Mapping[str, Any] | None = None
) -> Generator:
    """Open a generator: by plug-in name, as `package.module:factory`, or by the file's suffix.

    Raises:
        SpecError: for an unknown plug-in or option, or a file whose kind is not known.
        LoadError: for a file that cannot be read.
    """
    options = dict(options or {})
    if model is None:
        if checkpoint is None:
            raise SpecError("no generator", "give a CHECKPOINT, or --model NAME")
        model = _BY_SUFFIX.get(checkpoint.suffix.lower())
        if model is None:
            raise SpecError(
                f"{checkpoint.name}: which network these weights belong to is not known",
                "add --model package.module:factory, or give an .onnx or .pt2 file",
            )
    elif ":" in model:
        options["factory"], model = model, "torch"
    allowed = option_names("generators", model, positional=1)
    # Flags that every generator accepts are dropped where a plug-in has no use for them.
    wanted = {key: value for key, value in options.items() if key in allowed or key not in _SHARED_OPTIONS}
    generator: Generator = create("generators", model, wanted, checkpoint)
    return generator


def open_backend(spec: SweepSpec) -> Backend:
    """The backend of the spec; one that takes `threads` gets those of the spec.

    Raises:
        SpecError, PluginError: for an unknown name or option.
    """
    options = spec.backend_options.to_dict()
    if "threads" in option_names("backends", spec.backend):
        options.setdefault("threads", spec.threads)
        check_schema({"threads": options["threads"]}, "spec", "the backend's options")
    backend: Backend = create("backends", spec.backend, options)
    return backend


def open_strategy(spec: SweepSpec) -> Strategy:
    """One strategy, or several joined by `+`: an option goes to each that knows it.

    Raises:
        SpecError, PluginError: for an unknown name, or an option that no strategy knows.
    """
    wished = [name.strip() for name in spec.strategy.split("+")]
    options = spec.strategy_options.to_dict()
    known = {name: option_names("strategies", name) for name in wished}
    for option in options:
        if len(wished) > 1 and not any(option in taken for taken in known.values()):
            listed = "; ".join(f"{name}: {', '.join(taken)}" for name, taken in known.items())
            raise SpecError(
                f"no strategy of {spec.strategy!r} has an option {option!r}", f"options: {listed}"
            )
    members = [_open_one_strategy(name, spec, known[name], takes_all=len(wished) == 1) for name in wished]
    return members[0] if len(members) == 1 else Chain(members)


def _open_one_strategy(name: str, spec: SweepSpec, known: Sequence[str], *, takes_all: bool) -> Strategy:
    options = spec.strategy_options.to_dict()
    wanted = {key: value for key, value in options.items() if takes_all or key in known}
    if "float_precision" in known:
        wanted.setdefault("float_precision", spec.float_precision)
    if {"budget", "guard"} <= set(known):
        limits = {"budget": spec.budget, "guard": spec.guard}
        wanted = {**{key: text for key, text in limits.items() if text is not None}, **wanted}
    strategy: Strategy = create("strategies", name, wanted)
    return strategy


def open_metrics(spec: SweepSpec) -> tuple[Metric, ...]:
    """The metrics of the spec; of the default ones, those that need real images only where there are any.

    Raises:
        SpecError: for a metric asked for by name that needs real images where there are none.
        PluginError: for an unknown name.
    """
    metrics: list[Metric] = [create("metrics", name, {}) for name in spec.metrics]
    if spec.reference is not None:
        return tuple(metrics)
    without = [metric for metric in metrics if not metric.needs_reference]
    if spec.metrics != SweepSpec().metrics and len(without) < len(metrics):
        missing = next(metric.name for metric in metrics if metric.needs_reference)
        raise SpecError(
            f"metric {missing!r} compares with real images", "give a folder of them with --reference"
        )
    return tuple(without)


def open_extractor(spec: SweepSpec, metrics: Sequence[Metric]) -> Extractor | None:
    """The extractor of the spec, its weights fetched if need be; `None` where no metric reads features."""
    if not any(metric.needs_features for metric in metrics):
        return None
    weights = None if spec.inception_weights is None else Path(spec.inception_weights)
    name = default_extractor_name(weights) if spec.extractor == "auto" else spec.extractor
    return load_extractor(
        name, inception_weights=weights, threads=spec.threads, cache=user_cache_folder(), download=True
    )
