"""Colours, sizes, axes and floors shared by all figures; Okabe and Ito's colour-blind-safe palette."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from qsens.core.metric_names import format_value
from qsens.core.precision import Precision
from qsens.report.figures.fonts import file_of
from qsens.run.floors import Floor

INK, FAINT, GRID = "#1a1a1a", "#6b6b6b", "#d9d9d9"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#007F5F", "#A0528C", "#B87A00", "#56B4E9"
PRECISION_COLOURS = {Precision.FP32: INK, Precision.FP16: GREEN, Precision.INT8: PURPLE}
# What is no precision has other colours than they have; vermilion is for limits and what lies beyond them.
SLATE, TEAL = "#4A6A82", "#0E7C86"
CHOSEN = "#E69F00"
# Of runs and other series, here and on the page: none of them stands for a precision, a limit or the choice.
SERIES_COLOURS = (BLUE, "#8C5A2B", TEAL, "#5B4DB1", FAINT, SKY, SLATE)
TITLE, TEXT, SMALL = 12.0, 10.0, 8.5
HEADROOM = 0.08
PNG_DPI = 150
_LARGEST = 1e300
FLOOR_LOOK: tuple[str, object] = (FAINT, (0, (1, 2)))
LIMIT = "limit"
LIMIT_LOOK: tuple[str, object] = (VERMILION, (0, (6, 3)))


class _PlainFigure(Figure):
    """A figure whose texts are shown as they are: a `$` in the name of a layer begins no mathematics."""

    def draw(self, renderer: RendererBase) -> None:
        with self._without_mathematics():
            super().draw(renderer)

    def savefig(self, fname: Any, *, dpi: float = 100, **options: Any) -> None:
        """Lay the figure out and draw it: matplotlib would draw all of it twice."""
        engine = self.get_layout_engine()
        if engine is not None:
            self.set_dpi(dpi)
            with self._without_mathematics():
                engine.execute(self)
            self.set_layout_engine(None)
        super().savefig(fname, dpi=dpi, **options)

    @contextmanager
    def _without_mathematics(self) -> Iterator[None]:
        # Texts that exist know whether they are mathematics; those that drawing makes ask the settings.
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with mpl.rc_context({"text.parse_math": False}):
            yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, laid out so that nothing is cut off; it never touches a display."""
    engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, hspace=0.03, wspace=0.03)
    return _PlainFigure(figsize=(width, height), layout=engine, facecolor="white")


def set_layout(figure: Figure, **settings: Any) -> None:
    """Change settings of the layout of a figure that `new_figure` made."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(**settings)


def add_header(
    figure: Figure, title: str, handles: Mapping[str, Artist], note: str, answer: str = ""
) -> None:
    """Title, `answer` and legend above all panels, `note` on how to read the figure below; all get room."""
    width, height = figure.get_size_inches()
    told = textwrap.wrap(answer, int(width * 72 / (TEXT * 0.56)), break_on_hyphens=False)
    answer_height = 0.19 * len(told)
    height += answer_height
    figure.set_size_inches(width, height)
    longest = max((len(name) for name in handles), default=1)
    columns = max(1, min(len(handles), int(width / (0.5 + longest * SMALL * 0.6 / 72))))
    rows = math.ceil(len(handles) / columns)
    lines = textwrap.wrap(note, int(width * 72 / (SMALL * 0.55)))
    top, bottom = 0.42 + answer_height + 0.21 * rows, 0.08 + 0.16 * len(lines)
    set_layout(figure, rect=(0, bottom / height, 1, 1 - (top + bottom) / height))
    left = 0.1 / width
    figure.text(left, 1 - 0.1 / height, title, va="top", fontsize=TITLE, fontweight="bold", color=INK)
    figure.text(left, 1 - 0.34 / height, "\n".join(told), va="top", fontsize=TEXT, color=INK)
    figure.text(left, 0.08 / height, "\n".join(lines), va="bottom", fontsize=SMALL, color=FAINT)
    if handles:
        legend = figure.legend(
            list(handles.values()),
            [str(place) for place in range(len(handles))],  # a name that begins with "_" would be left out
            loc="upper left",
            bbox_to_anchor=(0.0, 1 - (0.32 + answer_height) / height),
            ncols=columns,
            fontsize=SMALL + 0.5,
            frameon=False,
            borderaxespad=0.2,
        )
        for text, name in zip(legend.get_texts(), handles, strict=True):
            text.set_text(name)


def marker_handle(marker: str, edge: str, face: str, size: float) -> Line2D:
    """A legend entry for a lone marker."""
    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        color=edge,
        markerfacecolor=face,
        markeredgecolor=edge,
        markeredgewidth=0.8,
        markersize=size,
    )


def dress(axes: Axes) -> None:
    """Light grid on the value axis, no box, legible ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=SMALL + 0.5, colors=INK, length=3)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def set_scale(axes: Axes, scale: str, values: Sequence[float]) -> None:
    """Linear, log or symlog y axis that holds `values`, with ticks written as plain numbers.

    Without values, as where all pictures are FP32's and every PSNR is infinite, there is nothing to tick.
    """
    if not values:
        axes.set_yticks([])
        return
    # Sums of two numbers near the largest that there is would be infinite.
    values = [min(max(value, -_LARGEST), _LARGEST) for value in values]
    low, high = min(values), max(values)
    if scale == "linear":
        room = (high - low) * HEADROOM or abs(high) * 0.05 or 1.0
        axes.set_ylim(low - room, high + room)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return
    positive = [value for value in values if value > 0]
    smallest = max(min(positive), high * 1e-6)
    if scale == "log":
        axes.set_yscale("log", nonpositive="clip")
        factor = (high / smallest) ** HEADROOM
        axes.set_ylim(smallest / factor, high * factor)
        _log_ticks(axes.yaxis, smallest, high)
        return
    threshold = 10.0 ** math.floor(math.log10(smallest))
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.5)
    axes.set_ylim(min(low * 1.3, -0.3 * threshold), high * 1.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    steps = (1, 2, 5) if high / low < 300 else (1,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def plain_number(value: float) -> str:
    """Short text for a tick: `5`, `0.02`, `1e-05`."""
    return f"{value:g}"


def whole_ticks(axis: Axis, last: int) -> None:
    """Ticks at whole numbers from 0 to `last`, both ends always among them, 12 to 14 at most."""
    steps = (mantissa * 10**power for power in count() for mantissa in (1, 2, 5))
    step = next(step for step in steps if last / step <= 14)
    ticks = [tick for tick in range(0, last, step) if last - tick >= 0.6 * step]
    axis.set_major_locator(FixedLocator([*ticks, last]))


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move label positions apart until neighbours are `gap` apart, keeping their order and middle."""
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    clusters: list[list[int]] = []
    centres: list[float] = []
    for place in order:
        clusters.append([place])
        centres.append(positions[place])
        while (
            len(clusters) > 1
            and centres[-1] - centres[-2] < gap * (len(clusters[-1]) + len(clusters[-2])) / 2
        ):
            merged = clusters.pop(-2) + clusters.pop()
            clusters.append(merged)
            centres[-2:] = [sum(positions[index] for index in merged) / len(merged)]
    moved = [0.0] * len(positions)
    for members, centre in zip(clusters, centres, strict=True):
        for rank, place in enumerate(members):
            moved[place] = centre + (rank - (len(members) - 1) / 2) * gap
    return moved


def render_png(figure: Figure) -> bytes:
    """The figure as a PNG file; its layout is settled by that and kept."""
    return file_of(figure, format="png", dpi=PNG_DPI, metadata={"Software": None})


def render_svg(figure: Figure, salt: str) -> bytes:
    """The figure as an SVG file; the same figure and `salt` give the same bytes."""
    with mpl.rc_context({"svg.hashsalt": salt}):
        return file_of(figure, format="svg", metadata={"Date": None})


def value_label(name: str, value: float) -> str:
    """A reference line's label with its value."""
    return f"{name}  {format_value(value)}"


def is_within_axis(axes: Axes, floor: Floor) -> bool:
    """Whether the floor lies between the ends of the value axis, which the scores have set."""
    low, high = sorted(axes.get_ylim())
    return low <= floor.value <= high


def floor_note(floors: Iterable[Floor | None]) -> str:
    """An explanation of the dotted lines, with the values that the axis does not reach; may be empty."""
    texts = list(dict.fromkeys(_text(floor) for floor in floors if floor is not None))
    return f"Floor, dotted where the axis reaches it: {'; '.join(texts)}." if texts else ""


def _text(floor: Floor) -> str:
    text = f"{floor.label}, {format_value(floor.value, 3)} at {floor.images} images a side"
    return f"{text} (extrapolated from {floor.measured_images})" if floor.is_extrapolated else text
