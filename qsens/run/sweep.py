"""The wiring: from a spec to live objects, calibrated ranges, a running sweep and a plan of its cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from qsens.calibration.measure import Observer, measure_ranges, reference_features
from qsens.calibration.real_images import RealImages, open_real_images
from qsens.calibration.sweep_sets import open_sweep_sets, shapes_of_sample
from qsens.checks import check_annotations, check_before_calibrating, check_shapes
from qsens.core.interfaces import (
    Backend,
    Extractor,
    Generator,
    InputSpec,
    Metric,
    OutputRule,
    Progress,
    SampleSet,
    ScoringContext,
    Strategy,
)
from qsens.core.precision import PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Study
from qsens.decisions import decisions_of, write_decisions
from qsens.device.npz_sizes import read_arrays
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, Placement, WeightScales
from qsens.execution.runner import InProcess, TrialRunner
from qsens.graph.graph import Graph
from qsens.graph.inputs import free_inputs, graph_inputs
from qsens.graph.prepare import prepare_graph
from qsens.layer_order import in_blocks, in_order
from qsens.metrics.collected import sample_size_warning
from qsens.run.evaluate import Evaluator, Workload
from qsens.run.evidence import is_pictures
from qsens.run.folder import RunFolder, RunPaths
from qsens.run.loop import StoppedError, pin_layers, plan_without_scores, run_sweep_on
from qsens.run.open import open_backend, open_extractor, open_generator, open_metrics, open_strategy
from qsens.scoring.pictures import picture_warning


@dataclass(frozen=True, eq=False)
class Assembled:
    """What a spec stands for, opened and checked; nothing has been calibrated or scored."""

    spec: SweepSpec
    generator: Generator
    graph: Graph
    calibration: SampleSet
    evaluation: SampleSet
    backend: Backend
    strategy: Strategy
    metrics: tuple[Metric, ...]
    extractor: Extractor | None
    reference: RealImages | None

    def contents(self) -> dict[str, str]:
        """Digests of everything a score depends on, by name, for the provenance of the run."""
        found = {
            "generator": self.generator.digest,
            "graph": self.graph.digest,
            "calibration": self.calibration.digest,
            "evaluation": self.evaluation.digest,
        }
        if self.extractor is not None:
            found["extractor"] = self.extractor.identity
        if self.reference is not None:
            found["reference"] = self.reference.digest
        return found


def load_graph(generator: Generator, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """Export the generator and prepare its graph. Raises `LoadError` or `SpecError`."""
    graph = prepare_graph(generator.export(), input_shapes=_as_tuples(input_shapes))
    return replace(graph, layers=in_blocks(graph.layers, generator))


def assemble(spec: SweepSpec, *, trust_checkpoint: bool = False) -> Assembled:
    """Open everything a spec names, and check that it fits together.

    Raises:
        SpecError, LoadError, DataError, PluginError: with what is wrong and what to do.
    """
    generator = open_generator(
        None if spec.checkpoint is None else Path(spec.checkpoint),
        spec.model,
        {
            **spec.model_options.to_dict(),
            **({"input_shapes": dict(spec.input_shapes)} if spec.input_shapes else {}),
            **({"trust_checkpoint": True} if trust_checkpoint else {}),
        },
    )
    model = generator.export()
    inputs = graph_inputs(model)
    calibration, evaluation = open_sweep_sets(spec, inputs)
    shapes = dict(spec.input_shapes)
    if free := free_inputs(inputs):
        of_sample = shapes_of_sample(calibration, inputs)
        check_shapes(shapes, {name: of_sample[name] for name in free if name in of_sample})
        shapes = {**of_sample, **shapes}
    graph = prepare_graph(model, input_shapes=_as_tuples(shapes) or None)
    layers = in_order(in_blocks(graph.layers, generator), generator, spec.layer_order)
    graph = replace(graph, layers=pin_layers(layers, spec.pinned))
    if spec.output == OutputRule():
        spec = replace(spec, output=getattr(generator, "output", spec.output))
    reference = None if spec.reference is None else _open_reference(Path(spec.reference), spec, inputs)
    metrics = open_metrics(spec)
    strategy = open_strategy(spec)
    check_before_calibrating(spec, graph, strategy, metrics)
    check_annotations(metrics, evaluation)
    extractor = open_extractor(spec, metrics)
    if extractor is not None:
        # The run folder keeps what `auto` stood for, so that a resumed run cannot take another extractor.
        spec = replace(spec, extractor=extractor.name)
    return Assembled(
        spec=spec,
        generator=generator,
        graph=graph,
        calibration=calibration,
        evaluation=evaluation,
        backend=open_backend(spec),
        strategy=strategy,
        metrics=metrics,
        extractor=extractor,
        reference=reference,
    )


def _open_reference(folder: Path, spec: SweepSpec, inputs: Sequence[InputSpec]) -> RealImages:
    return open_real_images(folder, inputs, largest_megapixels=spec.largest_picture_megapixels)


RunnerFactory = Callable[[Assembled, RunFolder], TrialRunner]


def sweep(
    assembled: Assembled,
    out: Path,
    *,
    progress: Progress,
    warn: Callable[[str], None] | None = None,
    runner: RunnerFactory | None = None,
) -> Study:
    """Run or resume the sweep of a spec in the run folder `out`.

    `warn` is called with a line for each library version that changed since the run began. `runner` makes
    what evaluates the maps, for example `qsens.run.workers.runner_on(pool)`; `None` is this process.

    Raises:
        RunFolderError: if the folder is in use, was made with another spec or from other files.
        WorkersGoneError: if the workers of `runner` are lost; the folder can be resumed without them.
        StoppedError: after Ctrl-C; the folder can be resumed.
    """
    with RunFolder.open(out, assembled.spec) as folder, linear_algebra_threads(assembled.spec.threads):
        folder.write_layers(assembled.graph.layers)
        for line in folder.record_provenance(assembled.contents()):
            if warn is not None:
                warn(line)
        study = run_sweep_on(
            assembled.graph.layers,
            strategy=assembled.strategy,
            runner=_runner(assembled, folder, progress, runner),
            journal=folder.journal,
            progress=progress,
        )
        decisions = decisions_of(assembled.strategy, study.layers, study.trials)
        write_decisions(folder.decisions_path, decisions)
        return study


def linear_algebra_threads(threads: int) -> threadpool_limits:
    """Limit what numpy and scipy use from here on, or within `with`; 0 changes nothing.

    The last digits of eigenvalues depend on the number of threads. Libraries that are loaded later are
    not limited.
    """
    return threadpool_limits(limits=threads or None, user_api="blas")


def _runner(
    assembled: Assembled, folder: RunFolder, progress: Progress, factory: RunnerFactory | None
) -> TrialRunner:
    trials = folder.journal.trials
    try:
        workload = workload_of(assembled, folder, progress)
        if factory is not None:
            return factory(assembled, folder)
        return InProcess(
            Evaluator(
                workload, evidence=folder.evidence, samples=folder.samples, fp32=next(iter(trials), None)
            )
        )
    except KeyboardInterrupt:
        done = f"all {len(trials)} maps so far are saved" if trials else "before the first map"
        raise StoppedError(
            f"stopped while calibrating, {done}", "the same command goes on where this one stopped"
        ) from None


def workload_of(assembled: Assembled, folder: RunPaths, progress: Progress) -> Workload:
    """Calibrate (or read the ranges of an earlier run) and put together what every map is scored on."""
    spec = assembled.spec
    plan = LoweringPlan.of(assembled.graph)
    options = lowering_options(spec)
    ranges = measure_ranges(
        Observer(plan, options.placement, spec.threads),
        assembled.calibration,
        spec,
        path=folder.ranges_path,
        progress=progress,
    )
    features = None
    if assembled.reference is not None and assembled.extractor is not None:
        features = reference_features(
            assembled.reference,
            assembled.extractor,
            path=folder.evidence / "reference-features.npz",
            progress=progress,
        )
    return Workload(
        plan=plan,
        ranges=ranges,
        options=options,
        backend=assembled.backend,
        samples=assembled.evaluation,
        output=spec.output,
        metrics=assembled.metrics,
        context=scoring_context(assembled, features),
        batch_size=spec.batch_size,
        screen_samples=spec.screen_samples,
        expected=_expected_maps(assembled),
    )


def _expected_maps(assembled: Assembled) -> tuple[PrecisionMap, ...]:
    """The maps that the sweep will evaluate, in order, as far as they do not depend on scores."""
    plan = plan_without_scores(assembled.graph.layers, assembled.strategy)
    return () if plan is None else (*plan.maps, *plan.screens)


def lowering_options(spec: SweepSpec) -> LoweringOptions:
    """The part of a spec that lowering reads."""
    return LoweringOptions(Placement(spec.placement), WeightScales(spec.weight_scales))


def scoring_context(assembled: Assembled, features: np.ndarray[Any, np.dtype[Any]] | None) -> ScoringContext:
    """What every map of the run is scored against."""
    evaluation = assembled.evaluation
    clusters = None
    if evaluation.clusters is not None:
        clusters = np.unique(evaluation.clusters, return_inverse=True)[1]
    return ScoringContext(
        images=len(evaluation),
        extractor=assembled.extractor,
        baseline_features=None,
        reference_features=features,
        reference_digest=None if assembled.reference is None else assembled.reference.digest,
        evaluation_digest=evaluation.digest,
        clusters=clusters,
        samples=evaluation,
    )


def _as_tuples(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]] | None:
    return None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()}


def shown_pictures_warning(out: Path) -> str | None:
    """What looks wrong with the FP32 pictures that the run folder shows; `None` where nothing does."""
    try:
        images = read_arrays(RunPaths(out).samples / "trial-0000.npz", ("images",))["images"]
    except (OSError, ValueError):
        return None
    return picture_warning(images) if is_pictures(images) else None


def sample_warnings(assembled: Assembled) -> list[str]:
    """Sentences about samples that are too few for what is measured on them."""
    found = []
    total, few = len(assembled.evaluation), assembled.spec.screen_samples
    if assembled.extractor is not None:
        found.append(sample_size_warning(total, assembled.extractor))
    members = getattr(assembled.strategy, "members", (assembled.strategy,))
    if total <= few and any(hasattr(member, "explain_search") for member in members):
        found.append(f"screens of {few} samples would be no smaller than the {total} there are: none is made")
    return [line for line in found if line is not None]
