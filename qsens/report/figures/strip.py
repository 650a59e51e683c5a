"""Image strips: the same inputs under several maps, with amplified error maps against FP32."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from qsens.core.maps import Direction, anchor_name, anchor_trial, built_map
from qsens.core.metric_names import short_name
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.comparable import scored_trials
from qsens.report.difference_maps import LEVELS, Difference
from qsens.report.figures.boundary_curve import boundary_lines
from qsens.report.figures.style import FAINT, INK, SMALL, TEXT, add_header, new_figure, set_layout
from qsens.selection.choose import pareto_front

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


MOST_COLUMNS = 8
MOST_INPUTS = 4
_SPREAD = 3
_LONGER_SIDE = 1.55
_COLOURS = "inferno"


@dataclass(frozen=True)
class StripChoice:
    """A trial worth showing and why: its column's title."""

    trial: int
    title: str


@dataclass(frozen=True, eq=False)
class StripColumn:
    """One map's pictures. images: uint8 (K, 3, H, W), 0 to 255, RGB; errors: float32 (K, H, W)."""

    choice: StripChoice
    images: "Array"
    errors: "Array"


@dataclass(frozen=True, eq=False)
class ImageStrip:
    """Columns of the same inputs; errors, which `difference` makes, are drawn times `amplification`."""

    columns: tuple[StripColumn, ...]
    amplification: int
    difference: Difference = LEVELS


def strip_choices(study: Study, metric: str, chosen: int | None = None) -> tuple[StripChoice, ...]:
    """FP32, all-FP16, all-INT8, the chosen and the worst map and a few between; eight at most."""
    titles: dict[int, str] = {}
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            titles[trial.number] = anchor_name(precision, study.layers)
    if chosen is not None:
        titles[chosen] = f"{titles[chosen]} (chosen)" if chosen in titles else "chosen map"
    scored = scored_trials(study, metric)
    if scored:
        score = scored[0].trial.score(metric)
        sign = 1.0 if score is None or score.lower_is_better else -1.0
        worst = max(scored, key=lambda entry: sign * entry.value)
        titles.setdefault(worst.trial.number, f"worst {short_name(metric)}")
    if not scored:
        return tuple(StripChoice(number, title) for number, title in titles.items())
    for number, title in _spread_maps(study, metric, MOST_COLUMNS - len(titles), titles):
        titles.setdefault(number, title)
    return tuple(StripChoice(number, title) for number, title in titles.items())


def image_strip(
    choices: Iterable[StripChoice],
    samples: "Mapping[int, Array]",
    baseline: int | None,
    difference: Difference = LEVELS,
) -> ImageStrip | None:
    """Columns of the choices that have pictures; `None` without FP32's pictures.

    samples: by trial number, uint8 (K, 3, H, W), 0 to 255, RGB. `baseline` is FP32's trial number.
    Pictures of another shape than FP32's are left out.
    """
    if baseline is None or baseline not in samples:
        return None
    reference = samples[baseline][:MOST_INPUTS]
    columns = []
    for choice in choices:
        images = samples.get(choice.trial)
        if images is None or images[:MOST_INPUTS].shape != reference.shape:
            continue
        images = images[:MOST_INPUTS]
        columns.append(StripColumn(choice, images, difference.of(images, reference)))
    levels = [column.errors * (255.0 / difference.full_scale) for column in columns]
    return ImageStrip(tuple(columns), amplification_for(levels), difference)


def amplification_for(errors: "Sequence[Array]") -> int:
    """The power of two, 1 to 64, that brings a mild map's 99th percentile error near full scale.

    Mild is the lower quartile of the maps with any error: a collapsed map needs no magnifying glass.
    """
    peaks = [float(np.percentile(values, 99)) for values in errors if values.any()]
    if not peaks:
        return 1
    return int(2 ** np.clip(np.floor(np.log2(255 / max(float(np.quantile(peaks, 0.25)), 1.0))), 0, 6))


def _spread_maps(study: Study, metric: str, wanted: int, taken: Iterable[int]) -> list[tuple[int, str]]:
    """Cuts spread over the longest boundary line; without one, maps spread over the Pareto front."""
    lines = boundary_lines(study, metric)
    if lines:
        line = max(lines, key=lambda entry: (len(entry.points), entry.direction is Direction.INT8_FIRST))
        side = line.float_precision.upper()
        sides = f"INT8, then {side}" if line.direction is Direction.INT8_FIRST else f"{side}, then INT8"
        titles = {point.trial: f"boundary {point.boundary}\n{sides}" for point in line.points}
    else:
        front = pareto_front(study, metric)
        titles = {trial.number: _folded(study.shapes.map_title(built_map(trial))) for trial in front}
    numbers = [number for number in titles if number not in set(taken)]
    places = np.linspace(0, len(numbers) - 1, max(min(wanted, _SPREAD, len(numbers)), 0))
    return [(numbers[place], titles[numbers[place]]) for place in places.round().astype(int)]


def _folded(title: str) -> str:
    return "\n".join(textwrap.wrap(title, 18))


def strip_figure(strip: ImageStrip, title: str) -> Figure:
    """Columns are maps, each input has a row of pictures and a row of error maps below it."""
    count, _, high, wide = strip.columns[0].images.shape
    scale = _LONGER_SIDE / max(high, wide)
    width, height = wide * scale, high * scale
    rows, columns = 2 * count, len(strip.columns)
    figure = new_figure(max((width + 0.08) * columns + 1.4, 6.0), (height + 0.08) * rows + 1.5)
    set_layout(figure, w_pad=0.02, h_pad=0.02, hspace=0.0, wspace=0.0)
    panels = figure.subplots(rows, columns, squeeze=False)
    difference = strip.difference
    norm = Normalize(0, difference.full_scale / strip.amplification)
    for place, column in enumerate(strip.columns):
        panels[0, place].set_title(_column_title(column), fontsize=SMALL, color=INK)
        for index in range(count):
            _show(panels[2 * index, place], column.images[index].transpose(1, 2, 0), None)
            _show(panels[2 * index + 1, place], column.errors[index], norm)
    for index in range(count):
        panels[2 * index, 0].set_ylabel(f"input {index + 1}", fontsize=SMALL, color=INK)
        panels[2 * index + 1, 0].set_ylabel(
            f"{difference.name} x{strip.amplification}", fontsize=SMALL, color=FAINT
        )
    source = ScalarMappable(norm, colormaps[_COLOURS])
    bar = figure.colorbar(source, ax=panels, extend="max", shrink=min(1.0, 6 / rows), aspect=25, pad=0.01)
    bar.set_label(f"against FP32: {difference.unit}", fontsize=TEXT - 1)
    bar.ax.tick_params(labelsize=SMALL)
    note = (
        f"Error maps: {difference.title}, amplified x{strip.amplification} "
        "(full scale is the top of the colour bar; larger errors are clipped)."
    )
    add_header(figure, title, {}, note)
    return figure


def _column_title(column: StripColumn) -> str:
    return f"{column.choice.title}\ntrial {column.choice.trial}"


def _show(axes: Axes, picture: Any, norm: Normalize | None) -> None:
    if norm is None:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture, cmap=colormaps[_COLOURS], norm=norm, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
