"""The boundary curves of several runs in one figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from qsens.core.maps import Direction
from qsens.report.boundary_data import BoundaryLine, boundary_lines
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun, have_same_layers
from qsens.report.compare_looks import Look, finish_values, floors_note, looks_of, own_fp32_note, run_handles
from qsens.report.figures.block_axis import label_blocks, label_height
from qsens.report.figures.style import FAINT, INK, TEXT, add_header, dress, new_figure, whole_ticks

_STYLES = {Direction.INT8_FIRST: "-", Direction.FLOAT_FIRST: (0, (4, 2))}
_PANEL_HEIGHT = 2.9
_SIDES = 1.5
_BAND = 0.16


def compare_boundary_figure(runs: Sequence[ComparedRun], metrics: Sequence[SharedMetric]) -> Figure | None:
    """One panel a metric with the boundary curves of all runs; `None` where no run scored any.

    The axis is the boundary index where all runs have the same layers, else the share of the layers before
    the boundary. Bands are 95% intervals.
    """
    lines = {metric: [boundary_lines(run.study, metric.name) for run in runs] for metric in metrics}
    shown = [metric for metric in metrics if any(lines[metric])]
    if not shown:
        return None
    layers = runs[0].study.layers if have_same_layers(runs) else ()
    width = float(np.clip(6.0 + 0.11 * len(layers), 8.0, 13.0))
    figure = new_figure(width, 1.6 + label_height(layers, width - _SIDES) + _PANEL_HEIGHT * len(shown))
    panels = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    for panel, metric in zip(panels, shown, strict=True):
        _draw_boundaries(panel, runs, metric, lines[metric], is_relative=not layers)
    _dress_boundary_axis(panels, runs, is_relative=not layers, width=width - _SIDES)
    figure.align_ylabels(panels)
    sides = sorted(
        {line.float_precision.upper() for found in lines.values() for run in found for line in run}
    )
    title = f"Quality against the boundary between INT8 and {' or '.join(sides)} layers"
    used = {line.direction for found in lines.values() for run in found for line in run}
    handles = run_handles(runs, is_line=True) | _direction_handles(used)
    add_header(figure, title, handles, _boundary_note(runs, shown, lines, is_relative=not layers))
    return figure


def _draw_boundaries(
    axes: Axes,
    runs: Sequence[ComparedRun],
    metric: SharedMetric,
    lines: Sequence[Sequence[BoundaryLine]],
    *,
    is_relative: bool,
) -> None:
    dress(axes)
    values = []
    for run, look, found in zip(runs, looks_of(len(runs)), lines, strict=True):
        scale = len(run.study.layers) if is_relative else 1
        for line in found:
            _draw_line(axes, line, look, scale)
            values += [point.value for point in line.points]
            values += [point.value + (point.half_width or 0.0) for point in line.points]
            values += [point.value - (point.half_width or 0.0) for point in line.points]
    finish_values(axes, runs, metric, values)


def _draw_line(axes: Axes, line: BoundaryLine, look: Look, scale: int) -> None:
    x = np.array([point.boundary / scale for point in line.points])
    y = np.array([point.value for point in line.points])
    half = np.array([point.half_width or 0.0 for point in line.points])
    if np.any(half > 0):
        axes.fill_between(x, y - half, y + half, color=look.colour, alpha=_BAND, linewidth=0, zorder=2)
    axes.plot(
        x,
        y,
        color=look.colour,
        linestyle=_STYLES[line.direction],
        marker=look.marker,
        markersize=4.2,
        markerfacecolor=look.colour if line.direction is Direction.INT8_FIRST else "white",
        linewidth=1.4,
        zorder=3,
    )


def _dress_boundary_axis(
    panels: Sequence[Axes], runs: Sequence[ComparedRun], *, is_relative: bool, width: float
) -> None:
    last = panels[-1]
    if is_relative:
        last.set_xlim(-0.02, 1.02)
        last.xaxis.set_major_formatter(PercentFormatter(1.0))
        last.set_xlabel("layers before the boundary, share of all layers", fontsize=TEXT, color=INK)
        return
    layers = runs[0].study.layers
    label_blocks(panels[0], layers, width, separators=panels)
    last.set_xlim(-0.5, len(layers) + 0.5)
    whole_ticks(last.xaxis, len(layers))
    label = "boundary layer index b   (layers 0 to b-1 lie before the boundary)"
    last.set_xlabel(label, fontsize=TEXT, color=INK)


def _direction_handles(used: set[Direction]) -> dict[str, Artist]:
    names = {
        Direction.INT8_FIRST: "INT8 before the boundary, float after it",
        Direction.FLOAT_FIRST: "float before the boundary, INT8 after it",
    }
    return {
        name: Line2D([], [], color=FAINT, linestyle=_STYLES[direction], linewidth=1.4)
        for direction, name in names.items()
        if direction in used
    }


def _boundary_note(
    runs: Sequence[ComparedRun],
    metrics: Sequence[SharedMetric],
    lines: Mapping[SharedMetric, Sequence[Sequence[BoundaryLine]]],
    *,
    is_relative: bool,
) -> str:
    notes = ["Bands: 95% interval of the difference to the run's own FP32."]
    without = [
        run.label for place, run in enumerate(runs) if not any(lines[metric][place] for metric in metrics)
    ]
    if without:
        notes.append(f"No boundary was scored in {', '.join(without)}.")
    if is_relative:
        counts = ", ".join(f"{run.label} {len(run.study.layers)}" for run in runs)
        notes.append(f"The runs have other layers: positions are shares ({counts} layers).")
    return " ".join(filter(None, (*notes, own_fp32_note(metrics), floors_note(runs, metrics))))
