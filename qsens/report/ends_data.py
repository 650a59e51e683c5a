"""Numbers behind the heat map of float ends: score by layers kept in float at the start and at the end."""

import math
from dataclasses import dataclass

from qsens.report.boundary_data import axis_scale
from qsens.report.comparable import scored_trials
from qsens.report.map_shapes import Ends, ends_of
from qsens.trial import Study


@dataclass(frozen=True)
class EndsCell:
    """One scored map: `first` and `last` layers in float, all between them INT8."""

    first: int
    last: int
    value: float
    trial: int


@dataclass(frozen=True)
class EndsGrid:
    """All cells of one metric; `firsts` and `lasts` are the axis values in order, counts of layers."""

    metric: str
    lower_is_better: bool
    firsts: tuple[int, ...]
    lasts: tuple[int, ...]
    cells: tuple[EndsCell, ...]
    scale: str
    chosen: EndsCell | None


def ends_grid(study: Study, metric: str, chosen: int | None = None) -> EndsGrid | None:
    """The grid of one metric; `None` unless some map keeps both ends in float.

    Cells with one end only come from boundary cuts as well.
    """
    found: dict[Ends, EndsCell] = {}
    for entry in scored_trials(study, metric):
        ends = None if entry.trial.applied is None else ends_of(entry.trial.applied, study.layers)
        if ends is not None and math.isfinite(entry.value):
            found.setdefault(ends, EndsCell(ends.first, ends.last, entry.value, entry.trial.number))
    both = [ends for ends in found if ends.first and ends.last]
    if len(both) < 2:
        return None
    firsts = {0, *(ends.first for ends in both)}
    lasts = {0, *(ends.last for ends in both)}
    cells = tuple(cell for ends, cell in found.items() if ends.first in firsts and ends.last in lasts)
    score = scored_trials(study, metric)[0].trial.score(metric)
    lower = score is None or score.lower_is_better
    return EndsGrid(
        metric,
        lower,
        tuple(sorted(firsts)),
        tuple(sorted(lasts)),
        cells,
        axis_scale([cell.value for cell in cells], is_ratio=lower),
        next((cell for cell in cells if cell.trial == chosen), None),
    )
