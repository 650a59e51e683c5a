"""Pictures behind Figure 4: what each generator and precision makes of the same frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.interfaces import annotation_of
from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.report.figures.strip import amplification_for
from qsens.report.run_content import sample_pictures
from qsens.run.evaluate import SHOWN_SAMPLES
from qsens.scoring.fidelity import mean_squared_errors, psnr_of_error
from qsens.zoo.paper.runs import SweptRun

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class GridColumn:
    """Pictures of one kind, uint8 (K, 3, H, W), 0 to 255, RGB; `psnr_db` against the ground truth, (K,)."""

    title: str
    images: Images
    psnr_db: tuple[float, ...] | None


@dataclass(frozen=True, eq=False)
class ErrorColumn:
    """Absolute difference to the student's FP32 pictures, averaged over colours: float32 (K, H, W)."""

    title: str
    errors: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """The figure: `rows` name speaker, clip and frame; errors are drawn times `amplification`."""

    rows: tuple[str, ...]
    columns: tuple[GridColumn, ...]
    errors: tuple[ErrorColumn, ...]
    amplification: int


def image_grid(student: SweptRun, teacher: SweptRun | None) -> ImageGrid:
    """Reference, ground truth, teacher where given, student in FP32, INT8, MIX, as the sweeps kept them."""
    indices = shown_indices(len(student.evaluation))
    known = [annotation_of(student.evaluation, index) for index in indices]
    truth = np.stack([entry["target"] for entry in known])
    made = _student_pictures(student)
    columns = [GridColumn("reference frame", _references(student, indices), None)]
    columns.append(GridColumn("ground truth", truth, None))
    pictures = {**_teacher_pictures(student, teacher), **made}
    columns += [GridColumn(title, images, _psnr_db(images, truth)) for title, images in pictures.items()]
    baseline = made.get("student FP32")
    errors = [
        ErrorColumn(f"error of {title.removeprefix('student ')}", _errors(images, baseline))
        for title, images in made.items()
        if baseline is not None and images is not baseline
    ]
    return ImageGrid(
        rows=tuple(f"{entry['clip']}\nframe {entry['frame']}" for entry in known),
        columns=tuple(columns),
        errors=tuple(errors),
        amplification=amplification_for([column.errors for column in errors]),
    )


def shown_indices(count: int) -> tuple[int, ...]:
    """Samples whose pictures a sweep over `count` samples keeps: evenly spread, so of different speakers."""
    return tuple(
        sorted(set(np.linspace(0, count - 1, min(SHOWN_SAMPLES, count)).round().astype(int).tolist()))
    )


def grid_records(grid: ImageGrid) -> list[dict[str, object]]:
    """One record a picture, for the CSV file."""
    return [
        {
            "sample": row.replace("\n", " "),
            "picture": column.title,
            "PSNR to the ground truth, dB": value,
        }
        for column in grid.columns
        if column.psnr_db is not None
        for row, value in zip(grid.rows, column.psnr_db, strict=True)
    ]


def _student_pictures(student: SweptRun) -> dict[str, Images]:
    trials = {
        "student FP32": student.uniform_trial(Precision.FP32),
        "student INT8": student.uniform_trial(Precision.INT8),
        "student MIX": student.preset_trial("paper-student"),
    }
    return _kept(student, trials)


def _teacher_pictures(student: SweptRun, teacher: SweptRun | None) -> dict[str, Images]:
    """None where the teacher was scored on other samples: rows would not be the same frames."""
    if teacher is None or teacher.evaluation.digest != student.evaluation.digest:
        return {}
    return _kept(teacher, {"teacher FP32": teacher.uniform_trial(Precision.FP32)})


def _kept(run: SweptRun, trials: Mapping[str, Trial | None]) -> dict[str, Images]:
    numbers = {title: trial.number for title, trial in trials.items() if trial is not None}
    pictures = sample_pictures(run.folder, numbers.values())
    return {title: pictures[number] for title, number in numbers.items() if number in pictures}


def _references(run: SweptRun, indices: tuple[int, ...]) -> Images:
    """The unmasked face that the generator is shown, RGB."""
    faces = np.stack([run.evaluation.sample(index)["face"] for index in indices])
    pictures: Images = np.clip(faces[:, 5:2:-1] * 255 + 0.5, 0, 255).astype(np.uint8)
    return pictures


def _psnr_db(images: Images, truth: Images) -> tuple[float, ...]:
    return tuple(psnr_of_error(float(error)) for error in mean_squared_errors(images, truth))


def _errors(images: Images, baseline: Any) -> NDArray[np.float32]:
    difference = np.abs(images.astype(np.float32) - baseline.astype(np.float32))
    averaged: NDArray[np.float32] = difference.mean(axis=1)
    return averaged
