"""Figure 4: the same frames by every generator and precision, side by side."""

from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from qsens.report.figures.style import FAINT, INK, SMALL, add_header, new_figure, set_layout
from qsens.zoo.paper.figure4_data import ImageGrid

_SIDE = 1.5
_COLOURS = "inferno"


def figure4(grid: ImageGrid) -> Figure:
    """A row a speaker, a column a kind of picture; error maps against the student's FP32 at the right."""
    rows, columns = len(grid.rows), len(grid.columns) + len(grid.errors)
    figure = new_figure((_SIDE + 0.06) * columns + 1.6, (_SIDE + 0.06) * rows + 1.2)
    set_layout(figure, w_pad=0.02, h_pad=0.02, hspace=0.0, wspace=0.0)
    panels = figure.subplots(rows, columns, squeeze=False)
    norm = Normalize(0, 255 / grid.amplification)
    for place, column in enumerate(grid.columns):
        panels[0, place].set_title(column.title, fontsize=SMALL + 0.5, color=INK)
        for row in range(rows):
            _show(panels[row, place], column.images[row].transpose(1, 2, 0), None)
            if column.psnr_db is not None:
                panels[row, place].set_xlabel(
                    f"{column.psnr_db[row]:.1f} dB", fontsize=SMALL - 0.5, labelpad=1
                )
    for place, error in enumerate(grid.errors, len(grid.columns)):
        panels[0, place].set_title(error.title, fontsize=SMALL + 0.5, color=FAINT)
        for row in range(rows):
            _show(panels[row, place], error.errors[row], norm)
    for row, name in enumerate(grid.rows):
        panels[row, 0].set_ylabel(name, fontsize=SMALL, color=INK)
    if grid.errors:
        _add_bar(figure, panels, norm)
    add_header(figure, "Figure 4. The same frames by every precision", {}, _note(grid))
    return figure


def _note(grid: ImageGrid) -> str:
    text = "Generators see the upper half of the true frame, the reference frame and 0.2 s of sound."
    if any(column.psnr_db is not None for column in grid.columns):
        text += " Numbers: PSNR against the ground truth."
    if grid.errors:
        text += (
            f" Error maps: absolute difference to the student's FP32 picture, averaged over colours, "
            f"amplified x{grid.amplification}."
        )
    return text


def _add_bar(figure: Figure, panels: Any, norm: Normalize) -> None:
    source = ScalarMappable(norm, colormaps[_COLOURS])
    shrink = min(1.0, 3.5 / len(panels))
    bar = figure.colorbar(source, ax=panels, extend="max", shrink=shrink, aspect=25, pad=0.01)
    bar.set_label("error against FP32, 8-bit levels", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL - 0.5)


def _show(axes: Axes, picture: Any, norm: Normalize | None) -> None:
    if norm is None:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture, cmap=colormaps[_COLOURS], norm=norm, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
