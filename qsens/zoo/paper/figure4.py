"""Figure 4 with its pictures: the same frames by every generator and precision, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.report.figures.strip import amplification_for
from qsens.report.figures.style import FAINT, INK, SMALL, add_header, new_figure, set_layout
from qsens.report.run_content import sample_pictures
from qsens.run.evaluate import SHOWN_SAMPLES
from qsens.scoring.fidelity import mean_squared_errors, psnr_of_error
from qsens.zoo.paper.runs import SweptRun

Images = NDArray[np.uint8]
_SIDE = 1.5
_COLOURS = "inferno"


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
    known = [student.evaluation.annotation(index) for index in indices]
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
    known = {title: trial for title, trial in trials.items() if trial is not None}
    pictures = sample_pictures(run.folder, known.values())
    return {title: pictures[trial.number] for title, trial in known.items() if trial.number in pictures}


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


def figure4(grid: ImageGrid) -> Figure:
    """A row a speaker, a column a kind of picture; error maps against the student's FP32 at the right."""
    rows, columns = len(grid.rows), len(grid.columns) + len(grid.errors)
    figure = new_figure((_SIDE + 0.06) * columns + 1.6, (_SIDE + 0.06) * rows + 1.2)
    set_layout(figure, w_pad=0.02, h_pad=0.02, hspace=0.0, wspace=0.0)
    panels = figure.subplots(rows, columns, squeeze=False)
    norm = Normalize(0, 255 / grid.amplification)
    for place, column in enumerate(grid.columns):
        panels[0, place].set_title(column.title, fontsize=SMALL + 0.5, color=INK)
        for row in range(rows):
            _show(panels[row, place], column.images[row].transpose(1, 2, 0), None)
            if column.psnr_db is not None:
                panels[row, place].set_xlabel(
                    f"{column.psnr_db[row]:.1f} dB", fontsize=SMALL - 0.5, labelpad=1
                )
    for place, error in enumerate(grid.errors, len(grid.columns)):
        panels[0, place].set_title(error.title, fontsize=SMALL + 0.5, color=FAINT)
        for row in range(rows):
            _show(panels[row, place], error.errors[row], norm)
    for row, name in enumerate(grid.rows):
        panels[row, 0].set_ylabel(name, fontsize=SMALL, color=INK)
    if grid.errors:
        _add_bar(figure, panels, norm)
    add_header(figure, "Figure 4. The same frames by every precision", {}, _note(grid))
    return figure


def _note(grid: ImageGrid) -> str:
    text = "Generators see the upper half of the true frame, the reference frame and 0.2 s of sound."
    if any(column.psnr_db is not None for column in grid.columns):
        text += " Numbers: PSNR against the ground truth."
    if grid.errors:
        text += (
            f" Error maps: absolute difference to the student's FP32 picture, averaged over colours, "
            f"amplified x{grid.amplification}."
        )
    return text


def _add_bar(figure: Figure, panels: Any, norm: Normalize) -> None:
    source = ScalarMappable(norm, colormaps[_COLOURS])
    shrink = min(1.0, 3.5 / len(panels))
    bar = figure.colorbar(source, ax=panels, extend="max", shrink=shrink, aspect=25, pad=0.01)
    bar.set_label("error against FP32, 8-bit levels", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL - 0.5)


def _show(axes: Axes, picture: Any, norm: Normalize | None) -> None:
    if norm is None:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture, cmap=colormaps[_COLOURS], norm=norm, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
