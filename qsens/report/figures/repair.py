"""The figure of a repair: the error that each layer makes alone in INT8, before and after."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from qsens.core.layer import Layer
from qsens.repair.effect import RepairEffect
from qsens.report.figures.block_axis import label_blocks, label_height
from qsens.report.figures.style import (
    BLUE,
    FAINT,
    SLATE,
    SMALL,
    add_header,
    dress,
    marker_handle,
    new_figure,
    set_scale,
)

_WIDTH = 9.2
_MARGIN = 0.9
_HEIGHT = 2.6
_LEAST = 1e-12


def decibels_of(error: float) -> float:
    """A share of squared error in decibels."""
    return 10 * math.log10(error)


def repair_figure(effect: RepairEffect, layers: Sequence[Layer]) -> Figure:
    """Two marks a layer in execution order: the picture's relative squared error before and after repair."""
    places = {layer.name: layer.index + 0.5 for layer in layers}
    shown = [entry for entry in effect.layers if entry.layer in places]
    width = _WIDTH - _MARGIN
    names = label_height(layers, width)
    figure = new_figure(_WIDTH, _HEIGHT + names + 0.9)
    axes = figure.subplots()
    dress(axes)
    for entry in shown:
        place = places[entry.layer]
        marker, colour = ("o", BLUE) if entry.after <= entry.before else ("s", SLATE)
        before, after = max(entry.before, _LEAST), max(entry.after, _LEAST)
        axes.vlines(place, *sorted((before, after)), color=colour, linewidth=2.2, alpha=0.55)
        axes.plot([place], [before], marker="o", color=FAINT, markerfacecolor="white", markersize=6)
        axes.plot([place], [after], marker=marker, color=colour, markersize=5)
    axes.set_xlim(0, len(layers))
    axes.set_xticks([])
    set_scale(axes, "log", [max(value, _LEAST) for entry in shown for value in (entry.before, entry.after)])
    axes.yaxis.set_major_formatter(lambda value, _: f"{decibels_of(value):.0f} dB")
    axes.set_ylabel("error of the picture", fontsize=SMALL + 0.5)
    label_blocks(axes, layers, width, separators=[axes])
    handles = {
        "as calibrated": marker_handle("o", FAINT, "white", 6),
        "repaired": marker_handle("o", BLUE, BLUE, 5),
        "repaired, and worse": marker_handle("s", SLATE, SLATE, 5),
    }
    if all(entry.after <= entry.before for entry in shown):
        del handles["repaired, and worse"]
    note = (
        f"Squared error against FP32, relative to the picture's variance, on {effect.pictures} calibration "
        "samples held out of the repair; the layer alone in INT8, all others in FP32. Lower is better."
    )
    add_header(figure, "What repair bought: each layer alone in INT8", handles, note)
    return figure
