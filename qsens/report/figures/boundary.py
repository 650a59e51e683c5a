"""The boundary figure: a panel a score over the boundary, in the style of Kim et al. 2023, Figure 3."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qsens.core.layer import Layer
from qsens.core.maps import Direction
from qsens.core.metric_names import axis_title, interval_method, short_name
from qsens.core.precision import Precision
from qsens.report.figures.block_axis import label_blocks, label_height
from qsens.report.figures.boundary_curve import CHOSEN_LINE, BoundaryCurve, BoundaryLine
from qsens.report.figures.style import (
    BLUE,
    CHOSEN,
    FAINT,
    FLOOR_LOOK,
    INK,
    LIMIT,
    LIMIT_LOOK,
    PRECISION_COLOURS,
    SLATE,
    TEXT,
    add_header,
    dress,
    floor_note,
    is_within_axis,
    marker_handle,
    new_figure,
    set_scale,
    value_label,
    whole_ticks,
)
from qsens.report.figures.yardstick_axis import (
    NOTE,
    SideLabel,
    draw_side_labels,
    tick_labels,
)

_LOOKS = {Direction.INT8_FIRST: (BLUE, "o"), Direction.FLOAT_FIRST: (SLATE, "s")}
_PANEL_HEIGHT = 2.75
_SIDES = 2.4
# Layers between the ends of the axis and the first and last boundary.
_EDGE = 0.5


def boundary_figure(
    curves: Sequence[BoundaryCurve],
    layers: Sequence[Layer],
    title: str,
    *,
    chosen_label: str = "chosen map",
    answer: str = "",
) -> Figure:
    """One panel a metric over a shared boundary axis; reference lines labelled at their right end.

    `chosen_label` is what the legend calls the marked map, `answer` a sentence below the title.
    """
    width = float(np.clip(6.5 + 0.11 * len(layers), 8.0, 13.0))
    names_height = label_height(layers, width - _SIDES)
    figure = new_figure(width, 1.4 + names_height + _PANEL_HEIGHT * len(curves))
    panels = list(figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0])
    for panel, curve in zip(panels, curves, strict=True):
        _draw_curve(panel, curve)
    label_blocks(panels[0], layers, width - _SIDES, separators=panels)
    panels[-1].set_xlabel(
        "boundary layer index b   (layers 0 to b-1 lie before the boundary)", fontsize=TEXT, color=INK
    )
    panels[-1].set_xlim(-_EDGE, len(layers) + _EDGE)
    whole_ticks(panels[-1].xaxis, len(layers))
    figure.align_ylabels(panels)
    notes = [_interval_note(curves), _method_note(curves), floor_note([curve.floor for curve in curves])]
    notes += [NOTE] if any(curve.yardsticks for curve in curves) else []
    note = " ".join(filter(None, notes))
    add_header(figure, title, _legend_entries(curves, chosen_label), note, answer)
    return figure


def _draw_curve(axes: Axes, curve: BoundaryCurve) -> None:
    dress(axes)
    for line in curve.lines:
        _draw_line(axes, line)
    if curve.chosen is not None:
        _mark_chosen(axes, curve.chosen.boundary, curve.chosen.value)
    set_scale(axes, curve.scale, _drawn_values(curve))
    better = "lower is better" if curve.lower_is_better else "higher is better"
    axes.set_ylabel(f"{_folded(axis_title(curve.metric))}\n({better})", fontsize=TEXT - 0.5, color=INK)
    _draw_references(axes, curve)


def _draw_line(axes: Axes, line: BoundaryLine) -> None:
    colour, marker = _looks(line)
    x = [point.boundary + _dodge(line) for point in line.points]
    y = [point.value for point in line.points]
    widths = [point.half_width or 0.0 for point in line.points]
    style, filled = ("-", colour) if line.screen_images is None else ((0, (4, 2)), "white")
    axes.errorbar(
        x, y, widths, color=colour, linewidth=1.5, linestyle=style, elinewidth=1.0, capsize=2.0, zorder=3
    )
    for differs, face in ((False, filled), (True, "white")):
        shown = [point for point in line.points if point.differs is differs]
        axes.plot(
            [point.boundary + _dodge(line) for point in shown],
            [point.value for point in shown],
            marker,
            color=colour,
            markerfacecolor=face,
            markersize=4.6,
            zorder=4,
        )


def _mark_chosen(axes: Axes, boundary: float, value: float) -> None:
    axes.plot(
        [boundary],
        [value],
        "*",
        color=CHOSEN,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        markersize=14,
        zorder=6,
        clip_on=False,
    )


def _draw_references(axes: Axes, curve: BoundaryCurve) -> None:
    lines = [(line.label, line.value) for line in curve.references]
    looks = {line.label: _reference_look(line.precision) for line in curve.references}
    if curve.floor is not None and is_within_axis(axes, curve.floor):
        lines.append((curve.floor.label, curve.floor.value))
    lines += [] if curve.limit is None else [(LIMIT, curve.limit)]
    labels = []
    for label, value in lines:
        colour, style = looks.get(label, LIMIT_LOOK if label == LIMIT else FLOOR_LOOK)
        if math.isfinite(value):
            axes.axhline(value, color=colour, linewidth=1.1, linestyle=style, zorder=2)
            if label.startswith(CHOSEN_LINE):
                _mark_chosen(axes, curve.layers + _EDGE, value)  # at no boundary
        labels.append(SideLabel(value_label(label, value), value, colour))
    draw_side_labels(axes, [*labels, *tick_labels(axes, curve.yardsticks)], _PANEL_HEIGHT - 0.3)


_STYLES: Mapping[Precision, object] = {
    Precision.FP32: "-",
    Precision.FP16: (0, (5, 4)),
    Precision.INT8: (0, (2, 1.5)),
}


def _reference_look(precision: Precision | None) -> tuple[str, object]:
    """The colour and the dashes of a uniform map, or of the chosen one."""
    if precision is None:
        return "#9A6A00", (0, (4, 1, 1, 1))
    return PRECISION_COLOURS[precision], _STYLES[precision]


def _dodge(line: BoundaryLine) -> float:
    """A small shift that keeps the two directions' error bars apart."""
    return -0.07 if line.direction is Direction.INT8_FIRST else 0.07


def _looks(line: BoundaryLine) -> tuple[str, str]:
    colour, marker = _LOOKS[line.direction]
    if line.float_precision is Precision.FP32:
        return {BLUE: "#56B4E9", SLATE: "#9DB6C9"}[colour], {"o": "^", "s": "v"}[marker]
    return colour, marker


def _drawn_values(curve: BoundaryCurve) -> list[float]:
    values = [line.value for line in curve.references if math.isfinite(line.value)]
    values += [] if curve.limit is None else [curve.limit]
    for line in curve.lines:
        for point in line.points:
            low = point.value - (point.half_width or 0.0)
            values += [point.value, point.value + (point.half_width or 0.0)]
            if low > 0 or curve.scale == "linear":
                values.append(low)
    return values


def _legend_entries(curves: Sequence[BoundaryCurve], chosen_label: str) -> dict[str, Artist]:
    entries: dict[str, Artist] = {}
    for line in (line for curve in curves for line in curve.lines):
        colour, marker = _looks(line)
        face = colour if line.screen_images is None else "white"
        handle = Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor=face)
        entries[_line_label(line)] = handle
    if any(point.differs for curve in curves for line in curve.lines for point in line.points):
        entries["built differently from the request"] = marker_handle("o", FAINT, "white", 5)
    if any(curve.chosen or _has_chosen_line(curve) for curve in curves):
        entries[chosen_label] = marker_handle("*", INK, CHOSEN, 12)
    return entries


def _has_chosen_line(curve: BoundaryCurve) -> bool:
    """Whether the chosen map is no cut: a level across the panel, with the mark at its end."""
    return any(line.label.startswith(CHOSEN_LINE) for line in curve.references)


def _line_label(line: BoundaryLine) -> str:
    side = line.float_precision.upper()
    screened = "" if line.screen_images is None else f" (screened on {line.screen_images} images)"
    if line.direction is Direction.INT8_FIRST:
        return f"INT8 before the boundary, {side} after it{screened}"
    return f"{side} before the boundary, INT8 after it{screened}"


def _interval_note(curves: Sequence[BoundaryCurve]) -> str:
    points = [point for curve in curves for line in curve.lines for point in line.points]
    if not points:
        return "No boundary was scored; only the reference lines are known."
    if any(line.screen_images for curve in curves for line in curve.lines):
        told = "Screens: differences from FP32 on few images, added to its score on all."
        return f"{told} Bars: their 95% interval, paired over the same inputs."
    if not any(point.half_width for point in points):
        return "No standard errors were measured."
    if all(curve.is_paired for curve in curves):
        return "Bars: 95% interval of the difference to FP32, paired over the same inputs."
    return (
        "Bars: 95% interval; of the difference to FP32, paired over the same inputs, where it was measured."
    )


def _method_note(curves: Sequence[BoundaryCurve]) -> str:
    """A note on the ways to make intervals, each with the metrics that it is used for."""
    metrics: dict[str, list[str]] = {}
    for curve in curves:
        if any(point.half_width for line in curve.lines for point in line.points):
            metrics.setdefault(interval_method(curve.metric), []).append(short_name(curve.metric))
    texts = [f"{method} ({', '.join(names)})" for method, names in metrics.items()]
    return f"Intervals by {'; '.join(texts)}." if texts else ""


def _folded(title: str) -> str:
    return title.replace(" against", "\nagainst")
