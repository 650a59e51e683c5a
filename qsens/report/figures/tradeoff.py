"""The trade-off figures: score against INT8 share or measured time, with front and chosen map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from qsens.core.maps import Direction, anchor_name, int8_share
from qsens.core.metric_names import axis_title
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.comparable import Scored, built_map_differs, scored_trials
from qsens.report.figures.boundary_curve import axis_scale, plotted_cuts
from qsens.report.figures.style import (
    BLUE,
    CHOSEN,
    FAINT,
    FLOOR_LOOK,
    INK,
    LIMIT,
    LIMIT_LOOK,
    SLATE,
    SMALL,
    TEAL,
    TEXT,
    add_header,
    dress,
    floor_note,
    is_within_axis,
    marker_handle,
    new_figure,
    set_scale,
    value_label,
)
from qsens.report.figures.yardstick_axis import (
    NOTE,
    SideLabel,
    YardstickTick,
    axes_fraction,
    draw_side_labels,
    tick_labels,
    yardstick_ticks,
)
from qsens.run.floors import Floor
from qsens.selection.choose import pareto_front
from qsens.selection.choose_by_latency import latency_front
from qsens.selection.timings import Timings


class Family(StrEnum):
    """Kind of map, for the legend."""

    UNIFORM = "uniform"
    INT8_FIRST = "INT8 first, then float"
    FLOAT_FIRST = "float first, then INT8"
    OTHER = "other maps"


@dataclass(frozen=True)
class TradeoffPoint:
    """One scored map. `share` is the applied INT8 share of the true MACs, 0 to 1.

    `ms` is its measured time and `ms_half_width` half the interval of that median, where time is the cost.
    """

    trial: int
    share: float
    value: float
    half_width: float | None
    family: Family
    label: str | None
    is_on_front: bool
    differs: bool
    ms: float | None = None
    ms_half_width: float | None = None

    @property
    def cost(self) -> float:
        """The place of the point on the cost axis."""
        return self.share if self.ms is None else self.ms


@dataclass(frozen=True)
class Tradeoff:
    """All points of one metric. The front holds the maps that no other beats in cost and score at once.

    Cost is the INT8 share, of which more is better, or the measured time where there are `timings`.
    `floor` is what the metric shows where only the images differ, `yardsticks` what it shows of FP32's own
    pictures after alterations, `limit` the worst acceptable score.
    """

    metric: str
    lower_is_better: bool
    points: tuple[TradeoffPoint, ...]
    chosen: TradeoffPoint | None
    scale: str
    timings: Timings | None = None
    floor: Floor | None = None
    yardsticks: tuple[YardstickTick, ...] = ()
    limit: float | None = None

    @property
    def front(self) -> tuple[TradeoffPoint, ...]:
        """The Pareto front by rising cost on the axis."""
        return tuple(
            sorted((point for point in self.points if point.is_on_front), key=lambda point: point.cost)
        )


def tradeoff(
    study: Study,
    metric: str,
    chosen: int | None = None,
    timings: Timings | None = None,
    *,
    floor: Floor | None = None,
) -> Tradeoff | None:
    """The trade-off of one metric; `None` with fewer than two comparable finite scores.

    With `timings` the cost is the measured time, and maps that were not measured are left out. `floor` is
    that of the metric.
    """
    scored = [
        entry
        for entry in scored_trials(study, metric)
        if math.isfinite(entry.value)
        and entry.trial.applied is not None
        and (timings is None or timings.of(entry.trial) is not None)
    ]
    if len(scored) < 2:
        return None
    score = scored[0].trial.score(metric)
    lower = score is None or score.lower_is_better
    front = pareto_front(study, metric) if timings is None else latency_front(study, timings, metric)
    points = tuple(_point(study, entry, timings, is_on_front=entry.trial in front) for entry in scored)
    mark = next((point for point in points if point.trial == chosen), None)
    scale = axis_scale([entry.value for entry in scored], is_ratio=lower)
    ticks = yardstick_ticks(study, metric)
    return Tradeoff(metric, lower, points, mark, scale, timings, floor, ticks)


def _point(study: Study, entry: Scored, timings: Timings | None, *, is_on_front: bool) -> TradeoffPoint:
    cuts = plotted_cuts(entry.trial, study)
    family, label = Family.OTHER, None
    if len(cuts) == 2:
        side = cuts[0].float_precision
        family = Family.UNIFORM
        label = anchor_name(side or Precision.INT8, study.layers)
    elif cuts:
        int8_first = cuts[0].direction is Direction.INT8_FIRST
        family = Family.INT8_FIRST if int8_first else Family.FLOAT_FIRST
    measured = None if timings is None else timings.of(entry.trial)
    return TradeoffPoint(
        entry.trial.number,
        int8_share(study, entry.trial),
        entry.value,
        entry.half_width,
        family,
        label,
        is_on_front,
        built_map_differs(entry.trial),
        None if measured is None else measured.ms,
        None if measured is None else measured.half_width_ms,
    )


_PANEL_HEIGHT, _SIDE_LABELS = 3.4, 1.3
# Of a panel's sides: names of marks that are so near would cover each other.
_ONE_MARK = 0.06
_LOOKS = {
    Family.UNIFORM: ("D", INK),
    Family.INT8_FIRST: ("o", BLUE),
    Family.FLOAT_FIRST: ("s", SLATE),
    Family.OTHER: ("^", TEAL),
}


def tradeoff_figure(tradeoffs: Sequence[Tradeoff], title: str, answer: str = "") -> Figure:
    """One panel a metric; hollow markers were built differently from the request.

    `answer` is a sentence below the title.
    """
    side = _SIDE_LABELS if any(entry.yardsticks for entry in tradeoffs) else 0.0
    figure = new_figure(max((4.1 + side) * len(tradeoffs), 6.0), 4.9)
    panels = figure.subplots(1, len(tradeoffs), squeeze=False)[0]
    for panel, entry in zip(panels, tradeoffs, strict=True):
        _draw(panel, entry)
    note = "INT8 share of the true multiply-accumulates, as the engine ran. Bars: 95% interval."
    timings = tradeoffs[0].timings
    if timings is not None:
        note = (
            f"Median time of one run, measured on {timings.place}. Bars: 95% interval of the score and of "
            "the median. Maps that were not measured there are left out."
        )
    floors = floor_note([entry.floor for entry in tradeoffs])
    scale = NOTE if any(entry.yardsticks for entry in tradeoffs) else ""
    note = " ".join(filter(None, (note, floors, scale)))
    add_header(figure, title, _legend_entries(tradeoffs), note, answer)
    return figure


def _draw(axes: Axes, data: Tradeoff) -> None:
    dress(axes)
    front = data.front
    axes.step(
        [point.cost for point in front],
        [point.value for point in front],
        where="pre" if data.timings is None else "post",
        color=FAINT,
        linewidth=1.3,
        zorder=2,
    )
    alike: dict[tuple[Family, bool, bool], list[TradeoffPoint]] = {}
    for point in data.points:
        alike.setdefault((point.family, point.is_on_front, point.differs), []).append(point)
    for points in alike.values():
        _draw_points(axes, points)
    if data.chosen is not None:
        mark = marker_handle("*", INK, CHOSEN, 15)
        mark.set_data([data.chosen.cost], [data.chosen.value])
        mark.set_zorder(6)
        axes.add_line(mark)
    _dress_cost_axis(axes, data)
    set_scale(axes, data.scale, _drawn_values(data))
    _name_uniform_maps(axes, data)
    levels = []
    if data.floor is not None and is_within_axis(axes, data.floor):
        levels.append(_draw_level(axes, data.floor.label, data.floor.value, FLOOR_LOOK))
    if data.limit is not None:
        levels.append(_draw_level(axes, LIMIT, data.limit, LIMIT_LOOK))
    draw_side_labels(axes, [*levels, *tick_labels(axes, data.yardsticks)], _PANEL_HEIGHT)
    better = "lower is better" if data.lower_is_better else "higher is better"
    axes.set_title(axis_title(data.metric).replace(" against", "\nagainst"), fontsize=TEXT, loc="left")
    axes.set_ylabel(better, fontsize=SMALL, color=FAINT)


def _draw_level(axes: Axes, name: str, value: float, look: tuple[str, object]) -> SideLabel:
    """A horizontal line across the panel; its label for the right end."""
    colour, style = look
    axes.axhline(value, color=colour, linewidth=1.1, linestyle=style, zorder=2)
    return SideLabel(value_label(name, value), value, colour)


def _dress_cost_axis(axes: Axes, data: Tradeoff) -> None:
    if data.timings is None:
        axes.set_xlim(-0.04, 1.04)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("MACs in INT8", fontsize=TEXT, color=INK)
    else:
        axes.set_xlabel(f"ms, batch {data.timings.batch} (less is better)", fontsize=TEXT, color=INK)
        axes.margins(x=0.12)


def _name_uniform_maps(axes: Axes, data: Tradeoff) -> None:
    """Names beside the marks of the uniform maps; those that lie on each other share one."""
    axes.autoscale_view(scaley=False)
    low, high = axes.get_xlim()
    named: list[tuple[float, float, str]] = []
    for point in data.points:
        if point.label is None:
            continue
        x, y = (point.cost - low) / (high - low), axes_fraction(axes, point.value)
        near = [entry for entry in named if abs(entry[0] - x) < _ONE_MARK and abs(entry[1] - y) < _ONE_MARK]
        for entry in near:
            named.remove(entry)
        named.append((x, y, ", ".join([*(entry[2] for entry in near), point.label])))
    for x, y, name in named:
        is_left = x < 0.5
        text = axes.annotate(
            name,
            (x, y),
            xycoords="axes fraction",
            xytext=(8 if is_left else -8, 5),
            textcoords="offset points",
            ha="left" if is_left else "right",
            va="bottom",
            fontsize=SMALL,
            color=INK,
            zorder=7,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _draw_points(axes: Axes, points: Sequence[TradeoffPoint]) -> None:
    """Markers and intervals of points that look alike."""
    first = points[0]
    marker, colour = _LOOKS[first.family]
    is_uniform = first.family is Family.UNIFORM
    axes.errorbar(
        [point.cost for point in points],
        [point.value for point in points],
        [point.half_width or 0.0 for point in points],
        [point.ms_half_width or 0.0 for point in points],
        linestyle="",
        marker=marker,
        color=colour,
        markerfacecolor="white" if first.differs else colour,
        markersize=5.5,
        elinewidth=0.8,
        alpha=1.0 if first.is_on_front or is_uniform else 0.55,
        zorder=3 + first.is_on_front + 2 * is_uniform,
    )


def _drawn_values(data: Tradeoff) -> list[float]:
    values = [] if data.limit is None else [data.limit]
    for point in data.points:
        half = point.half_width or 0.0
        values += [point.value, point.value + half]
        if data.scale == "linear":
            values.append(point.value - half)
    return values


def _legend_entries(tradeoffs: Sequence[Tradeoff]) -> dict[str, Artist]:
    points = [point for entry in tradeoffs for point in entry.points]
    entries: dict[str, Artist] = {}
    for family, (marker, colour) in _LOOKS.items():
        if any(point.family is family for point in points):
            labels = list(dict.fromkeys(p.label for p in points if p.family is family and p.label))
            name = f"{family} ({', '.join(labels)})" if labels else str(family)
            entries[name] = marker_handle(marker, colour, colour, 5.5)
    if any(point.differs for point in points):
        entries["built differently"] = marker_handle("o", FAINT, "white", 5.5)
    entries["Pareto front"] = Line2D([], [], color=FAINT, linewidth=1.3)
    if any(entry.chosen for entry in tradeoffs):
        entries["chosen map"] = marker_handle("*", INK, CHOSEN, 12)
    return entries
