"""Writes the report of a run folder: tables, figures and `report.html`, from the folder alone."""

import io
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from qsens.atomic_write import write_atomically, write_error
from qsens.audits import load_audit
from qsens.floor import read_floors
from qsens.paired_errors import PairedError, paired_errors
from qsens.report.figure_style import render_png, render_svg
from qsens.report.findings import findings_of
from qsens.report.metric_names import headline_metrics
from qsens.report.page import PageContent, Picture, render_page
from qsens.report.plots import NamedFigure, figures_of
from qsens.report.run_content import (
    chosen_document,
    evidence_links,
    missing_maps,
    provenance_groups,
    run_timings,
    sample_pictures,
    verdict_text,
)
from qsens.report.strip_data import strip_choices
from qsens.report.tables import sensitivity_table, trials_table
from qsens.run_folder import RunPaths, read_study
from qsens.timings import Timings
from qsens.trial import Study


@dataclass(frozen=True)
class ReportPaths:
    """Where the parts of a report lie."""

    page: Path
    trials_csv: Path
    trials_parquet: Path
    sensitivity_csv: Path
    figures: Path


def report_paths(run: Path) -> ReportPaths:
    """Where `write_report` puts the report of the run folder `run`."""
    paths = RunPaths(run)
    return ReportPaths(
        paths.report_path,
        run / "trials.csv",
        run / "trials.parquet",
        run / "sensitivity.csv",
        paths.figures,
    )


def write_report(run: Path, *, open_browser: bool = False, latency: Sequence[Path] = ()) -> Path:
    """Write tables, figures (PNG and SVG) and the page of a run folder, finished or not; the page's path.

    Only the folder is read, so it works on another machine and while a sweep is still writing. `latency` are
    more latency files, beside those in the folder.

    Raises:
        RunFolderError: if it is no run folder, holds no layers yet, is corrupt, or cannot be written.
        SpecError: if its `precision_map.json` or a latency file is damaged, or one is of another generator.
    """
    study = read_study(run)
    document = chosen_document(run, study)
    chosen = None if document is None else int(document["trial"])
    paths, paired_error = report_paths(run), paired_errors(RunPaths(run).evidence)
    timings = run_timings(run, study, latency)
    _write_tables(paths, study, paired_error, timings)
    samples = sample_pictures(run, _shown_trials(study, chosen))
    kept_floors = read_floors(run)
    figures = figures_of(
        study,
        chosen=chosen,
        samples=samples,
        paired_error=paired_error,
        timings=timings,
        floors={} if kept_floors is None else kept_floors.floors,
    )
    trial = next((trial for trial in study.trials if trial.number == chosen), None)
    content = PageContent(
        run_name=run.resolve().name,
        study=study,
        chosen=trial,
        verdict=verdict_text(document),
        findings=findings_of(study, trial, missing_maps(run, study), timings),
        pictures=_write_figures(paths.figures, figures),
        evidence=evidence_links(run, study),
        provenance=provenance_groups(run, study),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        timings=timings,
        audit={} if trial is None else load_audit(RunPaths(run).evidence, trial.number),
    )
    write_atomically(paths.page, render_page(content).encode())
    if open_browser:
        webbrowser.open(paths.page.resolve().as_uri())
    return paths.page


def _shown_trials(study: Study, chosen: int | None) -> tuple[int, ...]:
    """Trials whose pictures are needed."""
    if not study.metrics:
        return ()
    metric = headline_metrics(study.metrics)[0]
    return tuple(choice.trial for choice in strip_choices(study, metric, chosen))


def _write_tables(
    paths: ReportPaths, study: Study, paired_error: PairedError, timings: Sequence[Timings]
) -> None:
    trials = trials_table(study, timings)
    write_atomically(paths.trials_csv, trials.to_csv(index=False).encode())
    write_atomically(paths.trials_parquet, _parquet(trials))
    sensitivity = sensitivity_table(study, paired_error=paired_error)
    write_atomically(paths.sensitivity_csv, sensitivity.to_csv(index=False).encode())


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
