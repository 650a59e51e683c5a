"""The figure of sensitivity: bars of layers and blocks, in one panel for each kind of evidence."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from qsens.core.maps import Direction, IsolationKind
from qsens.core.metric_names import Z95, axis_title, short_name
from qsens.report.figures.boundary_curve import BROAD_SPAN
from qsens.report.figures.sensitivity import STEP_ORIGINS, Effect, Sensitivity
from qsens.report.figures.style import (
    BLUE,
    GRID,
    INK,
    LIMIT,
    LIMIT_LOOK,
    SLATE,
    SMALL,
    TEXT,
    add_header,
    dress,
    new_figure,
    plain_number,
)
from qsens.report.figures.yardstick_axis import draw_top_ticks

MOST_ROWS = 100
# As in the boundary figure: what INT8 does in one colour, what float does in another.
_COLOURS = {
    str(IsolationKind.ALL_BUT_INT8): SLATE,
    STEP_ORIGINS[Direction.FLOAT_FIRST]: SLATE,
}


def sensitivity_figure(sensitivity: Sensitivity, title: str, *, sort: bool = False) -> Figure:
    """Horizontal bars with 95% intervals, units in execution order, or the worst first with `sort`.

    Of more than `MOST_ROWS` units, those with the largest effects.
    """
    units = len(_rows(sensitivity, sort=sort))
    sensitivity = _with_largest(sensitivity)
    names = _rows(sensitivity, sort=sort)
    panels = len(sensitivity.labels)
    figure = new_figure(3.4 + 3.6 * panels, 1.9 + 0.21 * max(len(names), 5))
    axes = list(figure.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0])
    _scale_values(axes, [abs(effect.value) for effect in sensitivity.effects])
    for panel, label in zip(axes, sensitivity.labels, strict=True):
        _draw_bars(panel, sensitivity, label, names)
    for panel, label in zip(axes, sensitivity.labels, strict=True):
        _draw_levels(panel, sensitivity, label)
    axes[0].set_yticks(range(len(names)), [_row_title(sensitivity, *row) for row in names])
    for panel in axes[1:]:
        panel.yaxis.set_visible(False)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    left_out = f"The {len(names)} of {units} with the largest effects. " if units > len(names) else ""
    add_header(figure, title, {}, left_out + _note(sensitivity, axes))
    return figure


def _with_largest(sensitivity: Sensitivity) -> Sensitivity:
    """Only the `MOST_ROWS` units whose effects are largest, as shares of the largest of the same label."""
    largest = {
        label: max(abs(effect.value) for effect in sensitivity.of(label)) for label in sensitivity.labels
    }
    shares: dict[tuple[str, str], float] = {}
    for effect in sensitivity.effects:
        share = abs(effect.value) / (largest[effect.label] or 1.0)
        unit = (effect.unit, effect.name)
        shares[unit] = max(share, shares.get(unit, 0.0))
    kept = set(sorted(shares, key=lambda unit: -shares[unit])[:MOST_ROWS])
    effects = tuple(effect for effect in sensitivity.effects if (effect.unit, effect.name) in kept)
    return replace(sensitivity, effects=effects)


def _rows(sensitivity: Sensitivity, *, sort: bool) -> list[tuple[str, str]]:
    effects = sorted(sensitivity.effects, key=lambda effect: effect.start)
    if sort:
        first = sensitivity.effects[0]
        hurts_upwards = sensitivity.lower_is_better is (first.origin != IsolationKind.ALL_BUT_INT8)
        sign = -1.0 if hurts_upwards else 1.0
        effects = sorted(effects, key=lambda effect: (effect.label != first.label, sign * effect.value))
    return list(dict.fromkeys((effect.unit, effect.name) for effect in effects))


def _row_title(sensitivity: Sensitivity, unit: str, name: str) -> str:
    if unit == "block":
        return f"{name}, all of it"
    return " … ".join(sensitivity.titles.get(part, part) for part in name.split(" … "))


def _draw_bars(axes: Axes, sensitivity: Sensitivity, label: str, names: Sequence[tuple[str, str]]) -> None:
    dress(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    effects = sensitivity.of(label)
    axes.barh(
        [names.index((effect.unit, effect.name)) for effect in effects],
        [effect.value for effect in effects],
        xerr=[Z95 * (effect.standard_error or 0.0) for effect in effects],
        height=0.68,
        color=_COLOURS.get(effects[0].origin, BLUE),
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2.0, "alpha": 0.7},
        zorder=3,
    )
    axes.axvline(0.0, color=INK, linewidth=1.0, zorder=4)
    axes.tick_params(axis="y", length=0)
    images = f", on {effects[0].images} images" if effects[0].is_screen else ""
    axes.set_title(f"{_panel_title(effects[0].origin)}{images}", fontsize=TEXT, loc="left", color=INK)
    axes.set_xlabel(_axis_label(sensitivity, effects[0]), fontsize=TEXT - 0.5, color=INK)


def _draw_levels(axes: Axes, sensitivity: Sensitivity, label: str) -> None:
    """Yardsticks and the limit, where they lie within the values that all panels have."""
    if sensitivity.of(label)[0].origin != IsolationKind.ALL_BUT_INT8:
        draw_top_ticks(axes, sensitivity.yardsticks)
    limit = sensitivity.limit_of(label)
    low, high = axes.get_xlim()
    if limit is not None and low <= limit <= high:
        colour, style = LIMIT_LOOK
        axes.axvline(limit, color=colour, linewidth=1.3, linestyle=style, zorder=4)
        name = axes.annotate(
            LIMIT,
            xy=(limit, 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="right",
            va="center",
            fontsize=SMALL,
            color=colour,
            zorder=5,
        )
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _scale_values(panels: Sequence[Axes], sizes: Sequence[float]) -> None:
    """One scale for all: logarithmic beyond the typical effect where a few units would dwarf the rest."""
    panels[0].margins(x=0.08)
    largest = max(sizes)
    typical = max(statistics.median(sizes), largest * 1e-3)
    if largest > BROAD_SPAN * typical > 0:
        threshold = 10.0 ** math.ceil(math.log10(typical))
        panels[0].set_xscale("symlog", linthresh=threshold)
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        for panel in panels:
            panel.axvspan(-threshold, threshold, color="#f3f3f1", zorder=-1, linewidth=0)


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
    if effect.origin == IsolationKind.ALL_BUT_INT8:
        return f"{name} minus that with this in INT8 too"
    return f"{name} minus that of FP32"


def _note(sensitivity: Sensitivity, panels: Sequence[Axes]) -> str:
    worse = "right" if sensitivity.lower_is_better else "left"
    text = f"{axis_title(sensitivity.metric)}; bars to the {worse} are worse. "
    if sensitivity.is_from_steps:
        text += "No map isolates single layers: these are steps between neighbouring points of the curve. "
    if any(panel.get_xscale() == "symlog" for panel in panels):
        text += "Linear within the grey band, logarithmic beyond it. "
    if sensitivity.screen_images is not None:
        text += f"On {sensitivity.screen_images} images: scored on a screen's images only. "
    if sensitivity.yardsticks:
        text += "Dotted: what alterations of FP32's own pictures cost. "
    errors = [effect.is_paired for effect in sensitivity.effects if effect.standard_error is not None]
    if not errors:
        return text + "No standard errors were measured."
    if all(errors):
        return text + "Bars: 95% interval, paired over the same inputs."
    return text + "Bars: 95% interval; too wide where two maps had to be taken as independent."
