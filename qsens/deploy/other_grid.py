"""A map for a target whose INT8 codes are others than those it was scored with: scored again, or refused."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from qsens.core.errors import BuildError
from qsens.core.interfaces import Backend, Progress
from qsens.core.metric_names import format_value
from qsens.core.precision import PrecisionMap
from qsens.core.schema import finite
from qsens.core.targets import Target
from qsens.core.trial import Score, Trial
from qsens.deploy.chosen_map import ChosenMap
from qsens.device.leftovers import temporary_folder
from qsens.engines.lowering.plan import Grid
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evaluate import Evaluator, plain_workload
from qsens.run.loop import silent
from qsens.run.reopen import ReopenedRun
from qsens.run.stages import Workload
from qsens.selection.choose import limit_of_points


def on_grid_of(
    target: Target, run: ReopenedRun, chosen: ChosenMap, hear: Callable[[str], None]
) -> tuple[ReopenedRun, ChosenMap]:
    """The run on the grid that `target` computes with, and the map with its scores there.

    Both are returned as they are where the target can carry the run's grid. Otherwise the map is scored again
    on the run's evaluation set, in exact arithmetic, with the ranges and the repair that the run has.

    Raises:
        DataError, RunFolderError: if the set is not at hand or not the one that was scored on.
        BuildError: if the map is beyond a limit there that it was chosen within, with both scores.
    """
    if Grid(target.grid) is run.options.grid or run.options.grid is Grid.SIGNED:
        return run, chosen
    there = replace(run, options=replace(run.options, grid=Grid(target.grid)))
    hear(
        f"{target.title} has other INT8 codes ({there.options.grid}) than trial {chosen.trial.number} was "
        f"scored with ({run.options.grid}): scoring it again"
    )
    scored = _scored_again(there, chosen.precision_map)
    hear(f"  {_both(chosen.trial, scored)}")
    _check_limits(target, chosen, scored, run)
    return there, _with_scores(chosen, scored, there.options.grid)


def scored_workload(run: ReopenedRun, backend: Backend, folder: Path, progress: Progress) -> Workload:
    """The work of scoring maps of a reopened run on `backend`; features are kept in `folder`."""
    workload = plain_workload(run.opened, run, folder / "reference-features.npz", progress)
    return replace(workload, backend=backend)


def _scored_again(run: ReopenedRun, precision_map: PrecisionMap) -> Trial:
    with temporary_folder() as folder:
        backend = OnnxRuntimeBackend(threads=run.spec.threads)
        workload = scored_workload(run, backend, folder, silent)
        return Evaluator(workload, evidence=folder, samples=folder, fp32=None)(1, precision_map)


def _check_limits(target: Target, chosen: ChosenMap, scored: Trial, run: ReopenedRun) -> None:
    budget = chosen.document["budget"]
    stated = [(budget["metric"], budget["allowance"]), (budget["guard_metric"], budget["guard_allowance"])]
    stated += [(other["metric"], other["allowance"]) for other in budget["others"]]
    for metric, points in stated:
        score = None if metric is None or points is None else scored.score(metric)
        if score is None:
            continue
        limit = limit_of_points(run.study, metric, points)
        if limit.excess(score.value) > 0:
            raise BuildError(
                f"with the INT8 codes of {target.title} trial {chosen.trial.number} has {metric} "
                f"{format_value(score.value)} instead of {_value_of(chosen.trial, metric)}, beyond the limit "
                f"of {format_value(limit.threshold)}; nothing was written",
                f"search on its grid: qsens sweep --for {target.name} --out NEW; or allow more: qsens select",
            )


def _with_scores(chosen: ChosenMap, scored: Trial, grid: Grid) -> ChosenMap:
    document, metric = dict(chosen.document), chosen.document["budget"]["metric"]
    document["scores"] = {**document["scores"], "chosen": finite([asdict(score) for score in scored.scores])}
    document["settings"] = {**document["settings"], "grid": str(grid)}
    before, after = chosen.trial.score(metric), scored.score(metric)
    if document["budget"]["excess"] is not None and before is not None and after is not None:
        worse = after.value - before.value if after.lower_is_better else before.value - after.value
        document["budget"] = {**document["budget"], "excess": document["budget"]["excess"] + worse}
    return replace(chosen, trial=replace(chosen.trial, scores=scored.scores), document=document)


def _both(before: Trial, after: Trial) -> str:
    return ", ".join(
        f"{score.metric} {_value_of(before, score.metric)} -> {format_value(score.value)}"
        for score in after.scores
    )


def _value_of(trial: Trial, metric: str) -> str:
    score: Score | None = trial.score(metric)
    return "unknown" if score is None else format_value(score.value)
