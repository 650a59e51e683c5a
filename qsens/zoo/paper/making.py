"""Makes the tables and figures of a request and writes them into its folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.figure import Figure

from qsens.core.csv_text import csv_of_records
from qsens.core.files import write_atomically, write_error
from qsens.core.interfaces import Progress
from qsens.report.figures.devices import device_groups, devices_figure
from qsens.report.figures.style import render_png, render_svg
from qsens.report.run_content import provenance_groups
from qsens.run.loop import StoppedError
from qsens.selection.timings import read_latency_table
from qsens.zoo.paper.cells import PaperTable
from qsens.zoo.paper.figure1 import Network, figure1, networks
from qsens.zoo.paper.figure3 import AXIS, boundary_records, figure3, published_anchors
from qsens.zoo.paper.figure4 import figure4, grid_records, image_grid
from qsens.zoo.paper.page import Page, Section, render_html, render_markdown
from qsens.zoo.paper.request import WITHOUT_SWEEPS, PaperRequest
from qsens.zoo.paper.runs import RunPlan, SweptRun, run_plan
from qsens.zoo.paper.table1 import table1
from qsens.zoo.paper.table2 import quality_table, sizes_table
from qsens.zoo.paper.table4 import table4
from qsens.zoo.talker.demo import TalkerDemo

_CORPUS = (
    "All quality here is measured on our corpus of drawn faces with synthesised speech, or on the sets named "
    "on the command line; the paper's is measured on LRS3. Its values stand beside ours for their order and "
    "their differences."
)
_NO_TEACHER = "The teacher's column is left out: no teacher checkpoint given."


@dataclass(frozen=True, eq=False)
class Runs:
    """The sweeps that a request asked for."""

    student: SweptRun | None
    teacher: SweptRun | None
    checkpoints: Mapping[str, SweptRun]

    def by_folder(self) -> dict[str, SweptRun]:
        """Every run by the name of its folder."""
        found = [run for run in (self.student, self.teacher) if run is not None]
        return {run.folder.name: run for run in (*found, *self.checkpoints.values())}


def make_paper(request: PaperRequest, *, progress: Progress, hear: Callable[[str], None]) -> Path:
    """Run or resume the sweeps, write tables, figures and both pages; returns the path of `paper.html`.

    Raises:
        QsensError: with what is wrong and what to do.
        StoppedError: after Ctrl-C; the same command goes on where this one stopped.
    """
    request.check_weights()
    _make_folder(request.out)
    _make_folder(request.out / "figures")
    runs = run_sweeps(request, progress=progress, hear=hear)
    try:
        return _write(request, runs)
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped while drawing, all sweeps are saved", "the same command draws what is missing"
        ) from None


def run_sweeps(request: PaperRequest, *, progress: Progress, hear: Callable[[str], None]) -> Runs:
    """The sweeps that the parts of the request need. Raises as `make_paper`."""
    if set(request.parts) <= WITHOUT_SWEEPS:
        return Runs(None, None, {})

    def swept(plan: RunPlan | None) -> SweptRun | None:
        return None if plan is None else run_plan(plan, progress=progress, hear=hear)

    student = swept(request.student_plan() if request.wants_student else None)
    teacher = swept(request.teacher_plan())
    plans = request.checkpoint_plans() if "table2" in request.parts else {}
    others = {name: run_plan(plan, progress=progress, hear=hear) for name, plan in plans.items()}
    return Runs(student, teacher, others)


def sections_of(request: PaperRequest, runs: Runs) -> list[Section]:
    """The sections of the page; their figures and CSV files are written on the way."""
    makers: dict[str, Callable[[Path, Runs], Section | None]] = {
        "figure1": _figure1, "table1": _table1, "table2": _table2, "figure3": _figure3, "figure4": _figure4,
    }  # fmt: skip
    made = [makers[part](request.out, runs) for part in request.parts if part in makers]
    if "table4" in request.parts and request.latency:
        made.append(_table4(request.out, request.latency))
    return [section for section in made if section is not None]


def _write(request: PaperRequest, runs: Runs) -> Path:
    sections = sections_of(request, runs)
    notes = TalkerDemo().notes() if runs.student is not None and request.student is None else ()
    page = Page(
        command=request.command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        introduction=(_CORPUS, *notes) if runs.by_folder() else (),
        sections=sections,
        provenance={name: provenance_groups(run.folder, run.study) for name, run in runs.by_folder().items()},
    )
    write_atomically(request.out / "paper.md", render_markdown(page).encode())
    write_atomically(request.out / "paper.html", render_html(page).encode())
    return request.out / "paper.html"


def _figure1(out: Path, _: Runs) -> Section:
    counted = networks()
    _write_csv(out / "figure1.csv", [_network_record(network) for network in counted])
    text = (
        "Counted by us from the shapes alone. Published values: torchvision's for the classifiers, the "
        "paper's for the generators, in the paper's way of counting. Which talking-face generators the "
        "paper's own Figure 1 shows is not known to us."
    )
    return _drawn(out, "figure1", "Figure 1. What one picture costs", figure1(counted), (text,))


def _table1(out: Path, runs: Runs) -> Section:
    return _tables(out, (table1(runs.student, runs.teacher),))


def _table2(out: Path, runs: Runs) -> Section:
    trained = {**runs.checkpoints, **({} if runs.teacher is None else {"teacher": runs.teacher})}
    return _tables(out, (sizes_table(), quality_table(trained, runs.student)), "Table 2. Sizes and quality")


def _figure3(out: Path, runs: Runs) -> Section | None:
    if runs.student is None:
        return None
    _write_csv(out / "figure3.csv", list(boundary_records(runs.student)))
    text = f"{AXIS} {published_anchors()}"
    return _drawn(out, "figure3", "Figure 3. FID against the boundary", figure3(runs.student), (text,))


def _figure4(out: Path, runs: Runs) -> Section | None:
    if runs.student is None:
        return None
    grid = image_grid(runs.student, runs.teacher)
    _write_csv(out / "figure4.csv", grid_records(grid))
    missing = () if runs.teacher is not None else (_NO_TEACHER,)
    return _drawn(out, "figure4", "Figure 4. The same frames by every precision", figure4(grid), missing)


def _table4(out: Path, files: Sequence[Path]) -> Section:
    groups = device_groups([read_latency_table(path) for path in files])
    drawn = _drawn(out, "figure5", "Table 4 and Figure 5. Latency on devices", devices_figure(groups), ())
    return replace(drawn, tables=_tables(out, (table4(groups),)).tables)


def _network_record(network: Network) -> dict[str, object]:
    return {
        "network": network.name,
        "title": network.title,
        "generator": network.is_generator,
        "parameters": network.work.parameters,
        "MACs": network.work.macs,
        "MACs as the paper counts": network.work.macs_paper,
        "MACs a second at 25 frames": network.macs_per_second,
        "published MACs": network.published_macs,
        "published by": network.published_source,
    }


def _tables(out: Path, tables: tuple[PaperTable, ...], heading: str | None = None) -> Section:
    for table in tables:
        _write_csv(out / f"{table.name}.csv", table.records())
    return Section(heading or tables[0].title, tables=tables)


def _drawn(out: Path, stem: str, heading: str, figure: Figure, paragraphs: tuple[str, ...]) -> Section:
    png = render_png(figure)
    write_atomically(out / "figures" / f"{stem}.png", png)
    write_atomically(out / "figures" / f"{stem}.svg", render_svg(figure, stem))
    return Section(heading, paragraphs, stem=stem, png=png)


def _write_csv(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    write_atomically(path, csv_of_records(records).encode())


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
