"""The heat map of float ends: score by how many first and last layers stay in float."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from qsens.core.maps import Ends
from qsens.core.metric_names import axis_title, format_value
from qsens.core.trial import Study
from qsens.report.comparable import scored_trials
from qsens.report.figures.boundary_curve import axis_scale
from qsens.report.figures.style import (
    CHOSEN,
    INK,
    LIMIT,
    LIMIT_LOOK,
    SMALL,
    TEXT,
    add_header,
    marker_handle,
    new_figure,
    plain_number,
    value_label,
)
from qsens.report.figures.yardstick_axis import (
    NOTE,
    SideLabel,
    YardstickTick,
    draw_side_labels,
    tick_labels,
    yardstick_ticks,
)

_Cells = np.ndarray[Any, np.dtype[Any]]
_MOST_TEXT = 12
_EMPTY = "#eeeeee"
_SIDE_LABELS = 1.2
_SHORTEST = 1.5


@dataclass(frozen=True)
class EndsCell:
    """One scored map: `first` and `last` layers in float, all between them INT8."""

    first: int
    last: int
    value: float
    trial: int


@dataclass(frozen=True)
class EndsGrid:
    """All cells of one metric; `firsts` and `lasts` are the axis values in order, counts of layers.

    `yardsticks`: what the metric shows of FP32's own pictures after alterations; `limit`: the worst
    acceptable score.
    """

    metric: str
    lower_is_better: bool
    firsts: tuple[int, ...]
    lasts: tuple[int, ...]
    cells: tuple[EndsCell, ...]
    scale: str
    chosen: EndsCell | None
    yardsticks: tuple[YardstickTick, ...] = ()
    limit: float | None = None

    def is_beyond(self, value: float) -> bool:
        """Whether a score is worse than the limit."""
        if self.limit is None:
            return False
        return value > self.limit if self.lower_is_better else value < self.limit


def ends_grid(study: Study, metric: str, chosen: int | None = None) -> EndsGrid | None:
    """The grid of one metric; `None` unless maps with both ends in float were tried on purpose.

    Cells with one end only come from boundary cuts as well. A single unit in INT8 has two float ends too,
    but belongs to the sensitivity bars; unless half of the mixed maps are ends, there is no grid.
    """
    found: dict[Ends, EndsCell] = {}
    both: list[Ends] = []
    mixed_maps = 0
    scored = scored_trials(study, metric)
    for entry in scored:
        applied = entry.trial.applied
        ends = None if applied is None else study.shapes.ends_of(applied)
        mixed_maps += applied is not None and len(study.shapes.cuts_of(applied)) != 2
        if applied is None or ends is None or not math.isfinite(entry.value):
            continue
        found.setdefault(ends, EndsCell(ends.first, ends.last, entry.value, entry.trial.number))
        if ends.first and ends.last and not study.shapes.isolations_of(applied):
            both.append(ends)
    if len(both) < 2 or 2 * len(found) < mixed_maps:
        return None
    score = scored[0].trial.score(metric)
    # A boundary sweep beside the ends would fill one row and one column, far beyond the ends that were tried.
    firsts, lasts = ({0, *(getattr(ends, side) for ends in both)} for side in ("first", "last"))
    cells = tuple(cell for ends, cell in found.items() if ends.first in firsts and ends.last in lasts)
    lower = score is None or score.lower_is_better
    return EndsGrid(
        metric,
        lower,
        tuple(sorted(firsts)),
        tuple(sorted(lasts)),
        cells,
        axis_scale([cell.value for cell in cells], is_ratio=lower),
        next((cell for cell in cells if cell.trial == chosen), None),
        yardstick_ticks(study, metric),
    )


def ends_figure(grids: Sequence[EndsGrid], title: str, answer: str = "") -> Figure:
    """One heat map a metric; darker is worse, the value is written where cells are large enough.

    `answer` is a sentence below the title.
    """
    rows = max(len(grid.firsts) for grid in grids)
    columns = max(len(grid.lasts) for grid in grids)
    side = 0.52 if max(rows, columns) <= _MOST_TEXT else 0.3
    has_yardsticks = any(grid.yardsticks for grid in grids)
    has_labels = has_yardsticks or any(grid.limit is not None for grid in grids)
    width = max(side * columns + 1.9, 3.6) + (_SIDE_LABELS if has_labels else 0.0)
    figure = new_figure(max(width * len(grids), 5.5), max(side * rows, 1.5) + 2.2)
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    for panel, grid in zip(panels, grids, strict=True):
        _draw_grid(figure, panel, grid)
    has_chosen = any(grid.chosen for grid in grids)
    entries = {"not scored": marker_handle("s", "#bbbbbb", _EMPTY, 9)}
    if has_chosen:
        entries["chosen map"] = marker_handle("s", CHOSEN, "white", 9)
    if any(grid.is_beyond(cell.value) for grid in grids for cell in grid.cells):
        entries[f"{LIMIT}: cells on its dark side are beyond it"] = Line2D([], [], color=LIMIT_LOOK[0])
    note = "Layers between the two ends run INT8. Dark cells are worse."
    add_header(figure, title, entries, f"{note} {NOTE}" if has_yardsticks else note, answer)
    return figure


def _draw_grid(figure: Figure, axes: Axes, grid: EndsGrid) -> None:
    values = np.full((len(grid.firsts), len(grid.lasts)), np.nan)
    for cell in grid.cells:
        values[grid.firsts.index(cell.first), grid.lasts.index(cell.last)] = cell.value
    colours = colormaps["cividis_r" if grid.lower_is_better else "cividis"].with_extremes(bad=_EMPTY)
    norm = _norm(grid)
    picture = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    if max(values.shape) <= _MOST_TEXT:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = colours(norm(value))
                ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
                axes.text(
                    column, row, format_value(value, 3), ha="center", va="center", fontsize=7.5, color=ink
                )
    _draw_limit(axes, grid, values)
    if grid.chosen is not None:
        corner = (grid.lasts.index(grid.chosen.last) - 0.5, grid.firsts.index(grid.chosen.first) - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=CHOSEN, linewidth=3.0, zorder=5))
    axes.set_xticks(range(len(grid.lasts)), [str(value) for value in grid.lasts])
    axes.set_yticks(range(len(grid.firsts)), [str(value) for value in grid.firsts])
    axes.tick_params(labelsize=SMALL, colors=INK, length=2)
    axes.set_xlabel("last layers in float", fontsize=TEXT, color=INK)
    axes.set_ylabel("first layers in float", fontsize=TEXT, color=INK)
    axes.set_title(axis_title(grid.metric).replace(" against", "\nagainst"), fontsize=TEXT, loc="left")
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, format=lambda value, _: plain_number(value))
    bar.ax.tick_params(labelsize=SMALL)
    labels = tick_labels(bar.ax, grid.yardsticks)
    low, high = bar.ax.get_ylim()
    if grid.limit is not None and low <= grid.limit <= high:
        bar.ax.axhline(grid.limit, color=LIMIT_LOOK[0], linewidth=2.0)
        labels.append(SideLabel(value_label(LIMIT, grid.limit), grid.limit, LIMIT_LOOK[0]))
    if labels:
        bar.ax.yaxis.set_ticks_position("left")
        draw_side_labels(bar.ax, labels, max(_SHORTEST, 0.3 * values.shape[0]))


def _draw_limit(axes: Axes, grid: EndsGrid, values: _Cells) -> None:
    for (x, y), is_upright in _edges_of_the_limit(grid, values):
        span = ((x, x), (y, y + 1)) if is_upright else ((x, x + 1), (y, y))
        axes.plot(*span, color=LIMIT_LOOK[0], linewidth=2.0, zorder=4)


def _edges_of_the_limit(grid: EndsGrid, values: _Cells) -> Iterator[tuple[tuple[float, float], bool]]:
    """Lower ends of the edges, upright or level, between cells within the limit and cells beyond it."""
    beyond = np.vectorize(grid.is_beyond, otypes=[bool])(values)
    known = np.isfinite(values)
    for axis, is_upright in ((1, True), (0, False)):
        differ = np.diff(beyond, axis=axis) & np.logical_and(*_neighbours(known, axis))
        for row, column in zip(*np.nonzero(differ), strict=True):
            corner = (column + 0.5, row - 0.5) if is_upright else (column - 0.5, row + 0.5)
            yield corner, is_upright


def _neighbours(cells: _Cells, axis: int) -> tuple[_Cells, _Cells]:
    last = cells.shape[axis]
    return cells.take(range(last - 1), axis=axis), cells.take(range(1, last), axis=axis)


def _norm(grid: EndsGrid) -> Normalize:
    values = [cell.value for cell in grid.cells]
    low, high = min(values), max(values)
    if grid.scale == "log":
        return LogNorm(low, high)
    if grid.scale == "symlog":
        return SymLogNorm(min(value for value in values if value > 0), vmin=low, vmax=high)
    return Normalize(low, high if high > low else low + 1.0)
