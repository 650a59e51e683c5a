"""`qsens sweep`: score precision maps of a generator, choose one, write the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from qsens.cli.options import default_out, spec_from_options, sweep_options
from qsens.cli.progress import ProgressLine
from qsens.errors import SpecError


@click.command()
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...", type=click.Path(path_type=Path))
@sweep_options
@click.option("--json", "as_json", is_flag=True, help="Print the trials as JSON.")
def sweep(checkpoints: Sequence[Path], *, as_json: bool, **options: Any) -> None:
    """Score INT8/FP16 maps of CHECKPOINT, choose the cheapest within the budget, and write a report.

    CHECKPOINT is an .onnx or .pt2 file, or weights with --model package.module:factory. Several
    checkpoints of one model are swept one after the other, each in its own folder under --out. The same
    command on the same folder goes on where it stopped.
    """
    for checkpoint in checkpoints or (None,):
        spec = spec_from_options(None if checkpoint is None else str(checkpoint), options)
        run_one(spec, _out_of(spec, options, checkpoint, len(checkpoints)), options, as_json=as_json)


def run_one(spec: Any, out: Path, options: dict[str, Any], *, as_json: bool) -> None:
    """Assemble, sweep, choose and report one run."""
    # onnx, onnxruntime and scipy take a second to load
    from qsens.assemble import assemble, sample_warnings
    from qsens.assemble import sweep as run_sweep_of
    from qsens.cli.finish import finish_run

    assembled = assemble(spec, trust_checkpoint=bool(options.get("trust_checkpoint")))
    for line in sample_warnings(assembled):
        click.echo(f"Warning: {line}", err=True)
    with ProgressLine() as progress:
        study = run_sweep_of(assembled, out, progress=progress, warn=_warn)
    if as_json:
        click.echo(json.dumps([trial.to_json() for trial in study.trials], indent=2))
    else:
        finish_run(study, spec, out)


def _warn(line: str) -> None:
    click.echo(f"Warning: since this run began, {line}", err=True)


def _out_of(spec: Any, options: dict[str, Any], checkpoint: Path | None, count: int) -> Path:
    out: Path | None = options.get("out")
    if out is None:
        return default_out(spec)
    if count < 2:
        return out
    if checkpoint is None:
        raise SpecError("several checkpoints need names", "give each as a file")
    return out / checkpoint.stem
