"""Yardsticks at the right of a value axis: what familiar alterations of FP32's pictures score there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from qsens.core.alterations import title_of
from qsens.core.metric_names import format_value, shown_value
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.figures.style import FAINT, SMALL, spread

NOTE = "At the right: FP32's own pictures after familiar alterations."
_LABEL_GAP_INCHES = 0.16
_LABEL_DISTANCE_POINTS = 15
# Of a panel's width.
_LEAST_APART = 0.04


@dataclass(frozen=True)
class YardstickTick:
    """The score of one alteration of FP32's pictures, by its name for people."""

    title: str
    value: float


@dataclass(frozen=True)
class SideLabel:
    """A label beside the right end of an axis, at a value of it."""

    text: str
    value: float
    colour: str = FAINT


def yardstick_ticks(study: Study, metric: str) -> tuple[YardstickTick, ...]:
    """The yardsticks that have a finite score of the metric."""
    found = [(entry, entry.score(metric)) for entry in study.yardsticks]
    return tuple(
        YardstickTick(title_of(entry.alteration), score.value)
        for entry, score in found
        if score is not None and math.isfinite(shown_value(metric, score.value))
    )


def yardstick_effects(study: Study, metric: str) -> tuple[YardstickTick, ...]:
    """The change of a score that each yardstick makes, where FP32's own is a number."""
    fp32 = study.anchors.get(Precision.FP32)
    own = None if fp32 is None else fp32.score(metric)
    if own is None or not math.isfinite(shown_value(metric, own.value)):
        return ()
    ticks = yardstick_ticks(study, metric)
    return tuple(YardstickTick(tick.title, tick.value - own.value) for tick in ticks)


def draw_top_ticks(axes: Axes, ticks: Sequence[YardstickTick]) -> None:
    """Dotted lines at the ticks that lie within a horizontal value axis, named where there is room."""
    low, high = sorted(axes.get_xlim())
    last = -math.inf
    for tick in sorted(ticks, key=lambda tick: tick.value):
        if not low <= tick.value <= high:
            continue
        axes.axvline(tick.value, color=FAINT, linewidth=0.8, linestyle=":", zorder=2)
        place = float(axes.transAxes.inverted().transform(axes.transData.transform((tick.value, 0.0)))[0])
        if place - last >= _LEAST_APART:
            text = axes.annotate(
                tick.title,
                xy=(place, 0.99),
                xycoords="axes fraction",
                rotation=90,
                ha="right",
                va="top",
                fontsize=SMALL - 1,
                color=FAINT,
                zorder=5,
            )
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
            last = place


def tick_labels(axes: Axes, ticks: Sequence[YardstickTick]) -> list[SideLabel]:
    """The ticks that lie within the value axis, which the scores have set."""
    low, high = sorted(axes.get_ylim())
    return [
        SideLabel(f"{tick.title}  {format_value(tick.value, 3)}", tick.value)
        for tick in ticks
        if low <= tick.value <= high
    ]


def draw_side_labels(axes: Axes, labels: Sequence[SideLabel], panel_inches: float) -> None:
    """Labels at the right of a panel of that height, moved apart where they would cover each other."""
    places = [axes_fraction(axes, label.value) for label in labels]
    moved = spread(places, _LABEL_GAP_INCHES / panel_inches)
    for label, place, label_place in zip(labels, places, moved, strict=True):
        axes.annotate(
            label.text,
            xy=(1.0, place),
            xytext=(_LABEL_DISTANCE_POINTS, label_place),
            xycoords="axes fraction",
            textcoords=("offset points", "axes fraction"),
            fontsize=SMALL,
            color=label.colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
            },
        )


def axes_fraction(axes: Axes, value: float) -> float:
    """The height of a value in a panel, 0 to 1; infinite ones at its ends."""
    if not math.isfinite(value):
        return 1.0 if value > 0 else 0.0
    display = axes.transData.transform((0.0, value))
    return float(axes.transAxes.inverted().transform(display)[1])
