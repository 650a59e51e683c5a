"""The boundary curve: score against the boundary layer index, in the style of Kim et al. 2023, Figure 3."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qsens.core.layer import Layer
from qsens.core.maps import Cut, Direction, anchor_trial
from qsens.core.metric_names import axis_title, interval_method, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.report.comparable import Scored, built_map_differs, scored_trials, screened_trials
from qsens.report.figures.block_axis import label_blocks, label_height
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
    YardstickTick,
    draw_side_labels,
    tick_labels,
    yardstick_ticks,
)
from qsens.run.floors import Floor

BROAD_SPAN = 20.0
# Screens of cuts, both ends counted, that make a curve.
_FEWEST_SCREENED = 4
_LOOKS = {Direction.INT8_FIRST: (BLUE, "o"), Direction.FLOAT_FIRST: (SLATE, "s")}
_PANEL_HEIGHT = 2.75
_SIDES = 2.4


@dataclass(frozen=True)
class BoundaryPoint:
    """One scored cut. `differs` marks an engine that was not built as requested.

    `boundary` comes from the applied map; where that is no cut at all, from the requested one.
    """

    boundary: int
    value: float
    half_width: float | None
    trial: int
    differs: bool


@dataclass(frozen=True)
class BoundaryLine:
    """All points of one direction and one float precision, by boundary index.

    `screen_images` is the number of images of a screen, whose differences from FP32 are added to FP32's
    score on all images; `None` for scores on all of them.
    """

    direction: Direction
    float_precision: Precision
    points: tuple[BoundaryPoint, ...]
    screen_images: int | None = None


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line: the score of a uniform or of the chosen map; infinite scores have a label only."""

    label: str
    value: float
    half_width: float | None
    trial: int


@dataclass(frozen=True)
class BoundaryCurve:
    """Everything a panel of the boundary figure shows for one metric.

    `layers` is N, the largest boundary index. `scale` is `linear`, `log` or `symlog`. `chosen` is the
    chosen map as a point where it is a cut of one of the lines. `is_paired` says that every interval is
    that of the difference to FP32. `floor` is what the metric shows where only the images differ,
    `yardsticks` what it shows of FP32's own pictures after alterations, `limit` the worst acceptable score.
    """

    metric: str
    lower_is_better: bool
    layers: int
    lines: tuple[BoundaryLine, ...]
    references: tuple[ReferenceLine, ...]
    chosen: BoundaryPoint | None
    scale: str
    is_paired: bool
    floor: Floor | None = None
    yardsticks: tuple[YardstickTick, ...] = ()
    limit: float | None = None


def boundary_curve(
    study: Study, metric: str, chosen: int | None = None, floor: Floor | None = None
) -> BoundaryCurve | None:
    """The curve of one metric; `None` where nothing comparable was scored.

    `chosen` is the number of the trial whose map was selected, `floor` that of the metric. Source
    of the figure: Kim et al. 2023, Figure 3 (arXiv 2304.00471).
    """
    scored = scored_trials(study, metric)
    if not scored:
        return None
    lines = boundary_lines(study, metric) or screened_lines(study, metric)
    points = [point for line in lines for point in line.points]
    in_full = [point for line in _lines_of(study, scored) for point in line.points]
    mark = next((point for point in (*in_full, *points) if point.trial == chosen), None)
    references = _reference_lines(study, scored, None if mark else chosen)
    values = [point.value for point in points] + [line.value for line in references]
    score = scored[0].trial.score(metric)
    baseline = anchor_trial(study, Precision.FP32)
    measured = [entry for entry in scored if entry.half_width is not None and entry.trial is not baseline]
    return BoundaryCurve(
        metric,
        score is None or score.lower_is_better,
        len(study.layers),
        lines,
        references,
        mark,
        axis_scale(values, is_ratio=score is None or score.lower_is_better),
        bool(measured) and all(entry.is_paired for entry in measured),
        floor,
        yardstick_ticks(study, metric),
    )


def boundary_lines(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    """Lines with at least one real cut; the uniform maps close them at 0 and N.

    None unless cuts make up more than half of the study's mixed maps, nor where more cuts were screened:
    searches score a few cuts by the way, and a line through these would claim what nobody measured.
    """
    lines = _lines_of(study, scored_trials(study, metric))
    return () if _count(lines) < _count(screened_lines(study, metric)) else lines


def screened_lines(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    """Lines of the screens of a run without a boundary on all images; none where few cuts were screened."""
    baseline = anchor_trial(study, Precision.FP32)
    full = None if baseline is None else baseline.score(metric)
    entries = screened_trials(study, metric)
    of_fp32 = next((entry for entry in entries if entry.trial is baseline), None)
    if full is None or of_fp32 is None:
        return ()
    shift = full.value - of_fp32.record.value
    # Searches screen single layers and pairs too: only cuts are looked at, and few of them are no curve.
    cuts = [entry for entry in entries if plotted_cuts(entry.trial, study)]
    lines = _lines_of(study, [replace(entry, value=entry.value + shift) for entry in cuts])
    images = of_fp32.record.images
    return tuple(
        replace(line, screen_images=images) for line in lines if len(line.points) >= _FEWEST_SCREENED
    )


def _count(lines: Sequence[BoundaryLine]) -> int:
    return sum(len(line.points) for line in lines)


def _lines_of(study: Study, entries: Sequence[Scored]) -> tuple[BoundaryLine, ...]:
    grouped: dict[tuple[Direction, Precision], dict[int, BoundaryPoint]] = {}
    uniform: list[tuple[Cut, BoundaryPoint]] = []
    mixed_maps = 0
    for entry in entries:
        cuts = plotted_cuts(entry.trial, study)
        mixed_maps += len(cuts) != 2
        for cut in cuts if math.isfinite(entry.value) else ():
            point = _point(cut, entry)
            if len(cuts) == 2 or cut.float_precision is None:
                uniform.append((cut, point))
            else:
                grouped.setdefault((cut.direction, cut.float_precision), {})[cut.boundary] = point
    if sum(len(points) for points in grouped.values()) * 2 <= mixed_maps:
        return ()
    _close_lines(grouped, uniform)
    return tuple(
        BoundaryLine(*key, tuple(points[index] for index in sorted(points)))
        for key, points in sorted(grouped.items(), reverse=True)
    )


def plotted_cuts(trial: Trial, study: Study) -> tuple[Cut, ...]:
    """Cuts of what the engine ran; of what was asked for only where the engine's own map is no cut."""
    if trial.applied is None:
        return ()
    return study.shapes.cuts_of(trial.applied) or study.shapes.cuts_of(trial.requested)


def axis_scale(values: Sequence[float], *, is_ratio: bool) -> str:
    """`log` where positive values span more than 20x, `symlog` where zeros or negatives belong to them.

    `is_ratio` is false for decibels and other scores whose ratios mean nothing.
    """
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if not is_ratio or not positive or max(positive) / min(positive) <= BROAD_SPAN:
        return "linear"
    return "log" if len(positive) == len(finite) else "symlog"


def _close_lines(
    grouped: dict[tuple[Direction, Precision], dict[int, BoundaryPoint]],
    uniform: Sequence[tuple[Cut, BoundaryPoint]],
) -> None:
    """Add the uniform maps to the lines that they end."""
    for cut, point in uniform:
        for (direction, side), points in grouped.items():
            if direction is cut.direction and cut.float_precision in (None, side):
                points.setdefault(cut.boundary, point)


def _point(cut: Cut, entry: Scored) -> BoundaryPoint:
    differs = built_map_differs(entry.trial)
    return BoundaryPoint(cut.boundary, entry.value, entry.half_width, entry.trial.number, differs)


def _reference_lines(study: Study, scored: Sequence[Scored], chosen: int | None) -> tuple[ReferenceLine, ...]:
    labels = {}
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            labels[trial.number] = "FP32" if precision is Precision.FP32 else f"all {precision.upper()}"
    if chosen is not None:
        labels.setdefault(chosen, f"chosen, trial {chosen}")
    found = [entry for entry in scored if entry.trial.number in labels]
    return tuple(
        ReferenceLine(labels[entry.trial.number], entry.value, entry.half_width, entry.trial.number)
        for entry in found
    )


def boundary_figure(
    curves: Sequence[BoundaryCurve], layers: Sequence[Layer], title: str, *, chosen_label: str = "chosen map"
) -> Figure:
    """One panel a metric over a shared boundary axis; reference lines labelled at their right end.

    `chosen_label` is what the legend calls the marked map.
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
    panels[-1].set_xlim(-0.5, len(layers) + 0.5)
    whole_ticks(panels[-1].xaxis, len(layers))
    figure.align_ylabels(panels)
    notes = [_interval_note(curves), _method_note(curves), floor_note([curve.floor for curve in curves])]
    notes += [NOTE] if any(curve.yardsticks for curve in curves) else []
    add_header(figure, title, _legend_entries(curves, chosen_label), " ".join(filter(None, notes)))
    return figure


def _draw_curve(axes: Axes, curve: BoundaryCurve) -> None:
    dress(axes)
    for line in curve.lines:
        _draw_line(axes, line)
    if curve.chosen is not None:
        _mark_chosen(axes, curve.chosen)
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


def _mark_chosen(axes: Axes, point: BoundaryPoint) -> None:
    axes.plot(
        [point.boundary],
        [point.value],
        "*",
        color=CHOSEN,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        markersize=14,
        zorder=6,
    )


def _draw_references(axes: Axes, curve: BoundaryCurve) -> None:
    lines = [(line.label, line.value) for line in curve.references]
    if curve.floor is not None and is_within_axis(axes, curve.floor):
        lines.append((curve.floor.label, curve.floor.value))
    lines += [] if curve.limit is None else [(LIMIT, curve.limit)]
    labels = []
    for label, value in lines:
        is_floor = curve.floor is not None and label == curve.floor.label
        colour, style = FLOOR_LOOK if is_floor else LIMIT_LOOK if label == LIMIT else _reference_look(label)
        if math.isfinite(value):
            axes.axhline(value, color=colour, linewidth=1.1, linestyle=style, zorder=2)
        labels.append(SideLabel(value_label(label, value), value, colour))
    draw_side_labels(axes, [*labels, *tick_labels(axes, curve.yardsticks)], _PANEL_HEIGHT - 0.3)


def _reference_look(label: str) -> tuple[str, object]:
    styles: dict[str, object] = {"FP32": "-", "all FP16": (0, (5, 4)), "all INT8": (0, (2, 1.5))}
    precision = next((entry for entry in Precision if label.endswith(entry.upper())), None)
    return (PRECISION_COLOURS[precision] if precision else "#9A6A00"), styles.get(label, (0, (4, 1, 1, 1)))


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
    if any(curve.chosen for curve in curves):
        entries[chosen_label] = marker_handle("*", INK, CHOSEN, 12)
    return entries


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
