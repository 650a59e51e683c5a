"""The trade-offs of several runs in one figure: score against INT8 share."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun
from qsens.report.compare_looks import Look, finish_values, floors_note, looks_of, own_fp32_note, run_handles
from qsens.report.figures.style import FAINT, INK, TEXT, add_header, dress, marker_handle, new_figure
from qsens.report.tradeoff_data import Tradeoff, tradeoff

# Keeps the intervals of maps with the same share apart.
_DODGE = 0.008


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
