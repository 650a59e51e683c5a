"""Looks of several runs in one figure: colours, markers, legends, value axes, floors and notes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from qsens.core.metric_names import axis_title
from qsens.report.boundary_data import axis_scale
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun
from qsens.report.figures.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, TEXT, VERMILION, set_scale
from qsens.report.floor_line import FLOOR_LOOK, floor_note, is_within_axis
from qsens.report.floors import Floor

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


@dataclass(frozen=True)
class Look:
    """What tells a run from the others, also without colour."""

    colour: str
    marker: str


def looks_of(count: int) -> tuple[Look, ...]:
    """The look of each of `count` runs; no two alike up to 56."""
    return tuple(
        Look(_COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]) for place in range(count)
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
    """The value axis of a panel: scale, limits, name, floors."""
    finite = [value for value in values if math.isfinite(value)]
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


def own_fp32_note(metrics: Sequence[SharedMetric]) -> str:
    """What scores against FP32 outputs of different generators do not say; may be empty."""
    names = [axis_title(metric.name).partition(" against")[0] for metric in metrics if metric.is_own_fp32]
    if not names:
        return ""
    return f"{', '.join(names)}: each run against its own FP32, which is damage and not quality."


def floors_note(runs: Sequence[ComparedRun], metrics: Sequence[SharedMetric]) -> str:
    """What the dotted lines are; may be empty."""
    return floor_note([floor for metric in metrics for floor in _floors(runs, metric)])


def _floors(runs: Sequence[ComparedRun], metric: SharedMetric) -> list[Floor]:
    found = [run.floors[metric.name] for run in runs if metric.name in run.floors]
    return list({f"{floor.label} {floor.value:.3g}": floor for floor in found}.values())
