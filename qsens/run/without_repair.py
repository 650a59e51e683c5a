"""A run's maps without its repair: INT8 everywhere and the chosen map, scored both ways."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qsens.core.files import write_error
from qsens.core.interfaces import Progress
from qsens.core.maps import anchor_maps, map_title
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Study, Trial, requested_map, untried
from qsens.run.calibrated_graph import measured_graph
from qsens.run.evaluate import Evaluator, workload_of
from qsens.run.folder import RunFolder
from qsens.run.in_order import InProcess, MapsInOrder
from qsens.run.journal import Journal, read_journal
from qsens.run.loop import StoppedError
from qsens.run.open import OpenedSweep, linear_algebra_threads
from qsens.run.paths import RunPaths
from qsens.run.target import fitted_to_target


@dataclass(frozen=True)
class ComparedMap:
    """The scores of one map with the repair of its run and without."""

    title: str
    repaired: Trial
    without: Trial


def score_without_repair(
    job: OpenedSweep, out: Path, chosen: PrecisionMap | None, progress: Progress
) -> None:
    """Score INT8 everywhere and the chosen map as they were calibrated, into a folder beside the trials.

    They are no trials of the run, so that no strategy and no choice sees them. What was scored before a
    stop, or for an earlier choice, is kept.

    Raises:
        RunFolderError: if the folder is in use or cannot be written.
        StoppedError: after a signal to stop.
    """
    with RunFolder.open(out, job.spec) as folder, linear_algebra_threads(job.spec.threads):
        job, paths = fitted_to_target(job, folder, progress), folder.without_repair
        for part in (paths.evidence, paths.samples):
            try:
                part.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(part, error) from error
        with Journal(paths.journal_path, job.spec.digest) as journal:
            anchors = anchor_maps(job.graph.layers)
            wanted = [anchors[Precision.FP32], anchors[Precision.INT8], *filter(None, [chosen])]
            missing = untried(wanted, journal.trials)
            try:
                _score(job, folder, missing, journal, progress)
            except KeyboardInterrupt:
                raise StoppedError(
                    "stopped while scoring maps without repair, all trials of the run are saved",
                    "the same command goes on where this one stopped",
                ) from None


def _score(
    job: OpenedSweep, folder: RunFolder, missing: Sequence[PrecisionMap], journal: Journal, progress: Progress
) -> None:
    if not missing:
        return
    workload = workload_of(job, measured_graph(job, folder, progress), folder, progress)
    paths = folder.without_repair
    evaluator = Evaluator(
        replace(workload, expected=()),
        evidence=paths.evidence,
        samples=paths.samples,
        fp32=next(iter(journal.trials), None),
    )

    def hear(done: int, unfinished: int, request: Request) -> None:
        title = map_title(requested_map(request), job.graph.layers)
        progress(done, done + unfinished, f"without repair: {title}")

    MapsInOrder(missing, InProcess(evaluator), journal).evaluate(hear)


def compared_maps(run: Path, study: Study) -> tuple[ComparedMap, ...]:
    """Maps of a run that were scored without its repair too; none where nobody asked for that.

    Raises:
        RunFolderError: for a journal that is corrupt.
    """
    path = RunPaths(run).without_repair.journal_path
    journal = read_journal(path) if path.exists() else None
    if journal is None or journal.spec_digest != study.spec_digest:
        return ()
    mine = {trial.requested: trial for trial in reversed(study.scored())}
    return tuple(
        ComparedMap(map_title(trial.requested, study.layers), mine[trial.requested], trial)
        for trial in journal.trials
        if trial.outcome is Outcome.SCORED
        and trial.requested in mine
        and trial.requested != PrecisionMap(Precision.FP32)
    )
