"""Image strips: the same inputs under several maps, with amplified error maps against FP32."""

from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from qsens.report.figures.style import FAINT, INK, SMALL, TEXT, add_header, new_figure, set_layout
from qsens.report.strip_data import ImageStrip, StripColumn

_LONGER_SIDE = 1.55
_COLOURS = "inferno"


def strip_figure(strip: ImageStrip, title: str) -> Figure:
    """Columns are maps, each input has a row of pictures and a row of error maps below it."""
    count, _, high, wide = strip.columns[0].images.shape
    scale = _LONGER_SIDE / max(high, wide)
    width, height = wide * scale, high * scale
    rows, columns = 2 * count, len(strip.columns)
    figure = new_figure(max((width + 0.08) * columns + 1.4, 6.0), (height + 0.08) * rows + 1.5)
    set_layout(figure, w_pad=0.02, h_pad=0.02, hspace=0.0, wspace=0.0)
    panels = figure.subplots(rows, columns, squeeze=False)
    norm = Normalize(0, 255 / strip.amplification)
    for place, column in enumerate(strip.columns):
        panels[0, place].set_title(_column_title(column), fontsize=SMALL, color=INK)
        for index in range(count):
            _show(panels[2 * index, place], column.images[index].transpose(1, 2, 0), None)
            _show(panels[2 * index + 1, place], column.errors[index], norm)
    for index in range(count):
        panels[2 * index, 0].set_ylabel(f"input {index}", fontsize=SMALL, color=INK)
        panels[2 * index + 1, 0].set_ylabel(f"error x{strip.amplification}", fontsize=SMALL, color=FAINT)
    source = ScalarMappable(norm, colormaps[_COLOURS])
    bar = figure.colorbar(source, ax=panels, extend="max", shrink=min(1.0, 6 / rows), aspect=25, pad=0.01)
    bar.set_label("absolute error against FP32, 8-bit levels", fontsize=TEXT - 1)
    bar.ax.tick_params(labelsize=SMALL)
    note = (
        f"Error maps: absolute difference to FP32 averaged over colours, amplified x{strip.amplification} "
        "(full scale is the top of the colour bar; larger errors are clipped)."
    )
    add_header(figure, title, {}, note)
    return figure


def _column_title(column: StripColumn) -> str:
    return f"{column.choice.title}\ntrial {column.choice.trial}"


def _show(axes: Axes, picture: Any, norm: Normalize | None) -> None:
    if norm is None:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture, cmap=colormaps[_COLOURS], norm=norm, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
