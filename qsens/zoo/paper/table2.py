"""Table 2: sizes of the generators, and what trainings of them score on our corpus."""

from collections.abc import Iterator, Mapping

from qsens.core.precision import Precision
from qsens.zoo.paper.ablation import COMMANDS, TRAININGS, Training
from qsens.zoo.paper.cells import Cell, Column, PaperTable, Row, metric_title, score_cell
from qsens.zoo.paper.published import published
from qsens.zoo.paper.runs import SweptRun
from qsens.zoo.wav2lip.table2 import CUT_INNER_IS_A_GUESS, WHY_TWO_COUNTS, generator_rows
from qsens.zoo.wav2lip.table2 import Row as SizeRow

NOT_GIVEN = "no checkpoint given"
_METRICS = (("fid", True), ("lse-d", True), ("lse-c", True), ("mouth-sync", False))
_SIZES_CAPTION = (
    "Parameters include biases and normalisation, as in the paper; MACs are of one 96x96 frame. Ratios are "
    "the teacher's cost over this one's."
)
_QUALITY_CAPTION = (
    "Our corpus of drawn, synthesised speakers stands in for LRS3, in training and in evaluation: compare "
    "the order of the rows with the paper's, not the values. FP32, on speakers that no training has seen."
)


def sizes_table() -> PaperTable:
    """Parameters and multiply-accumulates of the family, ours beside the published ones."""
    columns = (
        Column("parameters", "parameters", is_published=True),
        Column("macs", "MACs as the paper counts", is_published=True),
        Column("true-macs", "true MACs"),
    )
    rows = tuple(Row((entry.name, entry.title), tuple(_size_cells(entry))) for entry in generator_rows())
    return PaperTable(
        name="table2-sizes",
        title="Table 2, sizes",
        label_titles=("generator", "what it is"),
        columns=columns,
        rows=rows,
        caption=_SIZES_CAPTION,
        notes=(WHY_TWO_COUNTS, CUT_INNER_IS_A_GUESS),
    )


def quality_table(runs: Mapping[str, SweptRun], shipped: SweptRun | None) -> PaperTable:
    """One row a training; `runs` are scored checkpoints by row, `shipped` the student of this run."""
    scored = [*runs.values(), *([] if shipped is None else [shipped])]
    studies = [run.study for run in scored]
    columns = [Column(base, metric_title(studies, base), known) for base, known in _METRICS]
    rows = [_training_row(training, runs.get(training.name)) for training in TRAININGS]
    if shipped is not None:
        labels = (f"{shipped.generator} (this run's)", shipped.variant or "another width", "—", "—")
        rows.append(Row(labels, tuple(_quality_cells(shipped, None))))
    return PaperTable(
        name="table2-quality",
        title="Table 2, quality, on our corpus in place of LRS3",
        label_titles=("training", "generator", "distilled", "sync loss from"),
        columns=tuple(columns),
        rows=tuple(rows),
        caption=_QUALITY_CAPTION,
        notes=tuple(_quality_notes(runs, scored)),
    )


def _size_cells(entry: SizeRow) -> Iterator[Cell]:
    cost = entry.cost
    yield Cell(
        f"{cost.parameters:,} ({entry.parameters_ratio:.1f}x)",
        cost.parameters,
        published=published(entry.name, "parameters"),
    )
    yield Cell(
        f"{cost.macs_torchprofile / 1e9:.4f}G ({entry.macs_paper_ratio:.1f}x)",
        cost.macs_torchprofile,
        published=published(entry.name, "macs"),
    )
    yield Cell(f"{cost.macs / 1e9:.4f}G ({entry.macs_ratio:.1f}x)", cost.macs)


def _training_row(training: Training, run: SweptRun | None) -> Row:
    labels = (training.name, training.variant, training.distilled, training.sync)
    return Row(labels, tuple(_quality_cells(run, training.subject)))


def _quality_cells(run: SweptRun | None, subject: str | None) -> Iterator[Cell]:
    for base, _ in _METRICS:
        known = None if subject is None else published(subject, base)
        if run is None:
            yield Cell(NOT_GIVEN if base == _METRICS[0][0] else "—", published=known)
        else:
            yield score_cell(run.study, run.uniform_trial(Precision.FP32), base, known)


def _quality_notes(runs: Mapping[str, SweptRun], scored: list[SweptRun]) -> Iterator[str]:
    if any(training.name not in runs for training in TRAININGS):
        expert, teacher, student = COMMANDS
        yield (
            f"To fill a row: `{expert}`, then `{teacher}`, then `{student}` with the row's name for ROW (a "
            "shipped spec; without `--teacher` where the row is not distilled offline). Name the weights "
            "in a TOML file, one line a row below `[checkpoints]`, and add `--checkpoints FILE`."
        )
    yield (
        "The paper's values of its distilled student stand at student-bare-kd-start; which schedule its sync "
        "loss had is not known to us."
    )
    yield f"Published without distillation, with no row of ours for want of its schedule: {_unassigned()}."
    yield from sorted({f"LSE: not measured: {run.lip_sync_note}." for run in scored if run.lip_sync_note})


def _unassigned() -> str:
    """Published values of the ablation whose sync schedule is not known."""
    parts = []
    for subject, words in (("student", "residual layers removed"), ("student-residual", "kept")):
        known = (published(f"ablation/{subject}", base) for base, _ in _METRICS)
        texts = [f"{entry.quantity.upper()} {entry.text}" for entry in known if entry is not None]
        parts.append(f"{words}: {', '.join(texts)}")
    start = published("ablation/sync-from-start", "fid")
    if start is not None:
        parts.append(f"with the sync loss from the start: FID {start.text} ({start.note})")
    return "; ".join(parts)
