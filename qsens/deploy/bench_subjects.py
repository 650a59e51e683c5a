"""The subjects of a bench: maps of a run folder or the one map of a bundle, with inputs to run them on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from qsens.calibration.batches import InputCache
from qsens.core.errors import BuildError, DataError, LoadError, QsensError, RunFolderError, SpecError
from qsens.core.interfaces import Backend, Engine
from qsens.core.maps import anchor_trial, built_map, map_title
from qsens.core.metric_names import headline_metric
from qsens.core.plugins import with_defaults
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study, Trial
from qsens.device.audit import LayerAudit, audit_layers
from qsens.device.bench import BuiltEngine, Feeds, Subject, bundle_engine
from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError
from qsens.device.goldens import bundle_goldens, call_feed
from qsens.device.latency import MeasuredGraph
from qsens.engines.lowering.lowered_graph import LoweredGraph, asked_layers
from qsens.graph.graph import Graph
from qsens.run.paths import RunPaths
from qsens.run.reopen import ReopenedRun
from qsens.selection.choose import candidates_of, pareto_front
from qsens.selection.precision_map_file import read_precision_map

FLOATS = {Precision.FP32: "FP32", Precision.FP16: "FP16", Precision.INT8: "INT8"}
MIXED = "MIX"
Given = ParamSpec("Given")
Made = TypeVar("Made")


class Maps(StrEnum):
    """Choices of the maps to measure; each but `ANCHORS` adds the maps that it names to those."""

    ANCHORS = "anchors"
    CHOSEN = "chosen"
    FRONT = "front"
    ALL = "all"


@dataclass(frozen=True, eq=False)
class BenchInputs:
    """`feeds` gives the inputs of a batch size; `kind` says what they are."""

    feeds: Callable[[int], Feeds]
    kind: str


def trials_to_measure(run: Path, study: Study, maps: Maps, numbers: Sequence[int] = ()) -> dict[str, Trial]:
    """Trials by label, FP32 first, each built map once; `numbers` take the place of `maps`.

    `FP32`, `FP16` and `INT8` are the uniform maps, `MIX` is the map that `qsens select` chose.

    Raises:
        SpecError: for a trial that there is not, or that has no scores.
    """
    anchors = {label: anchor_trial(study, precision) for precision, label in FLOATS.items()}
    chosen = _chosen_trial(run, study)
    if numbers:
        wanted = [anchors["FP32"], *(_scored_trial(study, number) for number in numbers)]
    else:
        wanted = [*anchors.values(), *_more_trials(study, maps, chosen)]
    names = {trial.number: label for label, trial in anchors.items() if trial is not None}
    found: dict[PrecisionMap, Trial] = {}
    for trial in wanted:
        if trial is not None:
            found.setdefault(canonical_map(study, trial), trial)
    return {_label(study, trial, names, chosen): trial for trial in found.values()}


def canonical_map(study: Study, trial: Trial) -> PrecisionMap:
    """The map that was built in a trial, in the one form that equal assignments share."""
    return PrecisionMap.over(built_map(trial).assignment(layer.name for layer in study.layers))


def run_subjects(run: ReopenedRun, backend: Backend, trials: Mapping[str, Trial]) -> list[Subject]:
    """Each trial's map, lowered in the backend's flavour and built by it when its turn comes."""
    return [
        Subject(label, shape.to_json(), shape.digest, _builder(run, backend, shape))
        for label, trial in trials.items()
        for shape in (canonical_map(run.study, trial),)
    ]


def measured_graph(run: ReopenedRun) -> MeasuredGraph:
    """The generator that the run is of, as a latency file names it."""
    return MeasuredGraph(
        run.generator.name, run.graph.digest, tuple(layer.name for layer in run.study.layers)
    )


def run_inputs(run: ReopenedRun) -> BenchInputs:
    """Samples of the evaluation set that can share a batch, repeated where it is larger; else seeded noise.

    Raises, when a batch is asked for:
        SpecError: for a batch of a graph that fixes its own.
    """
    try:
        samples = run.feeds
    except (DataError, LoadError, RunFolderError):
        return BenchInputs(lambda batch: _noise(run.graph, batch, run.spec.seed), "seeded noise")
    cache = InputCache(samples, run.graph, 1)

    def feeds(batch: int) -> Feeds:
        _check_batch(run.graph, batch)
        return cache.filled(batch)

    return BenchInputs(feeds, "evaluation samples")


def bundle_subject(bundle: Bundle) -> tuple[Subject, BenchInputs, MeasuredGraph]:
    """The map of a bundle, whose files were checked, with its golden inputs.

    Raises:
        QsensError: for goldens that are not what the bundle says.
    """
    try:
        goldens = bundle_goldens(bundle)
    except DeviceError as error:
        raise QsensError(error.message, error.hint) from error
    document = bundle.document
    shape = PrecisionMap.from_json(document["map"]["deployed"])
    names = tuple(row.layer for row in bundle.asked)

    def feeds(batch: int) -> Feeds:
        return call_feed(bundle, goldens.inputs, batch)

    canonical = PrecisionMap.over(shape.assignment(names))
    subject = Subject(MIXED, canonical.to_json(), canonical.digest, lambda: bundle_engine(bundle))
    graph = MeasuredGraph(document["model"]["name"], document["model"]["graph"], names)
    return subject, BenchInputs(feeds, "golden inputs"), graph


def _chosen_trial(run: Path, study: Study) -> Trial | None:
    path = RunPaths(run).precision_map_path
    if not path.exists():
        return None
    document = read_precision_map(path).document
    if document["spec_digest"] != study.spec_digest:
        return None
    return next((trial for trial in study.scored() if trial.number == document["trial"]), None)


def _more_trials(study: Study, maps: Maps, chosen: Trial | None) -> list[Trial | None]:
    metric = headline_metric(study)
    more = {
        Maps.ANCHORS: (),
        Maps.CHOSEN: (chosen,),
        Maps.FRONT: (chosen, *pareto_front(study, metric)),
        Maps.ALL: (chosen, *candidates_of(study, metric)),
    }
    if maps is Maps.CHOSEN and chosen is None:
        raise SpecError(
            "no map has been chosen in this run", "choose one with: qsens select RUN --budget X --write"
        )
    return list(more[maps])


def _scored_trial(study: Study, number: int) -> Trial:
    found = next((trial for trial in study.scored() if trial.number == number), None)
    if found is None:
        raise SpecError(f"no scored trial has the number {number}", "qsens select RUN lists some")
    return found


def _label(study: Study, trial: Trial, names: Mapping[int, str], chosen: Trial | None) -> str:
    if trial.number in names:
        return names[trial.number]
    if trial is chosen:
        return MIXED
    return f"trial {trial.number}: {map_title(built_map(trial), study.layers)}"


def _builder(run: ReopenedRun, backend: Backend, shape: PrecisionMap) -> Callable[[], BuiltEngine]:
    def build() -> BuiltEngine:
        lowered = run.lower(shape, backend.flavour)
        return _built(backend.build(lowered), lowered, backend)

    return _said(build)


def _said(work: Callable[Given, Made]) -> Callable[Given, Made]:
    """The same work, whose `BuildError` is a `DeviceError`, as on any device."""

    def said(*given: Given.args, **named: Given.kwargs) -> Made:
        try:
            return work(*given, **named)
        except BuildError as error:
            raise DeviceError(error.message, error.hint) from error

    return said


def _built(engine: Engine, lowered: LoweredGraph, backend: Backend) -> BuiltEngine:
    engine = with_defaults(Engine, engine)
    device = engine.device_engine
    if device is None:
        return BuiltEngine(
            run=_said(engine.run),
            close=engine.close,
            audit=lambda: tuple(engine.audit),
            step_times_ms=lambda _feeds, _repeats: {},
            flavour=backend.flavour,
            runtime=backend.name,
            version="unknown",
            size_bytes=engine.size_bytes,
        )
    asked = asked_layers(lowered)

    def audit() -> Sequence[LayerAudit]:
        return audit_layers(asked, device.executed_layers())

    return BuiltEngine(
        run=device.run,
        close=engine.close,
        audit=audit,
        step_times_ms=device.step_times_ms,
        flavour=backend.flavour,
        runtime=device.runtime,
        version=device.version,
        size_bytes=device.size_bytes,
    )


def _check_batch(graph: Graph, batch: int) -> None:
    if batch > 1 and not graph.can_batch:
        raise SpecError(f"the graph fixes its batch size, so batch {batch} cannot run", "measure --batch 1")


def _noise(graph: Graph, batch: int, seed: int) -> Feeds:
    """Normal noise of the inputs' shapes, mean 0 and variance 1; zeros for inputs that are not float."""
    _check_batch(graph, batch)
    random, shapes = np.random.default_rng(seed), dict(graph.example_shapes)
    feeds = {}
    for entry in graph.inputs:
        shape = shapes[entry.name]
        full = (batch, *shape[1:]) if entry.is_batched else shape
        kind = np.dtype(entry.dtype)
        is_float = np.issubdtype(kind, np.floating)
        feeds[entry.name] = random.standard_normal(full).astype(kind) if is_float else np.zeros(full, kind)
    return feeds
