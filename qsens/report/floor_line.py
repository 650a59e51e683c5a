"""The floor of a metric in figures: whether it fits the axis, its look and what the note below says."""

from collections.abc import Iterable

from matplotlib.axes import Axes

from qsens.core.metric_names import format_value
from qsens.report.figures.style import FAINT
from qsens.report.floors import Floor

FLOOR_LOOK = (FAINT, (0, (1, 2)))


def is_within_axis(axes: Axes, floor: Floor) -> bool:
    """Whether the floor lies between the ends of the value axis, which the scores have set."""
    low, high = sorted(axes.get_ylim())
    return low <= floor.value <= high


def floor_note(floors: Iterable[Floor | None]) -> str:
    """What the dotted lines are, with the value of those that the axis does not reach; may be empty."""
    texts = list(dict.fromkeys(_text(floor) for floor in floors if floor is not None))
    return f"Floor, dotted where the axis reaches it: {'; '.join(texts)}." if texts else ""


def _text(floor: Floor) -> str:
    text = f"{floor.label}, {format_value(floor.value, 3)} at {floor.images} images a side"
    return f"{text} (extrapolated from {floor.measured_images})" if floor.is_extrapolated else text
