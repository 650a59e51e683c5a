"""`qsens select`: the cheapest precision map within a budget."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from qsens.budget import Budget
from qsens.cli.text_table import text_table
from qsens.paired_errors import paired_errors
from qsens.precision import Precision, PrecisionMap
from qsens.precision_map_file import precision_map_document, write_precision_map
from qsens.run_folder import RunPaths, read_provenance, read_run_spec, read_study
from qsens.selection import (
    PSNR,
    Z95,
    Selection,
    cheapest_within,
    find_metric,
    headline_metric,
    int8_share,
    pareto_front,
)
from qsens.sweep import anchor_trial, describe_map
from qsens.trial import Study, Trial


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    help="How much worse than FP32: points (2.0), a share of its score (5%); of PSNR the least dB.",
)
@click.option(
    "--guard", help="The same for the distance from the FP32 outputs; the budget's points without it."
)
@click.option("--metric", help="The score the budget is on; the distance to real images without it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def select(run: Path, *, budget: str | None, guard: str | None, metric: str | None, as_json: bool) -> None:
    """Choose the cheapest precision map of the folder RUN within a budget, and write precision_map.json.

    Cheapest means the largest share of multiply-accumulates in INT8. Without a budget here or in the run's
    spec, the maps worth choosing from are listed and nothing is written. Exit code 3: no map is within it.
    """
    study, spec = read_study(run), read_run_spec(run)
    spec = replace(spec, budget=budget or spec.budget, guard=guard or spec.guard)
    name = headline_metric(study) if metric is None else find_metric(study, metric)
    if spec.budget is None:
        _warn_of_missing(run, study)
        _show_front(study, name, as_json=as_json)
        return
    selection = cheapest_within(
        study,
        budget=Budget.parse(spec.budget),
        guard=None if spec.guard is None else Budget.parse(spec.guard),
        metric=name,
        paired_error=paired_errors(RunPaths(run).evidence),
    )
    provenance, path = read_provenance(run), RunPaths(run).precision_map_path
    write_precision_map(path, selection, study, spec, provenance)
    _warn_of_missing(run, study)
    if as_json:
        click.echo(json.dumps(precision_map_document(selection, study, spec, provenance), indent=2))
    else:
        click.echo(selection_text(study, selection))
        click.echo(f"\nWritten: {path}")


def selection_text(study: Study, selection: Selection) -> str:
    """The chosen map, the reference maps, what limits it, and what cannot be told from it."""
    anchors = [anchor_trial(study, precision) for precision in Precision]
    trials = [trial for trial in anchors if trial is not None and trial is not selection.trial]
    parts = [
        trials_table(study, [selection.trial, *trials], marked=selection.trial),
        "",
        *_limit_lines(selection),
        *_overflow_lines(selection.trial),
        "",
        layers_table(study, selection.precision_map),
    ]
    if selection.ties:
        numbers = ", ".join(str(trial.number) for trial in selection.ties)
        noun = "trial" if len(selection.ties) == 1 else "trials"
        parts += [
            "",
            f"Within the limits too, and not to be told apart by {selection.limit.metric}: {noun} {numbers}.",
        ]
    return "\n".join(parts)


def trials_table(study: Study, trials: Sequence[Trial], marked: Trial | None = None) -> str:
    """Trials with their INT8 share and scores; an asterisk at the marked one.

    What follows a `±` is half the 95% interval of the difference from FP32.
    """
    header = ("", "trial", "map", "INT8 MACs", *study.metrics)
    rows = [
        (
            "*" if trial is marked else "",
            str(trial.number),
            describe_map(trial.requested, study.layers),
            f"{100 * int8_share(study, trial):.1f}%",
            *(_shown_score(trial, metric) for metric in study.metrics),
        )
        for trial in trials
    ]
    table = text_table(header, rows, right=(1, 3, *range(4, len(header))))
    has_intervals = any("±" in cell for row in rows for cell in row)
    return f"{table}\n\n±: 95% interval of the difference from FP32" if has_intervals else table


def layers_table(study: Study, precision_map: PrecisionMap) -> str:
    """Runs of neighbouring layers that share a block and a precision, in execution order."""
    rows: list[tuple[str, str, str]] = []
    run: list[str] = []
    key = None
    for layer in sorted(study.layers, key=lambda layer: layer.index):
        if key is not None and key != (layer.block, precision_map[layer.name]):
            rows.append((_run_name(run), key[0], key[1].upper()))
            run = []
        key = (layer.block, precision_map[layer.name])
        run.append(layer.name)
    if key is not None:
        rows.append((_run_name(run), key[0], key[1].upper()))
    return text_table(("layers", "block", "precision"), rows)


def _run_name(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"


def _limit_lines(selection: Selection) -> list[str]:
    limit, guard = selection.limit, selection.guard
    word = "at most" if limit.lower_is_better else "at least"
    score = selection.trial.score(limit.metric)
    value = f" {score.value:.4g}," if score is not None else ""
    fp32 = f" (FP32 {limit.baseline:.4g})" if math.isfinite(limit.baseline) else ""
    lines = [f"{limit.metric}:{value} {word} {limit.threshold:.4g} allowed{fp32}"]
    if selection.is_interval_within is not None:
        whether = (
            "lies within it too" if selection.is_interval_within else "reaches beyond it: score more samples"
        )
        lines[0] += f"; the 95% interval of the difference {whether}"
    if guard is not None and selection.damage is not None:
        lines.append(
            f"{guard.metric}: {selection.damage:.4g}, at most {guard.threshold:.4g} allowed as the guard"
        )
    return lines


def _overflow_lines(trial: Trial) -> list[str]:
    if not trial.fp16_overflows:
        return []
    worst, count = max(trial.fp16_overflows, key=lambda entry: entry[1])
    return [
        f"Warning: FP16 overflowed in {len(trial.fp16_overflows)} layers, most in {worst!r} ({count} values)."
    ]


def _shown_score(trial: Trial, metric: str) -> str:
    score = trial.score(metric)
    if score is None:
        return "-"
    error = score.difference_standard_error
    if not error or not math.isfinite(error) or not math.isfinite(score.value):
        return f"{score.value:.4g}"
    half_width = Z95 * error
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{score.value:.{decimals}f} ± {half_width:.{decimals}f}"


def _warn_of_missing(run: Path, study: Study) -> None:
    # loads NumPy, which a wrong folder need not wait for
    from qsens.report.run_content import missing_maps

    missing = missing_maps(run, study)
    if missing:
        click.echo(f"Warning: the sweep is not finished, {missing} maps have no score yet", err=True)


def _show_front(study: Study, metric: str, *, as_json: bool) -> None:
    front = pareto_front(study, metric)
    if as_json:
        rows = [{"trial": trial.number, "int8_macs_share": int8_share(study, trial)} for trial in front]
        click.echo(json.dumps({"metric": metric, "front": rows}, indent=2))
        return
    click.echo(front_table(study, metric))
    click.echo(f"\nChoose one with a budget: {budget_example(metric)}")


def front_table(study: Study, metric: str) -> str:
    """The reference maps, and the maps that no other beats in both INT8 share and score."""
    references = [anchor_trial(study, precision) for precision in Precision]
    shown = {
        trial.number: trial for trial in (*references, *pareto_front(study, metric)) if trial is not None
    }
    ordered = sorted(shown.values(), key=lambda trial: (int8_share(study, trial), trial.number))
    caption = f"The references, and the maps that no other beats in both INT8 share and {metric}:"
    return f"{caption}\n\n{trials_table(study, ordered)}"


def budget_example(metric: str) -> str:
    """How to write a budget on a metric, with what it means."""
    if metric.partition("[")[0] == PSNR:
        return "--budget 35 (at least 35 dB)"
    if metric.partition("[")[0].endswith("-fp32"):  # FP32's own distance from itself is nothing to share
        return "--budget 2.0 (at most 2.0 away from FP32)"
    return "--budget 2.0 (at most 2.0 worse than FP32), or --budget 5% (of FP32's score)"
