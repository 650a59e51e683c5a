"""The wiring: from a spec to live objects, calibrated ranges, a running sweep and a plan of its cost."""

from collections.abc import Callable
from pathlib import Path

from qsens.calibration.measure import measure_ranges
from qsens.core.interfaces import (
    Progress,
)
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Study
from qsens.device.npz_sizes import read_arrays
from qsens.engines.lowering.plan import LoweringPlan
from qsens.run.evaluate import Evaluator
from qsens.run.evidence import is_pictures, reference_features
from qsens.run.folder import RunFolder, RunPaths, decisions_of, write_decisions
from qsens.run.in_order import InProcess, TrialRunner
from qsens.run.loop import StoppedError, plan_without_scores, run_sweep_on
from qsens.run.open import (
    Assembled,
    linear_algebra_threads,
    lowering_options,
    scoring_context,
)
from qsens.run.stages import Workload
from qsens.scoring.pictures import picture_warning

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
        plan.observer(options.placement, spec.threads),
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


def shown_pictures_warning(out: Path) -> str | None:
    """What looks wrong with the FP32 pictures that the run folder shows; `None` where nothing does."""
    try:
        images = read_arrays(RunPaths(out).samples / "trial-0000.npz", ("images",))["images"]
    except (OSError, ValueError):
        return None
    return picture_warning(images) if is_pictures(images) else None
