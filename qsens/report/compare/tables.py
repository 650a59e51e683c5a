"""The tables of a comparison as texts, for the terminal and for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsens.core.maps import int8_share, map_title
from qsens.core.metric_names import axis_title, format_value
from qsens.core.other_work import of_all_work
from qsens.report.comparable import Scored
from qsens.report.compare.compare import Comparison
from qsens.report.compare.differences import CHOSEN, Difference, Verdict, anchor_names, shown_maps
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun
from qsens.selection.yardsticks import place_sentences


@dataclass(frozen=True)
class ComparedTable:
    """Cells below a caption, `notes` below the cells; the columns in `right` hold numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remarks:
    """Sentences under one title."""

    title: str
    lines: tuple[str, ...]


def verdict_of(comparison: Comparison) -> str:
    """A sentence on the run whose chosen map has the most INT8, or that none has one, and notes beside it."""
    shares = {
        run.label: int8_share(run.study, run.chosen) for run in comparison.runs if run.chosen is not None
    }
    missing = [run.label for run in comparison.runs if run.chosen is None]
    without = f" No map is chosen in {', '.join(missing)}." if missing else ""
    if not shares:
        return without.strip()
    told = ", ".join(f"{label} {share:.1%}" for label, share in shares.items())
    most = max(shares.values())
    first = [label for label, share in shares.items() if share == most]
    if len(first) == len(shares):
        head = "The chosen maps have the same share of INT8"
    else:
        head = f"The most INT8 is in {' and '.join(first)}"
    within = f", within the budget on {comparison.limit_metric}" if comparison.limit_metric else ""
    return f"{head}{within}: {told} of the work.{without}"


def tables_of(comparison: Comparison) -> tuple[ComparedTable, ...]:
    """All tables: settings that differ, the chosen maps, one for each metric, and the differences."""
    scores = (_scores_table(comparison.runs, metric) for metric in comparison.headline)
    return (_settings_table(comparison), _maps_table(comparison), *scores, _differences_table(comparison))


def remarks_of(comparison: Comparison) -> tuple[Remarks, ...]:
    """Remarks on what was not compared and why, and on the gate; empty ones are left out."""
    left_out = tuple(f"{entry.name}: {entry.reason}" for entry in comparison.metrics.left_out)
    gate = tuple(f"{'kept' if entry.is_kept else 'LOST'}: {entry.text}" for entry in comparison.gate)
    found = (Remarks("Not compared", left_out), Remarks("Gate", gate))
    return tuple(entry for entry in found if entry.lines)


def _settings_table(comparison: Comparison) -> ComparedTable:
    header = ("what differs", *(run.label for run in comparison.runs))
    rows = tuple((entry.name, *entry.values) for entry in comparison.settings)
    notes = () if rows else ("The runs do not differ in any setting, input or version.",)
    return ComparedTable("", header, rows, notes=notes)


def _maps_table(comparison: Comparison) -> ComparedTable:
    """A row a run: what was scored and the map that it is represented by."""
    places = list(comparison.times)
    times = (f"ms ({place})" for place in places)
    header = ("run", "trials", "budget", "chosen map", "INT8 MACs", "size MB", *times)
    rows = []
    for place, run in enumerate(comparison.runs):
        ms = [comparison.times[name][place] for name in places]
        rows.append((*_map_cells(run), *("-" if value is None else f"{value:.3f}" for value in ms)))
    notes = [f"{label}: {text}" for label, text in comparison.failures.items()]
    if comparison.limit_metric is not None:
        notes.insert(0, f"Budget on {comparison.limit_metric}, of each run's own FP32.")
    elif any(run.chosen is None for run in comparison.runs):
        notes = [
            "A run without a chosen map has no precision_map.json: qsens select RUN --budget X --write, or "
            "--budget X here."
        ]
    for run in comparison.runs:
        notes += place_sentences(run.study, [(f"{run.label}: the chosen map", run.chosen)])
    return ComparedTable("", header, tuple(rows), (1, 4, 5, *range(6, len(header))), tuple(notes))


def _map_cells(run: ComparedRun) -> tuple[str, ...]:
    count, chosen = str(len(run.study.scored())), run.chosen
    if chosen is None:
        return run.label, count, run.budget or "-", "none", "-", "-"
    size = "-" if chosen.size_bytes is None else f"{chosen.size_bytes / 1e6:.2f}"
    share = f"{100 * int8_share(run.study, chosen):.1f}%"
    share += of_all_work(int8_share(run.study, chosen), run.study.layers, run.study.other_work)
    shown = f"{map_title(chosen.requested, run.study.layers)} (trial {chosen.number})"
    return run.label, count, run.budget or "-", shown, share, size


def _scores_table(runs: Sequence[ComparedRun], metric: SharedMetric) -> ComparedTable:
    better = "lower" if metric.lower_is_better else "higher"
    caption = f"{axis_title(metric.name)}, {better} is better, {metric.images} images"
    if metric.is_own_fp32:
        caption += "; each run against its own FP32: damage, not quality"
    anchors = anchor_names(runs)
    subjects = (*anchors.values(), CHOSEN)
    rows = []
    for run in runs:
        scored = shown_maps(run, metric.name, anchors)
        rows.append((run.label, *(_score_text(scored.get(subject)) for subject in subjects)))
    header = (metric.name, *subjects)
    return ComparedTable(caption, header, tuple(rows), tuple(range(1, len(header))))


def _score_text(entry: Scored | None) -> str:
    return "-" if entry is None else _with_half_width(entry.value, entry.half_width)


def _with_half_width(value: float, half_width: float | None, *, sign: str = "") -> str:
    """A number with its interval; digits as many as the interval has meaning."""
    if not half_width or not math.isfinite(value):
        return f"{value:{sign}.4g}" if math.isfinite(value) else format_value(value)
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:{sign}.{decimals}f} ± {half_width:.{decimals}f}"


def _differences_table(comparison: Comparison) -> ComparedTable:
    names = [metric.name for metric in comparison.headline]
    found = [entry for entry in comparison.differences if entry.metric in names]
    first = comparison.runs[0].label
    header = ("run", "score", "of", f"minus {first}", "verdict")
    rows = tuple(_difference_cells(entry) for entry in found if entry.verdict is not Verdict.SAME)
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
    return ComparedTable("", header, rows, (3,), tuple(notes))


def _same_subjects(found: Sequence[Difference], label: str) -> list[str]:
    """Maps of the run whose scores all equal the first run's."""
    own = [entry for entry in found if entry.label == label]
    others = {entry.subject for entry in own if entry.verdict is not Verdict.SAME}
    return [subject for subject in dict.fromkeys(entry.subject for entry in own) if subject not in others]


def _difference_cells(entry: Difference) -> tuple[str, ...]:
    mark = "*" if entry.half_width and not entry.is_paired else ""
    text = _with_half_width(entry.value, entry.half_width, sign="+") + mark
    return entry.label, entry.metric, entry.subject, text, str(entry.verdict)
