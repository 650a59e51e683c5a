"""The journey, told once: sweep a generator, choose a map, write it down, write the report, ship a bundle.

The command line, the demos, the zoo and the functions of `qsens.python` all come through here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qsens.calibration.shared_samples import read_shared_samples
from qsens.core.errors import BudgetError, SpecError
from qsens.core.interfaces import Decision, Hear, Progress, unheard
from qsens.core.maps import anchor_trial, int8_share, map_to_ship
from qsens.core.metric_names import headline_metric
from qsens.core.precision import Precision
from qsens.core.spec import SweepSpec
from qsens.core.targets import Target, declared_targets, target_named
from qsens.core.trial import Study, Trial
from qsens.deploy.bundle import ExportedBundle, ExportOptions, export_bundle
from qsens.deploy.chosen_map import chosen_maps
from qsens.deploy.verify import checked_files, verify_engine
from qsens.device.check import BundleReport
from qsens.repair.repair import kept_stages, summary_of
from qsens.report.write import make_report
from qsens.run.calibrated_graph import calibrated_graph
from qsens.run.checked_ranges import checked_workload
from qsens.run.choice import Aim, choice_document, choose_map_of_run
from qsens.run.connections import keep_connections
from qsens.run.decisions import decisions_of, read_decisions, write_decisions
from qsens.run.evaluate import RunnerFactory, runner_of, stoppable_calibration
from qsens.run.evidence import shown_pictures_warning
from qsens.run.finalists import score_finalists
from qsens.run.folder import RunFolder, read_run_spec, spec_for_folder
from qsens.run.loop import StoppedError, expecting, try_maps
from qsens.run.open import (
    OpenedSweep,
    linear_algebra_threads,
    open_sweep,
)
from qsens.run.open_plugins import open_strategy
from qsens.run.opening_notes import opening_notes
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run
from qsens.run.score_yardsticks import YardstickScorer
from qsens.run.scored_layers import unscored_notes
from qsens.run.start import check_start, keep_start, start_of_sweep
from qsens.run.step_errors import write_step_errors
from qsens.run.target import Survival, fitted_to_target, survivals, target_notes
from qsens.run.without_repair import score_without_repair
from qsens.run.worker_pools import WorkerPool
from qsens.run.workers import runner_on, with_fixed_threads
from qsens.run.yardsticks import wanted_alterations
from qsens.selection.budget import Budget, parse_guard, stated_or_default
from qsens.selection.choose import Selection, has_scored, limits_of
from qsens.selection.precision_map_file import write_document
from qsens.selection.starting_map import start_text


@dataclass(frozen=True)
class FinishedRun:
    """A run whose report is written. `failure` says why there is no selection though there is a budget.

    `search_end` is how a search ended, where the strategy tells; `None` where it does not search.
    `survivals` say of a run for no target what each target would leave of the chosen map, else of INT8
    everywhere. `start` says what still holds of the map that the run started from, if it did.
    """

    study: Study
    spec: SweepSpec
    folder: Path
    report: Path
    selection: Selection | None
    failure: BudgetError | SpecError | None
    search_end: Decision | None = None
    survivals: tuple[Survival, ...] = ()
    start: str | None = None


def _show_nothing(done: int, total: int, label: str) -> None:
    """A `Progress` for callers that look at nothing."""


def sweep(
    spec: SweepSpec,
    out: Path,
    *,
    trust_checkpoint: bool = False,
    pool: WorkerPool | None = None,
    progress: Progress = _show_nothing,
    hear: Hear = unheard,
) -> FinishedRun:
    """The whole journey of a spec in the run folder `out`; the same call resumes it.

    Maps are scored by the workers of `pool`, here where there is none. `hear` is told notes, warnings
    and what takes long, a line each.

    Raises:
        QsensError: with what is wrong and what to do; trials that ended are in the folder.
        StoppedError: after a signal to stop; the same call goes on.
    """
    wished = spec_for_folder(spec, out)
    hear(f"Opening {spec.checkpoint or spec.model}, for {out}")
    job = _opened(wished, out, pool, trust_checkpoint=trust_checkpoint)
    for line in (*opening_notes(job), *_resuming_notes(spec, job)):
        hear(line)
    runner = None if pool is None else runner_on(pool, trust_checkpoint=trust_checkpoint, hear=hear)
    study = score_maps(job, out, progress=progress, hear=hear, runner=runner)
    if (warning := shown_pictures_warning(RunPaths(out).samples)) is not None:
        hear(f"Warning: {warning}")

    def compare(chosen: Selection | None) -> None:
        _follow_loop(job, study, None if chosen is None else chosen.trial, out)
        if not job.spec.compares_repair:
            return
        if study.repair is None or not study.repair.is_taken:
            hear("Note: repair changed nothing, so that there is nothing to compare")
            return
        score_without_repair(job, out, None if chosen is None else chosen.trial.requested, progress)

    hear("Choosing a map and writing the report")
    finished = finish_run(study, job.spec, out, compare)
    return replace(finished, survivals=_survivals(job, finished, hear), start=_start_text(job, finished))


def _opened(spec: SweepSpec, out: Path, pool: WorkerPool | None, *, trust_checkpoint: bool) -> OpenedSweep:
    start = start_of_sweep(spec, out)
    job = open_sweep(
        spec if pool is None else with_fixed_threads(spec), trust_checkpoint=trust_checkpoint, start=start
    )
    check_start(start, job.graph.layers)
    return job


def _follow_loop(job: OpenedSweep, study: Study, chosen: Trial | None, out: Path) -> None:
    """Keep how the damage of INT8 and of the chosen map grows along the loop, where there is one."""
    if job.spec.loop:
        paths = RunPaths(out)
        calibrated = calibrated_graph(job, paths, _show_nothing)
        write_step_errors(job, calibrated, study, chosen, paths.step_errors_path)


def _resuming_notes(asked: SweepSpec, job: OpenedSweep) -> list[str]:
    notes = []
    if asked.repair != job.spec.repair:
        begun = "this run was begun without repair, and goes on without"
        notes.append(f"Note: {begun}; a new folder (--out) has it")
    if asked.strategy != job.spec.strategy:
        begun = f"this run was begun with strategy {job.spec.strategy}, and goes on with it"
        notes.append(f"Note: {begun}; a new folder (--out) has {asked.strategy}")
    return notes


def _start_text(job: OpenedSweep, finished: FinishedRun) -> str | None:
    """Whether the map that a run started from still holds, where it started from one."""
    if job.start is None:
        return None
    study, spec, selection = finished.study, job.spec, finished.selection
    if selection is not None:
        limits = selection.limits
    else:
        budget = Budget.parse(stated_or_default(spec))
        limits = limits_of(study, budget, parse_guard(spec.guard), headline_metric(study))
    return start_text(study, job.start, Precision(spec.float_precision), limits, selection)


def _survivals(job: OpenedSweep, finished: FinishedRun, hear: Hear) -> tuple[Survival, ...]:
    study = finished.study
    trial = finished.selection.trial if finished.selection else anchor_trial(study, Precision.INT8)
    if job.spec.target is not None or trial is None or not int8_share(study, trial):
        return ()
    hear("Trying what each target at hand would leave of the map (not with --for TARGET)")
    calibrated = calibrated_graph(job, RunPaths(finished.folder), _show_nothing)
    shipped = map_to_ship(trial, study.layers, job.spec.float_precision)
    return survivals(calibrated, shipped)


def score_maps(
    job: OpenedSweep,
    out: Path,
    *,
    progress: Progress = _show_nothing,
    hear: Hear = unheard,
    runner: RunnerFactory | None = None,
) -> Study:
    """Calibrate once, then build and score map after map, until the strategy has no more to ask.

    `runner` makes what evaluates the maps, for example `qsens.run.workers.runner_on(pool)`; `None` is this
    process. `hear` is told of each library version that changed since the run began.

    Raises:
        RunFolderError: if the folder is in use, was made with another spec or from other files.
        WorkersGoneError: if the workers of `runner` are lost; the folder can be resumed without them.
        StoppedError: after a signal to stop; the folder can be resumed.
    """
    with RunFolder.open(out, job.spec) as folder, linear_algebra_threads(job.spec.threads):
        with stoppable_calibration(folder):
            job = fitted_to_target(job, folder, progress)
        for line in (*(f"Note: {note}" for note in unscored_notes(job.graph.layers)), *target_notes(job)):
            hear(line)
        for line in () if job.start is None else job.start.notes(job.graph.layers):
            hear(f"Note: {line}")
        keep_start(out, job.start)
        folder.write_layers(job.graph.layers)
        folder.write_other_work(job.graph.other_work)
        keep_connections(out, job.graph)
        for line in folder.record_provenance(job.contents(), job.generator.weights_read):
            hear(f"Warning: since this run began, {line}")
        calibrate = cache(lambda: checked_workload(job, folder, progress, hear))
        evaluator = runner_of(job, folder, calibrate, runner)
        shared = read_shared_samples(folder.shared_samples_path)
        for text in filter(None, [shared and shared.text()]):
            hear(f"Warning: {text}")
        study = try_maps(
            job.graph.layers,
            strategy=job.strategy,
            runner=evaluator,
            journal=folder.journal,
            progress=expecting(job.planned, progress),
            yardsticks=YardstickScorer(
                calibrate(), folder, wanted_alterations(job.spec), job.spec.seed, progress, hear
            ),
        )
        study = score_finalists(
            calibrate(), folder, study, lambda tried: _chosen_trial(tried, job.spec, out), progress
        )
        write_decisions(folder.decisions_path, decisions_of(job.strategy, study.layers, study.trials))
        repair = summary_of(kept_stages(folder.repair_path))
        return replace(study, other_work=job.graph.other_work, repair=repair)


def _chosen_trial(study: Study, spec: SweepSpec, out: Path) -> Trial | None:
    selection = choose_within_budget(study, spec, out)
    return None if selection is None else selection.trial


def finish_run(
    study: Study, spec: SweepSpec, out: Path, compare: Callable[[Selection | None], None]
) -> FinishedRun:
    """Choose a map within the budget, write `precision_map.json`, `compare` what was chosen, and report.

    Raises:
        RunFolderError: if they cannot be written.
        StoppedError: after a signal to stop.
    """
    paths = RunPaths(out)
    selection: Selection | None = None
    failure: BudgetError | SpecError | None = None
    try:
        try:
            selection = choose_within_budget(study, spec, out)
        except (BudgetError, SpecError) as error:
            failure = error
            # A map of an earlier budget must not be taken for one that meets this budget.
            paths.precision_map_path.unlink(missing_ok=True)
        if selection is not None:
            within = replace(spec, budget=stated_or_default(spec))
            write_document(paths.precision_map_path, choice_document(out, study, within, selection))
        compare(selection)
        decisions = read_decisions(paths.decisions_path)
        end = decisions[-1] if decisions else None
        return FinishedRun(study, spec, out, make_report(out), selection, failure, end)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped while writing the report, all {len(study.trials)} maps are saved",
            f"write it with: qsens report {out}",
        ) from None


def choose_within_budget(study: Study, spec: SweepSpec, out: Path) -> Selection | None:
    """The cheapest map within the spec's budget, or the default one; `None` where there is no budget.

    There is no default for a search that had another aim, nor on a score that the run has no yardstick of.

    Raises:
        BudgetError: if no map meets it.
        SpecError: for a budget that cannot be read.
    """
    metric, text = headline_metric(study), stated_or_default(spec)
    has_default = open_strategy(spec).keeps_to_budget and has_scored(study, text)
    if spec.budget is None and not has_default:
        return None
    return choose_map_of_run(out, study, replace(spec, budget=text), Aim(metric), has_just_ended=True)


# From a run folder to a bundle that was verified.


def export_target(run: str | Path, name: str | None = None) -> Target:
    """The target of that name, else the one that the run was swept for.

    Raises:
        SpecError: for an unknown target, or a run without one.
    """
    name = name or read_run_spec(Path(run)).target
    if name is None:
        known = ", ".join(sorted(declared_targets()))
        raise SpecError(f"{run} was swept for no target", f"name the runtime with --for: {known}")
    return target_named(name).target


def export(
    run: str | Path,
    options: ExportOptions,
    *,
    trials: Sequence[int] = (),
    trust_checkpoint: bool = False,
    hear: Hear = unheard,
) -> Iterator[ExportedBundle]:
    """Bundles that rebuild and check their engines, each written when it is asked for.

    They are of the run's selected map, or of the maps of these trials. `hear` is told first of what cannot
    ship as it was scored.

    Raises:
        QsensError: with what is wrong and what to do; an earlier bundle stays as it was.
    """
    reopened = reopen_run(Path(run), trust_checkpoint=trust_checkpoint)
    for chosen, out in chosen_maps(reopened, trials, options.out):
        yield export_bundle(reopened, chosen, replace(options, out=out), hear=hear)


def verify(bundle: str | Path, *, digest: str | None = None, repeats: int = 50) -> BundleReport:
    """Compare a bundle's files, rebuild its engine, audit its layers, compare its pictures, time it.

    `digest` is what `export` gave; with `repeats` 0 nothing is timed.

    Raises:
        QsensError: if files are not what was exported, or the engine cannot be built here.
    """
    return verify_engine(checked_files(Path(bundle), digest), repeats=repeats)
