"""Table 1: teacher and student in FP32, FP16, mixed precision and INT8."""

from collections.abc import Iterator

from qsens.layer import macs_share, weight_bytes
from qsens.precision import Precision
from qsens.selection import built_map
from qsens.trial import Trial
from qsens.zoo.paper.ablation import TRAININGS
from qsens.zoo.paper.cells import NOTHING, Cell, Column, PaperTable, Row, metric_title, score_cell
from qsens.zoo.paper.published import Published, published
from qsens.zoo.paper.runs import SweptRun

NO_TEACHER = "no teacher checkpoint given"
TRAIN_TEACHER = TRAININGS[0].command
_METRICS = ("fid", "lse-d", "lse-c", "fid-fp32", "psnr", "mouth-sync", "flicker")
_PUBLISHED = frozenset({"fid", "lse-d", "lse-c"})
_STUDENT_MIX = (("MIX, output block FP16", "paper-student"),)
_TEACHER_MIX = (
    ("MIX, reading A: FE0, FE1, FD6, OUT FP16", "paper-teacher-a"),
    ("MIX, reading B: FD5 too", "paper-teacher-b"),
)
_CAPTION = (
    "Each map is simulated layer by layer and scored on the same inputs. The paper's values are FID with "
    "Inception features and LSE on LRS3: other data and, unless the heading says FID alone, other features. "
    "Compare within a column of ours, or within one of the paper's, never across."
)


def table1(student: SweptRun | None, teacher: SweptRun | None) -> PaperTable:
    """Rows of both generators; cells of one that was not given say so."""
    studies = [run.study for run in (student, teacher) if run is not None]
    columns = [Column(base, metric_title(studies, base), base in _PUBLISHED) for base in _METRICS]
    columns += [Column("share", "MACs in INT8"), Column("weights", "weights, MB"), Column("trial", "trial")]
    rows = (*_rows("teacher", teacher, _TEACHER_MIX), *_rows("student", student, _STUDENT_MIX))
    return PaperTable(
        name="table1",
        title="Table 1. Precisions of teacher and student",
        label_titles=("generator", "map"),
        columns=tuple(columns),
        rows=rows,
        caption=_CAPTION,
        notes=tuple(_notes(student, teacher)),
    )


def _rows(subject: str, run: SweptRun | None, mixed: tuple[tuple[str, str], ...]) -> tuple[Row, ...]:
    found: list[tuple[str, str, Trial | None]] = []
    for precision in Precision:
        if precision is Precision.INT8:
            found += [(title, "MIX", run.preset_trial(preset) if run else None) for title, preset in mixed]
        found.append((precision.upper(), precision.upper(), run.uniform_trial(precision) if run else None))
    return tuple(
        Row((subject, title), tuple(_cells(subject, name, run, trial))) for title, name, trial in found
    )


def _cells(subject: str, name: str, run: SweptRun | None, trial: Trial | None) -> Iterator[Cell]:
    for base in _METRICS:
        known = _published(subject, name, base)
        if run is None:
            yield Cell(_missing(subject) if base == _METRICS[0] else NOTHING, published=known)
        else:
            yield score_cell(run.study, trial, base, known)
    if run is None or trial is None:
        yield from (Cell(),) * 3
        return
    built, layers = built_map(trial), run.study.layers
    share, size = macs_share(layers, built, Precision.INT8), weight_bytes(layers, built) / 1e6
    yield Cell(f"{share:.1%}", share)
    yield Cell(f"{size:.2f}", size)
    yield Cell(str(trial.number), trial.number)


def _published(subject: str, name: str, base: str) -> Published | None:
    """Values stated for a generator alone are those of FP32."""
    return published(subject if name == "FP32" else f"{subject}/{name}", base)


def _missing(subject: str) -> str:
    return NO_TEACHER if subject == "teacher" else f"no {subject} checkpoint given"


def _notes(student: SweptRun | None, teacher: SweptRun | None) -> Iterator[str]:
    if teacher is None:
        yield (
            f"The teacher: train one with `{TRAIN_TEACHER}` and add "
            "`--teacher teacher/generator.safetensors`."
        )
    else:
        yield "The paper's words for the teacher's MIX allow two readings (its footnote 2); both are scored."
    for name, run in (("student", student), ("teacher", teacher)):
        if run is not None and run.lip_sync_note is not None:
            yield f"LSE-D and LSE-C of the {name}: not measured: {run.lip_sync_note}."
    yield (
        "± is the 95% interval: of the difference to FP32 on the same inputs where it was measured, of the "
        "value itself otherwise. Weights: bytes of the parameters at their precisions."
    )
