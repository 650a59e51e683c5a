"""Sensitivity bars: what each layer or block does to a metric, in one panel for each kind of evidence."""

import math
import statistics
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from qsens.core.maps import IsolationKind
from qsens.core.metric_names import Z95, axis_title, short_name
from qsens.report.boundary_data import BROAD_SPAN
from qsens.report.figures.style import (
    BLUE,
    GRID,
    INK,
    TEXT,
    VERMILION,
    add_header,
    dress,
    new_figure,
    plain_number,
)
from qsens.report.layer_names import short_names
from qsens.report.sensitivity import Effect, Sensitivity


def sensitivity_figure(sensitivity: Sensitivity, title: str, *, sort: bool = False) -> Figure:
    """Horizontal bars with 95% intervals, units in execution order, or the worst first with `sort`."""
    names = _rows(sensitivity, sort=sort)
    panels = len(sensitivity.labels)
    figure = new_figure(3.4 + 3.6 * panels, 1.9 + 0.21 * max(len(names), 5))
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    for panel, label in zip(axes, sensitivity.labels, strict=True):
        _draw_panel(panel, sensitivity, label, names)
    axes[0].set_yticks(range(len(names)), short_names([name for _, name in names]))
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    add_header(figure, title, _legend_entries(), _note(sensitivity, axes))
    return figure


def _rows(sensitivity: Sensitivity, *, sort: bool) -> list[tuple[str, str]]:
    effects = sorted(sensitivity.effects, key=lambda effect: effect.start)
    if sort:
        first = sensitivity.effects[0]
        hurts_upwards = sensitivity.lower_is_better is (first.origin != IsolationKind.ALL_BUT_INT8)
        sign = -1.0 if hurts_upwards else 1.0
        effects = sorted(effects, key=lambda effect: (effect.label != first.label, sign * effect.value))
    return list(dict.fromkeys((effect.unit, effect.name) for effect in effects))


def _draw_panel(axes: Axes, sensitivity: Sensitivity, label: str, names: Sequence[tuple[str, str]]) -> None:
    dress(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    effects = sensitivity.of(label)
    sign = 1.0 if sensitivity.lower_is_better else -1.0
    is_worse = [sign * effect.value > 0 for effect in effects]
    axes.barh(
        [names.index((effect.unit, effect.name)) for effect in effects],
        [effect.value for effect in effects],
        xerr=[Z95 * (effect.standard_error or 0.0) for effect in effects],
        height=0.68,
        color=[VERMILION if worse else BLUE for worse in is_worse],
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2.0, "alpha": 0.7},
        zorder=3,
    )
    axes.axvline(0.0, color=INK, linewidth=1.0, zorder=4)
    axes.tick_params(axis="y", length=0)
    _scale_values(axes, [abs(effect.value) for effect in effects])
    axes.set_title(_panel_title(effects[0].origin), fontsize=TEXT, loc="left", color=INK)
    axes.set_xlabel(_axis_label(sensitivity, effects[0]), fontsize=TEXT - 0.5, color=INK)


def _scale_values(axes: Axes, sizes: Sequence[float]) -> None:
    """Where a few units dwarf the rest, a log scale beyond the typical effect keeps the rest visible."""
    axes.margins(x=0.08)
    largest = max(sizes)
    typical = max(statistics.median(sizes), largest * 1e-3)
    if largest > BROAD_SPAN * typical > 0:
        threshold = 10.0 ** math.ceil(math.log10(typical))
        axes.set_xscale("symlog", linthresh=threshold)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        axes.axvspan(-threshold, threshold, color="#f3f3f1", zorder=-1, linewidth=0)


def _panel_title(origin: str) -> str:
    titles = {
        str(IsolationKind.ONLY_INT8): "only this in INT8, the rest in float",
        str(IsolationKind.ALL_BUT_INT8): "only this in float, the rest in INT8",
    }
    return titles.get(origin, origin)


def _axis_label(sensitivity: Sensitivity, effect: Effect) -> str:
    name = short_name(sensitivity.metric)
    if sensitivity.is_from_steps:
        return f"change of {name}"
    start = "all INT8" if effect.origin == IsolationKind.ALL_BUT_INT8 else "FP32"
    return f"{name} minus that of {start}{f', on {effect.images} images' if effect.is_screen else ''}"


def _legend_entries() -> dict[str, Artist]:
    return {"worse": Patch(color=VERMILION), "better": Patch(color=BLUE)}


def _note(sensitivity: Sensitivity, panels: Sequence[Axes]) -> str:
    better = "lower is better" if sensitivity.lower_is_better else "higher is better"
    text = f"{axis_title(sensitivity.metric)}; {better}. "
    if sensitivity.is_from_steps:
        text += "No map isolates single layers: these are steps between neighbouring points of the curve. "
    if any(panel.get_xscale() == "symlog" for panel in panels):
        text += "Linear within the grey band, logarithmic beyond it. "
    if sensitivity.screen_images is not None:
        text += f"On {sensitivity.screen_images} images: scored on a screen's images only. "
    errors = [effect.is_paired for effect in sensitivity.effects if effect.standard_error is not None]
    if not errors:
        return text + "No standard errors were measured."
    if all(errors):
        return text + "Bars: 95% interval, paired over the same inputs."
    return text + "Bars: 95% interval; too wide where two maps had to be taken as independent."
