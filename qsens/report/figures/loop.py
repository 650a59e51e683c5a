"""The figure of a loop: errors of maps from call to call or frame to frame, and what the loop feeds back."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qsens.calibration.recorded_calls import Extremes
from qsens.core.precision import Precision
from qsens.report.figures.style import (
    CHOSEN,
    PRECISION_COLOURS,
    SERIES_COLOURS,
    SMALL,
    add_header,
    dress,
    new_figure,
    set_scale,
)
from qsens.run.step_errors import StepErrors

_WIDTH, _HEIGHT = 9.2, 2.7
_MOST_INPUTS = 5
_ROOM = 1.2


def loop_figure(found: StepErrors, steps: Sequence[Extremes], chosen: int | None) -> Figure:
    """Errors at the left; at the right the largest magnitude of each input that moves, in FP32."""
    figure = new_figure(_WIDTH, _HEIGHT + 0.9)
    left, right = figure.subplots(1, 2)
    place = "frame" if found.are_frames else "call"
    handles = {**_errors(left, found, chosen), **_magnitudes(right, steps)}
    for axes, title in ((left, "error against FP32"), (right, "largest magnitude fed")):
        axes.set_ylabel(title, fontsize=SMALL + 0.5)
        axes.set_xlabel(place, fontsize=SMALL + 0.5)
    end = "" if found.are_frames else "; the last is the picture"
    note = (
        f"Left: root mean square of the difference over that of FP32's values, at each {place}{end}; FP32 "
        f"and each map play by themselves, {found.samples} samples of the evaluation set. Right: FP32, over "
        "all calls of the calibration samples."
    )
    add_header(figure, "Along the loop", handles, note)
    return figure


def _errors(axes: Axes, found: StepErrors, chosen: int | None) -> dict[str, Line2D]:
    handles = {}
    for entry in found.maps:
        is_chosen = entry.trial == chosen
        colour = CHOSEN if is_chosen else PRECISION_COLOURS[Precision.INT8]
        handles[entry.title + (" (chosen)" if is_chosen else "")] = _line(axes, entry.errors, colour, "o")
    _finish(axes, [error for entry in found.maps for error in entry.errors])
    return handles


def _magnitudes(axes: Axes, steps: Sequence[Extremes]) -> dict[str, Line2D]:
    found = dict(list(magnitudes(steps).items())[:_MOST_INPUTS])
    colours = zip(SERIES_COLOURS, found.items(), strict=False)
    handles = {f"input {name}": _line(axes, values, colour, "s") for colour, (name, values) in colours}
    _finish(axes, [value for values in found.values() for value in values])
    return handles


def _line(axes: Axes, values: Sequence[float], colour: str, marker: str) -> Line2D:
    """Values from place 1 on; a zero, as before the first call, has no place on a logarithmic scale."""
    shown = [(place, value) for place, value in enumerate(values, 1) if value > 0]
    places, heights = [place for place, _ in shown], [value for _, value in shown]
    (line,) = axes.plot(places, heights, color=colour, marker=marker, markersize=3)
    return line


def _finish(axes: Axes, values: Sequence[float]) -> None:
    dress(axes)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    shown = [value for value in values if value > 0]
    # Room around values that are all the same.
    set_scale(axes, "log", [*(value / _ROOM for value in shown), *(value * _ROOM for value in shown)])


def magnitudes(steps: Sequence[Extremes]) -> Mapping[str, list[float]]:
    """The largest magnitude of each float input at each step."""
    names = dict.fromkeys(name for step in steps for name in step.ends)
    return {
        name: [max(map(abs, step.ends[name]), default=0.0) for step in steps if name in step.ends]
        for name in names
    }
