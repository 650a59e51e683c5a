"""Writes a comparison: JSON, CSV and figures."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qsens.core.csv_text import csv_of_records
from qsens.core.files import write_atomically, write_error
from qsens.core.maps import int8_share
from qsens.core.schema import finite
from qsens.report.comparable import Scored
from qsens.report.compare.compare import Comparison
from qsens.report.compare.differences import Difference, shown_maps
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun

STEM = "compare"


def write_comparison(comparison: Comparison, out: Path) -> tuple[Path, ...]:
    """Write tables, figures and the page into the folder `out`, made where it is absent; the files' paths.

    Raises:
        RunFolderError: if they cannot be written.
        SpecError: if a run's `precision_map.json` is damaged.
    """
    # pandas and matplotlib take a second to load
    from qsens.comparing.page import comparison_page
    from qsens.report.compare.figures import compare_boundary_figure
    from qsens.report.compare_tradeoff_figure import compare_tradeoff_figure
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
    return [
        _score_record(run, metric, subject, entry)
        for metric in comparison.metrics.shared
        for run in comparison.runs
        for subject, entry in shown_maps(run, metric.name).items()
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
