"""Figures of several runs: boundary curves and trade-offs, each run with its own look."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from qsens.core.maps import Direction
from qsens.core.metric_names import axis_title
from qsens.core.trial import Study
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun, have_same_layers
from qsens.report.figures.block_axis import label_blocks, label_height
from qsens.report.figures.boundary_curve import BoundaryLine, axis_scale, boundary_lines, screened_lines
from qsens.report.figures.style import (
    FAINT,
    FLOOR_LOOK,
    INK,
    LIMIT,
    LIMIT_LOOK,
    SERIES_COLOURS,
    SMALL,
    TEXT,
    add_header,
    dress,
    floor_note,
    is_within_axis,
    marker_handle,
    new_figure,
    set_scale,
    whole_ticks,
)
from qsens.report.figures.tradeoff import Tradeoff, tradeoff
from qsens.run.floors import Floor

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
# Keeps the intervals of maps with the same share apart.
_DODGE = 0.008
_STYLES = {Direction.INT8_FIRST: "-", Direction.FLOAT_FIRST: (0, (4, 2))}
_PANEL_HEIGHT = 2.9
_SIDES = 1.5
_BAND = 0.16


@dataclass(frozen=True)
class Look:
    """The marks that tell a run from the others, also without colour."""

    colour: str
    marker: str


def looks_of(count: int) -> tuple[Look, ...]:
    """The look of each of `count` runs; no two alike up to 56."""
    return tuple(
        Look(SERIES_COLOURS[place % len(SERIES_COLOURS)], _MARKERS[place % len(_MARKERS)])
        for place in range(count)
    )


def run_handles(runs: Sequence[ComparedRun], *, is_line: bool) -> dict[str, Artist]:
    """Legend entries of the runs by label; `is_line` says that their points are joined."""
    width = 1.4 if is_line else 0.0
    return {
        run.label: Line2D([], [], color=look.colour, marker=look.marker, markersize=5, linewidth=width)
        for run, look in zip(runs, looks_of(len(runs)), strict=True)
    }


def finish_values(
    axes: Axes, runs: Sequence[ComparedRun], metric: SharedMetric, values: Sequence[float]
) -> None:
    """The value axis of a panel: scale, ends, name, floors, limits of the runs."""
    limits = _limits(runs, metric)
    finite = [value for value in (*values, *limits.values()) if math.isfinite(value)]
    scale = axis_scale([value for value in finite if value != 0], is_ratio=metric.lower_is_better)
    if scale != "linear" and min(finite) <= 0:
        scale = "symlog"
    lowest = min((value for value in finite if value > 0), default=0.0)
    set_scale(axes, scale, [value for value in finite if scale == "linear" or value >= lowest])
    better = "lower is better" if metric.lower_is_better else "higher is better"
    title = axis_title(metric.name).replace(" against", "\nagainst")
    axes.set_ylabel(f"{title}\n({better})", fontsize=TEXT - 0.5, color=INK)
    colour, style = FLOOR_LOOK
    for floor in _floors(runs, metric):
        if is_within_axis(axes, floor):
            axes.axhline(floor.value, color=colour, linewidth=1.1, linestyle=style, zorder=1)
    colour, style = LIMIT_LOOK
    for label, limit in limits.items():
        axes.axhline(limit, color=colour, linewidth=1.1, linestyle=style, zorder=2)
        text = axes.annotate(
            label,
            (0.01, limit),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=SMALL,
            color=colour,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _limits(runs: Sequence[ComparedRun], metric: SharedMetric) -> dict[str, float]:
    """The worst acceptable score of each run, by a label that names runs only where they differ."""
    found = {run.label: limit for run in runs if (limit := run.limits.get(metric.name)) is not None}
    if len({f"{limit:.4g}" for limit in found.values()}) == 1:
        return {LIMIT: next(iter(found.values()))}
    return {f"{LIMIT}, {label}": limit for label, limit in found.items()}


def own_fp32_note(metrics: Sequence[SharedMetric]) -> str:
    """A caution where scores are against the FP32 outputs of different generators; may be empty."""
    names = [axis_title(metric.name).partition(" against")[0] for metric in metrics if metric.is_own_fp32]
    if not names:
        return ""
    return f"{', '.join(names)}: each run against its own FP32, which is damage and not quality."


def floors_note(runs: Sequence[ComparedRun], metrics: Sequence[SharedMetric]) -> str:
    """An explanation of the dotted lines; may be empty."""
    return floor_note([floor for metric in metrics for floor in _floors(runs, metric)])


def _floors(runs: Sequence[ComparedRun], metric: SharedMetric) -> list[Floor]:
    found = [run.floors[metric.name] for run in runs if metric.name in run.floors]
    return list({f"{floor.label} {floor.value:.3g}": floor for floor in found}.values())


def compare_tradeoff_figure(runs: Sequence[ComparedRun], metrics: Sequence[SharedMetric]) -> Figure | None:
    """One panel a metric: score against INT8 share, the Pareto front of each run as steps, its maps as dots.

    `None` where no run has two finite scores.
    """
    found = {
        metric: [
            tradeoff(run.study, metric.name, None if run.chosen is None else run.chosen.number)
            for run in runs
        ]
        for metric in metrics
    }
    shown = [metric for metric in metrics if any(entry is not None for entry in found[metric])]
    if not shown:
        return None
    figure = new_figure(max(4.3 * len(shown), 6.5), 5.2)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, metric in zip(panels, shown, strict=True):
        _draw_tradeoffs(panel, runs, metric, found[metric])
    handles = run_handles(runs, is_line=False)
    handles["Pareto front"] = Line2D([], [], color=FAINT, linewidth=1.5)
    if any(run.chosen is not None for run in runs):
        handles["chosen map"] = marker_handle("*", INK, "white", 12)
    note = (
        "INT8 share of the true multiply-accumulates, as the engine ran. Bars: 95% interval, of maps on a "
        "front. Faint: maps that another of the same run beats."
    )
    note = " ".join(filter(None, (note, own_fp32_note(shown), floors_note(runs, shown))))
    add_header(figure, "Quality against how much of the network runs in INT8", handles, note)
    return figure


def _draw_tradeoffs(
    axes: Axes, runs: Sequence[ComparedRun], metric: SharedMetric, found: Sequence[Tradeoff | None]
) -> None:
    dress(axes)
    values: list[float] = []
    for place, (look, data) in enumerate(zip(looks_of(len(runs)), found, strict=True)):
        if data is not None:
            values += _draw_tradeoff(axes, data, look, place - (len(runs) - 1) / 2)
    axes.set_xlim(-0.04, 1.04)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("MACs in INT8", fontsize=TEXT, color=INK)
    finish_values(axes, runs, metric, values)


def _draw_tradeoff(axes: Axes, data: Tradeoff, look: Look, place: float) -> list[float]:
    """Draw a run; the values that the axis must hold. `place` counts the runs from the middle one."""
    front = data.front
    others = [point for point in data.points if not point.is_on_front]
    x, y = [point.cost for point in front], [point.value for point in front]
    half = [point.half_width or 0.0 for point in front]
    axes.step(x, y, where="pre", color=look.colour, linewidth=1.5, zorder=3)
    axes.errorbar(
        [share + place * _DODGE for share in x],
        y,
        half,
        linestyle="",
        marker=look.marker,
        color=look.colour,
        markersize=5,
        elinewidth=0.9,
        zorder=4,
    )
    axes.plot(
        [point.cost for point in others],
        [point.value for point in others],
        look.marker,
        color=look.colour,
        alpha=0.3,
        markersize=3.5,
        markeredgewidth=0,
        zorder=2,
    )
    if data.chosen is not None:
        mark = marker_handle("*", INK, look.colour, max(14 - 3 * place, 9))
        mark.set_data([data.chosen.cost], [data.chosen.value])
        mark.set_zorder(6)
        axes.add_line(mark)
    return [point.value for point in data.points] + [
        value + sign * width for value, width in zip(y, half, strict=True) for sign in (1, -1)
    ]


def compare_boundary_figure(runs: Sequence[ComparedRun], metrics: Sequence[SharedMetric]) -> Figure | None:
    """One panel a metric with the boundary curves of all runs; `None` where no run scored any.

    The axis is the boundary index where all runs have the same layers, else the share of the layers before
    the boundary. Bands are 95% intervals.
    """
    lines = {metric: [_lines_of(run.study, metric.name) for run in runs] for metric in metrics}
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


def _lines_of(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    return boundary_lines(study, metric) or screened_lines(study, metric)


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
    screens = {
        f"{run.label} {line.screen_images}"
        for found in lines.values()
        for run, own in zip(runs, found, strict=True)
        for line in own
        if line.screen_images is not None
    }
    if screens:
        notes.append(
            f"Screened on few images ({', '.join(sorted(screens))}), as differences from FP32 added to its "
            "score on all."
        )
    if is_relative:
        counts = ", ".join(f"{run.label} {len(run.study.layers)}" for run in runs)
        notes.append(f"The runs have other layers: positions are shares ({counts} layers).")
    return " ".join(filter(None, (*notes, own_fp32_note(metrics), floors_note(runs, metrics))))
