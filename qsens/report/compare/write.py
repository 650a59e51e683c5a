"""Writes a comparison: JSON, CSV, figures and `compare.html`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qsens.core.csv_text import csv_of_records
from qsens.core.files import write_atomically, write_error
from qsens.core.maps import int8_share
from qsens.core.schema import finite
from qsens.report.comparable import Scored
from qsens.report.compare.compare import Comparison
from qsens.report.compare.differences import Difference, anchor_names, shown_maps
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun
from qsens.report.compare.tables import ComparedTable, Remarks, remarks_of, tables_of, verdict_of
from qsens.report.page import render_pages
from qsens.report.page_figures import embedded_figure
from qsens.report.page_tables import wide
from qsens.report.page_text import escape
from qsens.report.write import page_content

CAPTIONS = {
    "compare-boundary": "The boundary curves of all runs",
    "compare-tradeoff": "The trade-offs of all runs",
}
STEM = "compare"


def comparison_page(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML: tables, remarks and `pictures` (PNG files by stem), then every run by itself.

    Raises:
        RunFolderError, SpecError: as `qsens.report.write.page_content`.
    """
    contents = [replace(page_content(run.path), run_name=run.label) for run in comparison.runs]
    parts = [
        f"<h2>Compared with {escape(comparison.runs[0].label)}</h2>",
        *(_remarks(entry) for entry in remarks_of(comparison)),
        *(_table(entry) for entry in tables_of(comparison)),
        *(embedded_figure(png, CAPTIONS[stem]) for stem, png in pictures.items()),
        _note_on_chosen(comparison),
    ]
    return render_pages(contents, extra="".join(parts), answer=verdict_of(comparison))


def _table(table: ComparedTable) -> str:
    caption = f"<p>{escape(table.caption)}</p>" if table.caption else ""
    notes = "".join(f'<p class="faint">{escape(note)}</p>' for note in table.notes)
    if not table.rows:
        return caption + notes
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"{caption}{wide(body, 'Comparison')}{notes}"


def _cells(table: ComparedTable, row: tuple[str, ...]) -> str:
    opening = ('<td class="number">' if column in table.right else "<td>" for column in range(len(row)))
    return "".join(f"{tag}{escape(cell)}</td>" for tag, cell in zip(opening, row, strict=True))


def _remarks(remarks: Remarks) -> str:
    lines = "<br>".join(escape(line) for line in remarks.lines)
    return f'<div class="finding warning"><b>{escape(remarks.title)}.</b>{lines}</div>'


def _note_on_chosen(comparison: Comparison) -> str:
    if comparison.limit_metric is None:
        return ""
    text = (
        "The maps above are chosen within the common budget. The parts of single runs show the map in each "
        "run's own precision_map.json."
    )
    return f'<p class="faint">{text}</p>'


def write_comparison(comparison: Comparison, out: Path) -> tuple[Path, ...]:
    """Write tables, figures and the page into the folder `out`, made where it is absent; the files' paths.

    Raises:
        RunFolderError: if they cannot be written.
        SpecError: if a run's `precision_map.json` is damaged.
    """
    # pandas and matplotlib take a second to load
    from qsens.report.compare.figures import compare_boundary_figure, compare_tradeoff_figure
    from qsens.report.figures.style import render_png, render_svg

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    files = {
        f"{STEM}.json": _json(comparison_document(comparison)),
        f"{STEM}.csv": csv_of_records(score_records(comparison)).encode(),
        f"{STEM}-differences.csv": csv_of_records(
            [_plain(entry) for entry in comparison.differences]
        ).encode(),
    }
    figures = {
        f"{STEM}-boundary": compare_boundary_figure(comparison.runs, comparison.headline),
        f"{STEM}-tradeoff": compare_tradeoff_figure(comparison.runs, comparison.headline),
    }
    pictures = {}
    for stem, figure in figures.items():
        if figure is not None:
            pictures[stem] = files[f"{stem}.png"] = render_png(figure)
            files[f"{stem}.svg"] = render_svg(figure, stem)
    files[f"{STEM}.html"] = comparison_page(comparison, pictures).encode()
    for name, content in files.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in files)


def score_records(comparison: Comparison) -> list[dict[str, Any]]:
    """One plain record for each metric, run and shown map; infinite scores become `None`."""
    anchors = anchor_names(comparison.runs)
    return [
        _score_record(run, metric, subject, entry)
        for metric in comparison.metrics.shared
        for run in comparison.runs
        for subject, entry in shown_maps(run, metric.name, anchors).items()
    ]


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values for JSON."""
    return {
        "runs": [_run_record(run) for run in comparison.runs],
        "settings": [asdict(setting) for setting in comparison.settings],
        "metrics": [asdict(metric) for metric in comparison.metrics.shared],
        "left_out": [asdict(entry) for entry in comparison.metrics.left_out],
        "scores": score_records(comparison),
        "differences": [_plain(entry) for entry in comparison.differences],
        "median_ms": {place: list(times) for place, times in comparison.times.items()},
        "budget_metric": comparison.limit_metric,
        "without_a_map": comparison.failures,
        "gate": [asdict(result) for result in comparison.gate],
    }


def _run_record(run: ComparedRun) -> dict[str, Any]:
    chosen = run.chosen
    return {
        "label": run.label,
        "path": str(run.path),
        "spec_digest": run.study.spec_digest,
        "trials_scored": len(run.study.scored()),
        "maps_missing": run.missing,
        "layers": len(run.study.layers),
        "budget": run.budget,
        "chosen_trial": None if chosen is None else chosen.number,
        "int8_macs_share": None if chosen is None else int8_share(run.study, chosen),
        "size_bytes": None if chosen is None else chosen.size_bytes,
    }


def _score_record(run: ComparedRun, metric: SharedMetric, subject: str, entry: Scored) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "run": run.label,
        "map": subject,
        "trial": entry.trial.number,
        "value": entry.value if math.isfinite(entry.value) else None,
        "half_width": entry.half_width,
        "images": metric.images,
        "int8_macs_share": int8_share(run.study, entry.trial),
    }


def _plain(entry: Difference) -> dict[str, Any]:
    return {**asdict(entry), "verdict": str(entry.verdict)}


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(finite(document), indent=2, allow_nan=False) + "\n").encode()
