"""`qsens plan`: what a sweep would do, and how long it would take."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.options import checkpoints_argument, sweep_options
from qsens.cli.sections import SectionedCommand
from qsens.cli.sweep_flags import SweepOptions, spec_from_options
from qsens.cli.text import echo_json, text_table

if TYPE_CHECKING:
    from qsens.run.open import OpenedSweep
    from qsens.run.plan import SweepPlan


@click.command(cls=SectionedCommand)
@checkpoints_argument
@sweep_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each of several checkpoints.")
def plan(checkpoints: tuple[Path, ...], *, options: SweepOptions, as_json: bool) -> None:
    """Say how many maps a sweep of CHECKPOINT would score, on which images, and in how many minutes.

    Takes the options of `sweep`. Opens everything, times one batch, and writes nothing. Of several
    checkpoints each is planned.
    """
    for checkpoint in checkpoints or (None,):
        if len(checkpoints) > 1 and not as_json:
            click.echo(f"{checkpoint}:\n")
        _plan_one(checkpoint, options, indent=None if len(checkpoints) > 1 else 2, as_json=as_json)
    if not as_json:
        click.echo("\nNext: the same line with sweep instead of plan begins it.")


def _plan_one(checkpoint: Path | None, options: SweepOptions, *, indent: int | None, as_json: bool) -> None:
    # onnx, onnxruntime and scipy take a second to load
    from qsens.run.open import open_sweep
    from qsens.run.plan import plan_sweep
    from qsens.run.start import start_of_sweep

    spec = spec_from_options(None if checkpoint is None else str(checkpoint), options)
    start = start_of_sweep(spec)
    opened = open_sweep(spec, trust_checkpoint=options.trust_checkpoint, start=start)
    planned = plan_sweep(opened)
    if as_json:
        values = {**_measured(planned), "map_s": planned.map_s, "total_s": planned.total_s}
        warnings = list(planned.warnings)
        document = {"plan": values, **_facts(opened), "warnings": warnings, **_target(planned)}
        echo_json(document, indent=indent)
        return
    for name, facts in _facts(opened).items():
        rows = [(f"  {key}", text) for key, text in facts.items()]
        click.echo(text_table((name.capitalize(), ""), rows) + "\n")
    click.echo(_cost(planned))
    for line in (*(f"Warning: {line}" for line in planned.warnings), *planned.target_notes):
        click.echo(line)


def _target(planned: "SweepPlan") -> dict[str, list[str]]:
    return {"target": list(planned.target_notes)} if planned.target_notes else {}


def _measured(planned: "SweepPlan") -> dict[str, Any]:
    """The plan's own numbers; its warnings are listed beside them."""
    beside = ("warnings", "target_notes")
    return {key: value for key, value in asdict(planned).items() if key not in beside}


def _facts(opened: "OpenedSweep") -> dict[str, Mapping[str, str]]:
    """The facts of a planned sweep: generator, engine, data, strategy and metrics."""
    spec, graph = opened.spec, opened.graph
    extractor = opened.extractor
    output = spec.output
    low, high = output.pixel_range
    sweep_facts = {
        "generator": f"{opened.generator.name}, {len(graph.layers)} layers",
        **({} if spec.target is None else {"target": spec.target}),
        **({"loop": _loop_text(spec.loop.to_dict())} if spec.loop else {}),
        "backend": spec.backend,
        "strategy": f"{spec.strategy} {spec.strategy_options.to_dict() or ''}".strip(),
        "metrics": ", ".join(metric.name for metric in opened.metrics),
        "extractor": "none" if extractor is None else extractor.identity,
        "ranges": f"{spec.range_method}, placement {spec.placement}, weight scales {spec.weight_scales}",
        "batch": _batch_text(opened),
        **({"shapes": "; ".join(graph.notes)} if graph.notes else {}),
        "repair": spec.repair,
        "picture": f"{low:g}..{high:g}, {output.colour_order}",
        "reference": "none" if spec.reference is None else f"{spec.reference}, at their own size",
    }
    if opened.generator.weights_read is not None:
        sweep_facts["weights"] = opened.generator.weights_read
    return {
        "sweep": sweep_facts,
        "calibration": opened.calibration.describe(),
        "evaluation": opened.evaluation.describe(),
    }


def _batch_text(opened: "OpenedSweep") -> str:
    from qsens.calibration.batches import batching_note  # loads onnx

    size = opened.spec.batch_size
    if opened.loop.plays_clips:
        return "frame by frame, clip after clip"
    return batching_note(opened.evaluation, opened.graph, size) or f"{size} samples"


def _loop_text(table: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in table.items() if key != "name")
    return f"{table['name']}: {options}" if options else str(table["name"])


def _screens(planned: "SweepPlan") -> str:
    return f"{planned.screens} screened on {planned.screen_samples}, " if planned.screens else ""


def _cost(planned: "SweepPlan") -> str:
    more = "" if planned.is_complete else " at first (the strategy decides on more as it goes)"
    calls = planned.calls_per_picture
    looped = "" if calls == 1 else f" of {calls:g} calls"
    return (
        f"{planned.maps} maps{more}, {planned.evaluation_samples} images{looped} each, {_screens(planned)}"
        f"{planned.calibration_samples} to calibrate.\n"
        f"About {_duration(planned.map_s)} a map and {_duration(planned.once_s)} once{_repair(planned)}: "
        f"{_duration(planned.total_s)} in all on this machine."
    )


def _repair(planned: "SweepPlan") -> str:
    if not planned.repair_s:
        return ""
    return (
        f", of which at most {_duration(planned.repair_s)} make INT8 better (--repair none leaves that out)"
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} seconds"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
