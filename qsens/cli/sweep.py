"""`qsens sweep`: score precision maps of a generator, choose one, write the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.options import default_out, spec_from_options, sweep_options
from qsens.cli.progress import ProgressLine
from qsens.errors import QsensError, SpecError
from qsens.spec import SweepSpec

if TYPE_CHECKING:
    from qsens.cli.finish import FinishedRun


@dataclass(frozen=True)
class PlannedRun:
    """One sweep of a command line: what to run and in which folder."""

    spec: SweepSpec
    out: Path
    trust_checkpoint: bool


@click.command()
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...", type=click.Path(path_type=Path))
@sweep_options
@click.option("--json", "as_json", is_flag=True, help="Print choice and trials as JSON, one line a run.")
def sweep(checkpoints: Sequence[Path], *, as_json: bool, **options: Any) -> None:
    """Score INT8/FP16 maps of CHECKPOINT, choose the cheapest within the budget, and write a report.

    CHECKPOINT is an .onnx or .pt2 file, or weights with --model package.module:factory. Several
    checkpoints of one model are swept one after the other, each in its own folder under --out. The same
    command on the same folder goes on where it stopped.
    """
    failures: list[QsensError] = []
    for run in planned_runs(checkpoints, options):
        finished = sweep_and_finish(run, as_json=as_json)
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


def sweep_and_finish(run: PlannedRun, *, as_json: bool) -> "FinishedRun":
    """Assemble, sweep, choose and report one run, and print what came of it."""
    # onnx, onnxruntime and scipy take a second to load
    from qsens.assemble import assemble, sample_warnings, shown_pictures_warning
    from qsens.assemble import sweep as run_sweep_of
    from qsens.cli.finish import finish_run, show_finished

    assembled = assemble(run.spec, trust_checkpoint=run.trust_checkpoint)
    notice = getattr(assembled.generator, "notice", None)
    if notice:
        click.echo(f"Note: {notice}", err=True)
    for line in sample_warnings(assembled):
        click.echo(f"Warning: {line}", err=True)
    with ProgressLine() as progress:
        study = run_sweep_of(assembled, run.out, progress=progress, warn=_warn)
    warning = shown_pictures_warning(run.out)
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)
    finished = finish_run(study, assembled.spec, run.out)
    if as_json:
        click.echo(json.dumps(finished.to_json()))
    else:
        show_finished(finished)
    return finished


def _warn(line: str) -> None:
    click.echo(f"Warning: since this run began, {line}", err=True)
