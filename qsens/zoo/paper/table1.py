"""Table 1: teacher and student in FP32, FP16, mixed precision and INT8."""

from collections.abc import Iterator

from qsens.core.layer import macs_share, weight_bytes
from qsens.core.maps import built_map
from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.zoo.paper.ablation import COMMANDS
from qsens.zoo.paper.cells import NOTHING, Cell, Column, PaperTable, Row, metric_title, score_cell
from qsens.zoo.paper.published import Published, published
from qsens.zoo.paper.runs import SweptRun

NO_TEACHER = "no teacher checkpoint given"
TRAIN_TEACHER = COMMANDS[1]
_METRICS = ("fid", "lse-d", "lse-c", "fid-fp32", "psnr", "mouth-sync", "flicker")
_PUBLISHED = frozenset({"fid", "lse-d", "lse-c"})
_STUDENT_MIX = (("MIX, output block FP16", "paper-student"),)
_TEACHER_MIX = (
    ("MIX, reading A: FE0, FE1, FD6, OUT FP16", "paper-teacher-a"),
    ("MIX, reading B: FD5 too", "paper-teacher-b"),
)
_CAPTION = (
    "Each map is simulated layer by layer and scored on the same inputs. FID: against the real frames; "
    "FID-FP32 and PSNR: against the generator's own FP32 pictures; mouth-sync: correlation of the mouth's "
    "opening with the true one; flicker: how far its change from frame to frame is from FP32's, in grey "
    "levels. The paper's values are FID with Inception features and LSE on LRS3: other data and, unless the "
    "heading says FID alone, other features. Compare within a column of ours, or within one of the paper's, "
    "never across."
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
        notes=tuple(dict.fromkeys(_notes(student, teacher))),
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
    is_theirs = run is None or run.variant == subject
    for base in _METRICS:
        known = _published(subject, name, base) if is_theirs else None
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
        yield from () if run is None else _run_notes(name, run)
    yield (
        "± is the 95% interval: of the difference to FP32 on the same inputs where it was measured, of the "
        "value itself otherwise. Weights: bytes of the parameters at their precisions."
    )


def _run_notes(name: str, run: SweptRun) -> Iterator[str]:
    yield f"The {name}: {run.generator}, {run.variant or 'another width'}, on {len(run.evaluation)} frames."
    if run.variant != name:
        yield f"Its architecture is not that of the paper's {name}: no published value stands beside it."
    if run.mouth_ceiling is not None:
        yield f"Mouth-sync of the true frames, the best that can be read: {run.mouth_ceiling:.3f}."
    if run.lip_sync_note is not None:
        yield f"LSE-D and LSE-C of the {name}: not measured: {run.lip_sync_note}."
    for warning in run.warnings:
        yield f"{warning[:1].upper()}{warning[1:]}."
