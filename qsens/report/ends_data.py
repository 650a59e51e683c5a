"""Numbers behind the heat map of float ends: score by layers kept in float at the start and at the end."""

import math
from dataclasses import dataclass

from qsens.core.maps import Ends, cuts_of, ends_of, isolations_of
from qsens.core.trial import Study
from qsens.report.boundary_data import axis_scale
from qsens.report.comparable import scored_trials


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
    """The grid of one metric; `None` unless maps with both ends in float were tried on purpose.

    Cells with one end only come from boundary cuts as well. A single unit in INT8 has two float ends too,
    but belongs to the sensitivity bars; unless half of the mixed maps are ends, there is no grid.
    """
    found: dict[Ends, EndsCell] = {}
    both: list[Ends] = []
    mixed_maps = 0
    scored = scored_trials(study, metric)
    for entry in scored:
        applied = entry.trial.applied
        ends = None if applied is None else ends_of(applied, study.layers)
        mixed_maps += applied is not None and len(cuts_of(applied, study.layers)) != 2
        if applied is None or ends is None or not math.isfinite(entry.value):
            continue
        found.setdefault(ends, EndsCell(ends.first, ends.last, entry.value, entry.trial.number))
        if ends.first and ends.last and not isolations_of(applied, study.layers):
            both.append(ends)
    if len(both) < 2 or 2 * len(found) < mixed_maps:
        return None
    score = scored[0].trial.score(metric)
    # A boundary sweep beside the ends would fill one row and one column, far beyond the ends that were tried.
    firsts, lasts = ({0, *(getattr(ends, side) for ends in both)} for side in ("first", "last"))
    cells = tuple(cell for ends, cell in found.items() if ends.first in firsts and ends.last in lasts)
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
