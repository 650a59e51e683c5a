"""`qsens sweep`: score precision maps of a generator, choose one, write the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.api import FinishedRun
from qsens.cli.options import default_out, spec_from_options, sweep_options, worker_options
from qsens.cli.progress import ProgressLine
from qsens.cli.text import echo_json
from qsens.core.errors import QsensError, SpecError
from qsens.core.spec import SweepSpec

if TYPE_CHECKING:
    from qsens.api import FinishedRun
    from qsens.run.worker_pools import WorkerPool


def show_finished(finished: FinishedRun) -> None:
    """Print the result of a run for people."""
    click.echo()
    click.echo(finished.text())


@dataclass(frozen=True)
class PlannedRun:
    """One sweep of a command line: what to run and in which folder."""

    spec: SweepSpec
    out: Path
    trust_checkpoint: bool


@click.command()
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...", type=click.Path(path_type=Path))
@sweep_options
@worker_options
@click.option("--json", "as_json", is_flag=True, help="Print choice and trials as JSON, one line a run.")
def sweep(checkpoints: Sequence[Path], *, as_json: bool, **options: Any) -> None:
    """Score INT8/FP16 maps of CHECKPOINT, choose the cheapest within the budget, and write a report.

    CHECKPOINT is an .onnx or .pt2 file, or weights with --model package.module:factory. Several
    checkpoints of one model are swept one after the other, each in its own folder under --out; they share
    the workers. The same command on the same folder goes on where it stopped, whatever the workers.
    """
    from qsens.run.workers import open_pool  # loads what a sweep loads

    failures: list[QsensError] = []
    runs = planned_runs(checkpoints, options)
    with open_pool(options["workers"], options["cluster"]) as pool:
        for run in runs:
            finished = sweep_and_finish(run, as_json=as_json, pool=pool)
            if finished.failure is not None:
                failures.append(finished.failure)
    # A checkpoint that no map is good enough for does not keep the next one from being swept.
    if failures:
        raise failures[0]


def planned_runs(checkpoints: Sequence[Path], options: Mapping[str, Any]) -> list[PlannedRun]:
    """The sweeps of a command line, each with a folder of its own.

    Raises:
        SpecError: for options that cannot be used, or two checkpoints that would share a folder.
    """
    check_worker_options(options)
    runs: dict[Path, PlannedRun] = {}
    for checkpoint in checkpoints or (None,):
        spec = spec_from_options(None if checkpoint is None else str(checkpoint), options)
        out: Path | None = options.get("out")
        if out is None:
            out = default_out(spec)
        elif checkpoint is not None and len(checkpoints) > 1:
            out = out / checkpoint.stem
        if out in runs:
            raise SpecError(
                f"{runs[out].spec.checkpoint} and {spec.checkpoint} would share the folder {out}",
                "sweep them one by one, each with its own --out",
            )
        runs[out] = PlannedRun(spec, out, bool(options.get("trust_checkpoint")))
    return list(runs.values())


def check_worker_options(options: Mapping[str, Any]) -> None:
    """Raises `SpecError` where both `--workers` and `--cluster` are given."""
    if options.get("workers") is not None and options.get("cluster") is not None:
        raise SpecError("--workers and --cluster exclude each other", "a cluster has workers of its own")


def sweep_and_finish(run: PlannedRun, *, as_json: bool, pool: "WorkerPool | None" = None) -> "FinishedRun":
    """Assemble, sweep, choose and report one run, and print what came of it.

    Maps are evaluated by the workers of `pool`, here where there is none.
    """
    # onnx, onnxruntime and scipy take a second to load
    from qsens.api import finish_run
    from qsens.run.open import assemble, sample_warnings
    from qsens.run.sweep import shown_pictures_warning
    from qsens.run.sweep import sweep as run_sweep_of
    from qsens.run.workers import runner_on, with_fixed_threads

    spec = run.spec if pool is None else with_fixed_threads(run.spec)
    assembled = assemble(spec, trust_checkpoint=run.trust_checkpoint)
    notice = getattr(assembled.generator, "notice", None)
    if notice:
        click.echo(f"Note: {notice}", err=True)
    for line in sample_warnings(assembled):
        click.echo(f"Warning: {line}", err=True)
    runner = None if pool is None else runner_on(pool, trust_checkpoint=run.trust_checkpoint, warn=_warn)
    with ProgressLine() as progress:
        study = run_sweep_of(assembled, run.out, progress=progress, warn=_warn_of_change, runner=runner)
    warning = shown_pictures_warning(run.out)
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)
    finished = finish_run(study, assembled.spec, run.out)
    if as_json:
        echo_json(finished.to_json(), indent=None)
    else:
        show_finished(finished)
    return finished


def _warn_of_change(line: str) -> None:
    _warn(f"since this run began, {line}")


def _warn(line: str) -> None:
    click.echo(f"Warning: {line}", err=True)
