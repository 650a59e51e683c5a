"""A run folder opened again: its generator, its graph and the ranges its maps were scored with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx

from qsens.calibration.ranges import Ranges, load_ranges, ranges_digest
from qsens.calibration.recorded_calls import kept_calls
from qsens.core.errors import LoadError, QsensError, RunFolderError
from qsens.core.interfaces import Generator, SampleSet
from qsens.core.spec import SweepSpec
from qsens.core.trial import Provenance, Study
from qsens.engines.lowering.plan import LoweringPlan
from qsens.graph.graph import Graph
from qsens.repair.repair import Repair, load_repair
from qsens.repair.stages import recipe_digest, stages_of
from qsens.run.calibrated_graph import CalibratedGraph
from qsens.run.folder import check_file, read_provenance, read_run_spec, read_study
from qsens.run.looped import sampled
from qsens.run.open import (
    OpenedSweep,
    generator_of,
    graph_of,
    lowering_options,
    open_sweep,
    stated_shapes,
)
from qsens.run.paths import RunPaths
from qsens.run.target import recorded_graph

# What decides the graph that the same weights are exported as.
EXPORTING_LIBRARIES = ("torch", "onnxscript", "onnx", "qsens")


@dataclass(frozen=True, eq=False)
class ReopenedRun(CalibratedGraph):
    """A finished or stopped run, ready to lower any map again exactly as it was scored.

    The layers of its graph are those of the run's `layers.csv`. Its sample sets are needed when `evaluation`
    or `opened` is asked for, so that a run can be measured where they are not at hand.
    """

    path: Path
    study: Study
    provenance: Provenance
    generator: Generator
    repair: Repair
    trust_checkpoint: bool = False

    @cached_property
    def evaluation(self) -> SampleSet:
        """The samples that the run's maps were scored on.

        Raises:
            DataError: if they are not where the spec says.
            RunFolderError: if they are others than the run was scored on.
        """
        evaluation = sampled(self.spec, self.graph.model, stated_shapes(self.spec)).evaluation
        _check_contents(self.path, self.provenance, {"evaluation": evaluation.digest})
        return evaluation

    @property
    def feeds(self) -> SampleSet:
        """Samples that are feeds of the graph: those of `evaluation`, or the recorded calls of a loop.

        Raises:
            DataError, RunFolderError: as `evaluation`; where the calls are gone.
        """
        if not self.spec.loop:
            return self.evaluation
        calls = kept_calls(RunPaths(self.path).calls_path, RunPaths(self.path).call_arrays_path)
        if calls is None:
            raise RunFolderError(
                f"{RunPaths(self.path).call_arrays_path} is missing or damaged",
                "sweep again: the same command makes it anew",
            )
        return calls

    @cached_property
    def opened(self) -> OpenedSweep:
        """Everything the spec names, sets, metrics and backend too.

        Raises:
            SpecError, LoadError, DataError, PluginError: as `open_sweep`.
            RunFolderError: if anything is another than the run was made with.
        """
        opened = open_sweep(self.spec, trust_checkpoint=self.trust_checkpoint)
        _check_contents(self.path, self.provenance, opened.contents())
        return opened


def reopen_run(run: Path, *, trust_checkpoint: bool = False) -> ReopenedRun:
    """Open generator and graph from the run's spec, and its ranges from the folder; nothing is calibrated.

    Raises:
        RunFolderError: if it is no run, has not been calibrated yet, or the generator has changed.
        SpecError, LoadError: if the generator cannot be opened; a checkpoint that must be trusted says so.
        DataError: if the graph leaves sizes open and the calibration set that told them is gone.
    """
    study, spec, provenance = read_study(run), read_run_spec(run), read_provenance(run)
    generator = generator_of(spec, trust_checkpoint=trust_checkpoint)
    _check_contents(run, provenance, {"generator": generator.digest})
    model = generator.export()
    graph = _as_measured(_prepared(run, generator, model, spec), study)
    _check_graph(run, provenance, graph)
    graph = recorded_graph(graph, study.layers)
    if graph.layers != study.layers:
        raise RunFolderError(
            f"{RunPaths(run).layers_path} lists other layers than the generator has",
            "restore the file, or sweep again in a new folder",
        )
    calibrated = _ranges(run, spec, provenance)
    repair = _repair(run, spec, calibrated, provenance.contents.get("evaluation"))
    plan, ranges = repair.applied(LoweringPlan.of(graph), calibrated)
    options = lowering_options(spec)
    return ReopenedRun(
        path=run,
        spec=spec,
        study=replace(study, other_work=graph.other_work),
        provenance=provenance,
        generator=generator,
        plan=plan,
        ranges=ranges,
        repair=repair,
        options=options,
        trust_checkpoint=trust_checkpoint,
    )


def _prepared(run: Path, generator: Generator, model: onnx.ModelProto, spec: SweepSpec) -> Graph:
    """The run's graph, on samples where they are at hand, else on made-up inputs where it runs on them.

    In place of samples that cannot be had, or whose loop is code that may not be run, stand recorded calls.
    """
    try:
        samples = sampled(spec, model, stated_shapes(spec)).examples
    except QsensError as gone:
        calls = kept_calls(RunPaths(run).calls_path, RunPaths(run).call_arrays_path)
        if calls is not None:
            return graph_of(generator, model, spec, [calls.sample(0)])
        try:
            return graph_of(generator, model, spec)
        except LoadError:
            raise gone from None
    return graph_of(generator, model, spec, samples)


def _as_measured(graph: Graph, study: Study) -> Graph:
    """The graph with the run's MACs of layers whose sizes may follow values: those maps were chosen by."""
    measured = {layer.name: layer for layer in study.layers if layer.name in graph.observed}
    layers = [
        replace(
            layer,
            macs=measured[layer.name].macs,
            macs_torchprofile=measured[layer.name].macs_torchprofile,
            output_shape=measured[layer.name].output_shape,
        )
        if layer.name in measured
        else layer
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


def _ranges(run: Path, spec: SweepSpec, provenance: Provenance) -> Ranges:
    contents = provenance.contents
    samples = f"{contents.get('calibration', '')}/{spec.placement}"
    digest = ranges_digest(contents.get("graph", ""), samples, spec.range_method, spec.percentile)
    check_file(RunPaths(run), RunPaths(run).ranges_path)
    ranges = load_ranges(RunPaths(run).ranges_path, digest)
    if ranges is None:
        raise RunFolderError(
            f"{RunPaths(run).ranges_path} is missing, damaged or of another calibration",
            "let the sweep run: the same command takes the folder up and calibrates where that is needed",
        )
    return ranges


def _repair(run: Path, spec: SweepSpec, ranges: Ranges, evaluation: str | None) -> Repair:
    stages = stages_of(spec.stages_of_repair)
    if not stages:
        return Repair(recipe_digest(ranges, stages))
    check_file(RunPaths(run), RunPaths(run).repair_path)
    digests = [recipe_digest(ranges, stages, apart_from) for apart_from in (None, evaluation)]
    repair = load_repair(RunPaths(run).repair_path, digests)
    if repair is None:
        raise RunFolderError(
            f"{RunPaths(run).repair_path} is missing, damaged or of another calibration",
            "let the sweep run: the same command takes the folder up and repairs where that is needed",
        )
    return repair


def _check_graph(run: Path, provenance: Provenance, graph: Graph) -> None:
    """The same weights can be exported as another graph: then the exporter changed, and is named."""
    if provenance.contents.get("graph") == graph.digest:
        return
    changes = [
        f"{name}: {text} -> {now}"
        for name in EXPORTING_LIBRARIES
        if (text := provenance.versions.get(name)) != (now := _version(name))
    ]
    raise RunFolderError(
        f"the generator's weights are those of {run}, but its graph is another"
        + (f" ({', '.join(changes)})" if changes else ""),
        "install the versions that the run was made with, or sweep again in a new folder",
    )


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _check_contents(run: Path, provenance: Provenance, contents: Mapping[str, str]) -> None:
    """Refuse what is not what the run was made with."""
    changed = [name for name, text in contents.items() if provenance.contents.get(name) != text]
    if changed:
        raise RunFolderError(
            f"{_listed(changed)} changed since {run} was begun",
            "restore what the run was made with, or sweep again in a new folder",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"the {name}" for name in names)
