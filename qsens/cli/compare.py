"""`qsens compare`: several runs in one table and one figure."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from qsens.cli.text_table import text_table
from qsens.comparing.comparison import CompareWish, Comparison, compare_runs
from qsens.comparing.writing import comparison_document, write_comparison
from qsens.precision import Precision
from qsens.report.comparable import Scored
from qsens.report.compare_differences import CHOSEN, Difference, Verdict, anchor_name, shown_maps
from qsens.report.compare_metrics import SharedMetric
from qsens.report.compare_runs import ComparedRun
from qsens.report.metric_names import axis_title, format_value
from qsens.selection import int8_share
from qsens.sweep import describe_map


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Compare on this; repeat for more.")
@click.option("--labels", metavar="A,B", help="Names of the runs; what tells them apart without it.")
@click.option("--budget", metavar="X", help="Choose a map within this in every run, as `select` does.")
@click.option("--guard", metavar="X", help="The same for the distance from the FP32 outputs.")
@click.option("--gate", is_flag=True, help="Exit with 3 unless later runs keep the first run's map or INT8.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write figures, tables there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(
    runs: tuple[Path, ...],
    *,
    labels: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    **wishes: Any,
) -> None:
    """Compare the run folders RUN with the first of them: checkpoints, placements, ranges, backends.

    Only scores that were measured against the same images with the same extractor are compared; the others
    are named with what differs. Differences have paired intervals where the runs scored the same inputs.
    Without --budget each run's own precision_map.json counts. Exit code 3: with --budget, a run has no map
    within it; with --gate, a later run keeps neither the first run's map within the budget nor as much INT8.
    """
    names = () if labels is None else tuple(labels.split(","))
    wish = CompareWish(labels=names, has_gate=gate, **wishes)
    comparison = compare_runs(runs, wish)
    written = () if out is None else write_comparison(comparison, out)
    if as_json:
        click.echo(json.dumps(comparison_document(comparison), indent=2))
    else:
        click.echo(comparison_text(comparison))
        if out is not None:
            click.echo(f"\nWritten to {out}: {', '.join(path.name for path in written)}")
    for run in comparison.runs:
        if run.missing:
            text = f"Warning: {run.label} is not finished, {run.missing} maps have no score yet"
            click.echo(text, err=True)
    comparison.check()


def comparison_text(comparison: Comparison) -> str:
    """What differs, the chosen maps, a table a metric, the differences, and what was left out."""
    parts = [_settings_table(comparison), _maps_table(comparison)]
    parts += [_scores_table(comparison.runs, metric) for metric in comparison.headline]
    parts.append(_differences_table(comparison))
    if comparison.metrics.left_out:
        rows = [f"  {entry.name}: {entry.reason}" for entry in comparison.metrics.left_out]
        parts.append("\n".join(["Not compared:", *rows]))
    if comparison.gate:
        rows = [f"  {'kept' if entry.is_kept else 'LOST'}: {entry.text}" for entry in comparison.gate]
        parts.append("\n".join(["Gate:", *rows]))
    return "\n\n".join(part for part in parts if part)


def _settings_table(comparison: Comparison) -> str:
    if not comparison.settings:
        return "The runs do not differ in any setting, input or version."
    header = ("what differs", *(run.label for run in comparison.runs))
    return text_table(header, [(entry.name, *entry.values) for entry in comparison.settings])


def _maps_table(comparison: Comparison) -> str:
    """A row a run: what was scored and the map that it is represented by."""
    places = list(comparison.times)
    times = [f"ms ({place})" for place in places]
    header = ("run", "trials", "budget", "chosen map", "INT8 MACs", "size MB", *times)
    rows = []
    for place, run in enumerate(comparison.runs):
        ms = [comparison.times[name][place] for name in places]
        rows.append((*_map_cells(run), *("-" if value is None else f"{value:.3f}" for value in ms)))
    table = text_table(header, rows, right=(1, 4, 5, *range(6, len(header))))
    if comparison.limit_metric is not None:
        table += f"\n\nBudget on {comparison.limit_metric}, of each run's own FP32."
    lines = [f"{label}: {text}" for label, text in comparison.failures.items()]
    if any(run.chosen is None for run in comparison.runs) and not lines:
        lines = [
            "A run without a chosen map has no precision_map.json: qsens select RUN, or --budget X here."
        ]
    return "\n".join([table, *lines])


def _map_cells(run: ComparedRun) -> tuple[str, ...]:
    count, chosen = str(len(run.study.scored())), run.chosen
    if chosen is None:
        return run.label, count, run.budget or "-", "none", "-", "-"
    size = "-" if chosen.size_bytes is None else f"{chosen.size_bytes / 1e6:.2f}"
    share = f"{100 * int8_share(run.study, chosen):.1f}%"
    shown = f"{describe_map(chosen.requested, run.study.layers)} (trial {chosen.number})"
    return run.label, count, run.budget or "-", shown, share, size


def _scores_table(runs: Sequence[ComparedRun], metric: SharedMetric) -> str:
    better = "lower" if metric.lower_is_better else "higher"
    caption = f"{axis_title(metric.name)}, {better} is better, {metric.images} images"
    if metric.is_own_fp32:
        caption += "; each run against its own FP32: damage, not quality"
    subjects = (*(anchor_name(precision) for precision in Precision), CHOSEN)
    rows = []
    for run in runs:
        scored = shown_maps(run, metric.name)
        rows.append((run.label, *(_score_text(scored.get(subject)) for subject in subjects)))
    table = text_table((metric.name, *subjects), rows, right=range(1, len(subjects) + 1))
    return f"{caption}:\n{table}"


def _score_text(entry: Scored | None) -> str:
    return "-" if entry is None else _with_half_width(entry.value, entry.half_width)


def _with_half_width(value: float, half_width: float | None, *, sign: str = "") -> str:
    """A number with its interval; digits as many as the interval has meaning."""
    if not half_width or not math.isfinite(value):
        return f"{value:{sign}.4g}" if math.isfinite(value) else format_value(value)
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:{sign}.{decimals}f} ± {half_width:.{decimals}f}"


def _differences_table(comparison: Comparison) -> str:
    names = [metric.name for metric in comparison.headline]
    found = [entry for entry in comparison.differences if entry.metric in names]
    first = comparison.runs[0].label
    header = ("run", "score", "of", f"minus {first}", "verdict")
    rows = [_difference_cells(entry) for entry in found if entry.verdict is not Verdict.SAME]
    notes = ["±: 95% interval; in the tables above of the difference from the run's own FP32."]
    if any(entry.is_paired for entry in found):
        notes.append("Differences between runs are paired over the inputs that both scored.")
    if any(not entry.is_paired and entry.half_width for entry in found):
        notes.append("Marked *: not paired, the errors of both runs are added as if independent.")
    notes += [
        f"The same in {run.label} as in {first}: {', '.join(same)}."
        for run in comparison.runs[1:]
        if (same := _same_subjects(found, run.label))
    ]
    table = text_table(header, rows, right=(3,)) if rows else "No score differs."
    return "\n".join([table, "", *notes])


def _same_subjects(found: Sequence[Difference], label: str) -> list[str]:
    """Maps of the run whose scores all equal the first run's."""
    own = [entry for entry in found if entry.label == label]
    others = {entry.subject for entry in own if entry.verdict is not Verdict.SAME}
    return [subject for subject in dict.fromkeys(entry.subject for entry in own) if subject not in others]


def _difference_cells(entry: Difference) -> tuple[str, ...]:
    mark = "*" if entry.half_width and not entry.is_paired else ""
    text = _with_half_width(entry.value, entry.half_width, sign="+") + mark
    return entry.label, entry.metric, entry.subject, text, str(entry.verdict)
