"""`qsens sweep`: score precision maps of a generator, choose one, write the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.options import checkpoints_argument, sweep_options, worker_options
from qsens.cli.sections import SectionedCommand
from qsens.cli.sweep_flags import SweepOptions, WorkerOptions, default_out, spec_from_options
from qsens.cli.text import echo_json, text_table
from qsens.core.alterations import Alteration
from qsens.core.errors import SpecError
from qsens.core.maps import map_title
from qsens.core.metric_names import headline_metric
from qsens.core.spec import SweepSpec
from qsens.core.trial import Outcome, Study
from qsens.python.progress import ProgressLine
from qsens.run.paths import RunPaths
from qsens.selection.answer import answer_text, ship_command
from qsens.selection.budget import budget_example, stated_or_default

if TYPE_CHECKING:
    from qsens.api import FinishedRun
    from qsens.run.worker_pools import WorkerPool
    from qsens.selection.choose import Selection

MOST_NAMED = 4


@dataclass(frozen=True)
class PlannedRun:
    """One sweep of a command line: what to run and in which folder; `name` tells several apart."""

    spec: SweepSpec
    out: Path
    trust_checkpoint: bool
    name: str | None = None


@click.command(cls=SectionedCommand)
@checkpoints_argument
@sweep_options
@worker_options
@click.option("--json", "as_json", is_flag=True, help="Print choice and trials as JSON, one line a run.")
def sweep(
    checkpoints: Sequence[Path], *, options: SweepOptions, workers: WorkerOptions, as_json: bool
) -> None:
    """Score INT8/FP16 maps of CHECKPOINT, choose the cheapest within the budget, and write a report.

    CHECKPOINT is an .onnx or .pt2 file, or weights with --model package.module:factory. Several
    checkpoints of one model are swept one after the other, each in its own folder under --out; they share
    the workers. The same command on the same folder goes on where it stopped, whatever the workers.
    """
    from qsens.run.workers import open_pool  # loads what a sweep loads

    finished: list[FinishedRun] = []
    runs = planned_runs(checkpoints, options)
    with open_pool(workers.workers, workers.cluster) as pool:
        for run in runs:
            finished.append(sweep_and_finish(run, as_json=as_json, pool=pool))
    if len(runs) > 1 and not as_json:
        click.echo(f"\n{together_text(runs, finished)}")
    # A checkpoint that no map is good enough for does not keep the next one from being swept.
    for failure in (one.failure for one in finished):
        if failure is not None:
            raise failure


def planned_runs(checkpoints: Sequence[Path], options: SweepOptions) -> list[PlannedRun]:
    """The sweeps of a command line, each with a folder of its own.

    Raises:
        SpecError: for options that cannot be used, or two checkpoints that would share a folder.
    """
    runs: dict[Path, PlannedRun] = {}
    names = run_names(checkpoints)
    for checkpoint in checkpoints or (None,):
        spec = spec_from_options(None if checkpoint is None else str(checkpoint), options)
        out = options.out
        if out is None:
            out = default_out(spec)
        elif checkpoint is not None and len(checkpoints) > 1:
            out = out / names[checkpoint]
        if out in runs:
            raise SpecError(
                f"{runs[out].spec.checkpoint} and {spec.checkpoint} would share the folder {out}",
                "sweep them one by one, each with its own --out",
            )
        name = names[checkpoint] if checkpoint is not None and len(checkpoints) > 1 else None
        runs[out] = PlannedRun(spec, out, options.trust_checkpoint, name)
    return list(runs.values())


def run_names(checkpoints: Sequence[Path]) -> dict[Path, str]:
    """A name for each of several checkpoints: that of its file, or of its folder where all files share one.

    >>> list(run_names([Path("a/model.onnx"), Path("b/model.onnx")]).values())
    ['a', 'b']
    """
    stems = [path.stem for path in checkpoints]
    if len(checkpoints) > 1 and len(set(stems)) == 1:
        return {path: path.absolute().parent.name for path in checkpoints}
    return dict(zip(checkpoints, stems, strict=True))


def sweep_and_finish(run: PlannedRun, *, as_json: bool, pool: "WorkerPool | None" = None) -> "FinishedRun":
    """Sweep, choose and report one run, on the workers of `pool` if any, and print what came of it."""
    from qsens import api  # loads onnx, onnxruntime and scipy

    with ProgressLine() as progress:

        def hear(line: str) -> None:
            progress.close()
            _hear(line if run.name is None else f"{run.name}: {line}")

        finished = api.sweep(
            run.spec,
            run.out,
            trust_checkpoint=run.trust_checkpoint,
            pool=pool,
            progress=progress,
            hear=hear,
        )
    if as_json:
        echo_json(_json_of(finished), indent=None)
    else:
        click.echo(f"\n{text_of(finished)}")
    return finished


def _hear(line: str) -> None:
    click.echo(line, err=True)


def together_text(runs: Sequence[PlannedRun], finished: "Sequence[FinishedRun]") -> str:
    """The chosen maps of several checkpoints, a row each, and how to compare them."""
    from qsens.cli.select import shown_score  # loads onnx

    rows = []
    for run, one in zip(runs, finished, strict=True):
        chosen, metric = one.selection, headline_metric(one.study)
        score = "-" if chosen is None else shown_score(chosen.trial, metric)
        share = "none within the budget" if chosen is None else f"{100 * chosen.int8_macs_share:.1f}%"
        rows.append((run.name or "", share, metric, score, str(one.report)))
    table = text_table(("checkpoint", "INT8 MACs", "score", "", "report"), rows)
    parents = {run.out.parent for run in runs}
    folders = str(parents.pop()) if len(parents) == 1 else " ".join(str(run.out) for run in runs)
    return f"{table}\n\nCompare them: qsens compare {folders} --out {runs[0].out.parent / 'comparison'}"


def text_of(finished: "FinishedRun") -> str:
    """The chosen map, or what there is to choose from, and where the report is."""
    from qsens.cli.select import front_table, selection_text  # loads onnx

    study, folder = finished.study, finished.folder
    ends = [*_search_lines(finished), *_comparison_lines(finished), *_survival_lines(finished)]
    lines = [*_failed_lines(study), *_range_lines(folder), *ends]
    lines.append(f"\nReport: {finished.report}")
    if finished.selection is not None:
        if finished.spec.budget is None:
            allowed = Alteration.parse(stated_or_default(finished.spec))
            what = "what delivery costs anyway" if finished.spec.delivery else "the default"
            told = f"No budget was given: what {allowed.title} costs FP32's pictures is {what}."
            lines.insert(0, f"\n{told}")
        path = RunPaths(folder).precision_map_path
        lines += [f"Precision map: {path}", *_next_lines(finished, finished.selection)]
        return "\n".join([selection_text(study, finished.selection), *lines])
    lines += [] if study.repair is None else [study.repair.text]
    lines += [] if finished.start is None else [finished.start]
    if finished.failure is not None or finished.search_end is not None:
        return "\n".join(lines).lstrip()
    metric = headline_metric(study)
    command = f"qsens select {folder} {budget_example(metric)}"
    advice = f"\nNo budget was given. Choose a map: {command}; --write keeps it"
    return "\n".join([front_table(study, metric), advice, *lines])


def _next_lines(finished: "FinishedRun", selection: "Selection") -> list[str]:
    """The answer in a line, and the command that ships it."""
    told = [] if finished.start is None else [f"\n{finished.start}"]
    return [
        *told,
        f"\n{answer_text(finished.study, selection)}",
        f"Ship it: {ship_command(str(finished.folder), finished.spec.target)}",
    ]


def _search_lines(finished: "FinishedRun") -> list[str]:
    end = finished.search_end
    if end is None:
        return []
    trials = f" (trial {', '.join(map(str, end.trials))})" if end.trials else ""
    lines = [f"\nSearch: {end.text}{trials}"]
    if finished.selection is None and len(end.trials) == 1:
        command = ship_command(str(finished.folder), finished.spec.target)
        lines.append(f"Take that map: {command} --trial {end.trials[0]}")
    return lines


def _comparison_lines(finished: "FinishedRun") -> list[str]:
    """Maps with repair and without, where they were scored both ways."""
    from qsens.cli.select import shown_score  # loads onnx
    from qsens.run.without_repair import compared_maps  # loads what a sweep loads

    study = finished.study
    rows = [
        (found.title, repair, *(shown_score(trial, metric) for metric in study.metrics))
        for found in compared_maps(finished.folder, study)
        for repair, trial in (("yes", found.repaired), ("no", found.without))
    ]
    if not rows:
        return []
    table = text_table(("map", "repair", *study.metrics), rows, right=range(2, 2 + len(study.metrics)))
    return [f"\nWhat repair bought:\n\n{table}"]


def _survival_lines(finished: "FinishedRun") -> list[str]:
    """The share of the chosen map that ships, by target, before anybody exports it."""
    found = finished.survivals
    if not found:
        return []
    which = "the chosen map" if finished.selection is not None else "INT8 everywhere"
    of_what = "the layers' MACs" if finished.study.other_work else "the MACs"
    lines = [f"\nOf {which}, {100 * found[0].asked:.1f}% of {of_what} in INT8, there would ship:"]
    for entry in found:
        if entry.left is None:
            lines.append(f"  {entry.target}: nothing, {entry.problem}")
            continue
        names = ", ".join(layer.layer for layer in entry.returned[:MOST_NAMED])
        more = ", ..." if len(entry.returned) > MOST_NAMED else ""
        float_layers = f"; in float: {names}{more}" if names else ""
        lines.append(f"  {entry.target}: {100 * entry.left:.1f}%{float_layers}")
    if any(entry.returned for entry in found):
        lines.append(
            "The same sweep with --for TARGET, in another folder, offers only what that target runs."
        )
    return lines


def _range_lines(folder: Path) -> list[str]:
    from qsens.calibration.range_check import read_range_check  # loads onnx

    check = read_range_check(RunPaths(folder).range_check_path)
    return [] if check is None else [f"\nWarning: {text}" for _, text in check.warnings()]


def _failed_lines(study: Study) -> list[str]:
    failed = [trial for trial in study.trials if trial.outcome is Outcome.FAILED]
    if not failed:
        return []
    first = failed[0]
    return [
        f"\n{len(failed)} of {len(study.trials)} maps failed, the first of them trial {first.number} "
        f"({map_title(first.requested, study.layers)}): {first.error}"
    ]


def _json_of(finished: "FinishedRun") -> dict[str, Any]:
    """The same as plain values, with every trial."""
    from qsens.calibration.range_check import read_range_check  # loads onnx

    chosen = None
    if finished.selection is not None:
        path = RunPaths(finished.folder).precision_map_path
        chosen = json.loads(path.read_text(encoding="utf-8"))
    check = read_range_check(RunPaths(finished.folder).range_check_path)
    return {
        "run": str(finished.folder),
        "report": str(finished.report),
        "start": finished.start,
        "search_end": None if finished.search_end is None else finished.search_end.text,
        "failure": None if finished.failure is None else finished.failure.message,
        "range_warnings": [] if check is None else [asdict(entry) for entry in (*check.made_up, *check.left)],
        "chosen": chosen,
        "survivals": [asdict(entry) for entry in finished.survivals],
        "trials": [trial.to_json() for trial in finished.study.trials],
    }
