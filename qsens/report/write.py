"""Writes the report of a run folder: tables, figures and `report.html`, from the folder alone."""

import io
import math
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from qsens.calibration.range_check import read_range_check
from qsens.core.csv_text import csv_text
from qsens.core.files import write_atomically, write_error
from qsens.core.metric_names import headline_metrics
from qsens.device.visible_text import visible_name
from qsens.report.figures.all_figures import Levels, NamedFigure, figures_of, loop_figures, repair_figures
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.style import render_png, render_svg
from qsens.report.findings import findings_of
from qsens.report.page import render_page
from qsens.report.page_content import PageContent, Picture
from qsens.report.page_text import time_in_words
from qsens.report.run_content import (
    RunContent,
    missing_maps,
    provenance_groups,
    read_run,
)
from qsens.report.tables import sensitivity_table, trials_table
from qsens.run.connections import read_connections
from qsens.run.decisions import read_decisions
from qsens.run.evidence import load_audit
from qsens.run.paths import RunPaths


def make_report(
    run: Path, *, open_browser: bool = False, latency: Sequence[Path] = (), is_static: bool = False
) -> Path:
    """Compute what figures need beside the scores, write the report, and return the path of its page.

    A static page has no charts that move.

    Raises:
        RunFolderError, SpecError: as `qsens.report.write.write_report`.
    """
    # pandas, matplotlib and SciPy take a second to load
    from qsens.run.connections import connect_older_run
    from qsens.run.floors import floors_of

    floors_of(run)
    connect_older_run(run)
    return write_report(run, open_browser=open_browser, latency=latency, is_static=is_static)


@dataclass(frozen=True)
class ReportPaths:
    """The paths of the parts of a report."""

    page: Path
    trials_csv: Path
    trials_parquet: Path
    sensitivity_csv: Path
    figures: Path


def report_paths(run: Path) -> ReportPaths:
    """The paths to which `write_report` writes the report of the run folder `run`."""
    paths = RunPaths(run)
    return ReportPaths(
        paths.report_path,
        paths.trials_csv,
        paths.trials_parquet,
        paths.sensitivity_csv,
        paths.figures,
    )


def write_report(
    run: Path, *, open_browser: bool = False, latency: Sequence[Path] = (), is_static: bool = False
) -> Path:
    """Write tables, figures (PNG and SVG) and the page of a run folder, finished or not; the page's path.

    Only the folder is read, so it works on another machine and while a sweep is still writing. `latency` are
    more latency files, beside those in the folder; a static page has no charts that move.

    Raises:
        RunFolderError: if it is no run folder, holds no layers yet, is corrupt, or cannot be written.
        SpecError: if its `precision_map.json` or a latency file is damaged, or one is of another generator.
    """
    found, paths = read_run(run, latency), report_paths(run)
    _write_tables(paths, found)
    figures = _figures(found)
    pictures = _write_figures(paths.figures, figures)
    write_atomically(paths.page, render_page(_content(found, pictures), is_static=is_static).encode())
    if open_browser:
        webbrowser.open(paths.page.resolve().as_uri())
    return paths.page


def page_content(run: Path, *, latency: Sequence[Path] = ()) -> PageContent:
    """A run folder as `render_pages` takes it; the folder is only read.

    Raises:
        RunFolderError, SpecError: as `write_report`.
    """
    found = read_run(run, latency)
    pictures = [
        Picture(entry.heading, entry.caption, render_png(entry.figure), entry.is_detail)
        for entry in _figures(found)
    ]
    return _content(found, pictures)


def _figures(found: RunContent) -> tuple[NamedFigure, ...]:
    of_trials = figures_of(
        found.study,
        chosen=None if found.chosen is None else found.chosen.number,
        samples=found.samples,
        paired_error=found.paired_error,
        timings=found.timings,
        levels=Levels(found.floors, _finite_limits(found)),
    )
    chosen = None if found.chosen is None else found.chosen.number
    of_loop = loop_figures(found.loop, chosen)
    return (*of_trials, *of_loop, *repair_figures(found.study, found.repair.effect))


def _finite_limits(found: RunContent) -> dict[str, float]:
    return {
        metric: limit.threshold for metric, limit in found.limits.items() if math.isfinite(limit.threshold)
    }


def _content(found: RunContent, pictures: Sequence[Picture]) -> PageContent:
    run, study, chosen = found.run, found.study, found.chosen
    limits = _finite_limits(found)
    effects = [
        replace(entry, limit=limits.get(metric))
        for metric in headline_metrics(study.metrics)
        if (entry := sensitivity_of(study, metric, found.paired_error)) is not None
    ]
    return PageContent(
        run_name=visible_name(run.resolve().name),
        study=study,
        chosen=chosen,
        verdict=found.verdict,
        findings=findings_of(
            study,
            chosen,
            missing_maps(run, study),
            found.timings,
            read_range_check(RunPaths(run).range_check_path),
        ),
        pictures=pictures,
        provenance=provenance_groups(run, study),
        date=time_in_words(datetime.now(UTC)),
        timings=found.timings,
        audit={}
        if chosen is None
        else load_audit(RunPaths(run).evidence, chosen.number, chosen.digest_of("audit")),
        sensitivities=effects,
        floors=found.floors,
        samples=found.samples,
        reasons=found.reasons,
        decisions=read_decisions(RunPaths(run).decisions_path),
        repair=found.repair,
        loop=found.loop,
        notes=found.notes,
        command=found.command,
        limits=found.limits,
        connections=read_connections(run, study.layers),
    )


def _write_tables(paths: ReportPaths, found: RunContent) -> None:
    trials = trials_table(found.study, found.timings)
    write_atomically(paths.trials_csv, _csv(trials))
    write_atomically(paths.trials_parquet, _parquet(trials))
    sensitivity = sensitivity_table(found.study, paired_error=found.paired_error)
    write_atomically(paths.sensitivity_csv, _csv(sensitivity))


def _csv(frame: pd.DataFrame) -> bytes:
    cells = frame.astype(object).where(frame.notna(), None)
    return csv_text([str(name) for name in frame.columns], cells.itertuples(index=False, name=None)).encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def _write_figures(folder: Path, figures: tuple[NamedFigure, ...]) -> list[Picture]:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    pictures = []
    for entry in figures:
        png = render_png(entry.figure)
        write_atomically(folder / f"{entry.name}.png", png)
        write_atomically(folder / f"{entry.name}.svg", render_svg(entry.figure, entry.name))
        pictures.append(Picture(entry.heading, entry.caption, png, entry.is_detail))
    return pictures
