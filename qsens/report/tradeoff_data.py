"""Numbers behind the trade-off figures: quality against INT8 share or measured time, and the Pareto front."""

import math
from dataclasses import dataclass
from enum import StrEnum

from qsens.core.maps import Direction, int8_share
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.boundary_data import axis_scale, plotted_cuts
from qsens.report.comparable import Scored, built_map_differs, scored_trials
from qsens.report.floors import Floor
from qsens.selection.choose import pareto_front
from qsens.selection.choose_by_latency import latency_front
from qsens.selection.timings import Timings


class Family(StrEnum):
    """Kind of map, for the legend."""

    UNIFORM = "uniform"
    INT8_FIRST = "INT8 first, then float"
    FLOAT_FIRST = "float first, then INT8"
    OTHER = "other maps"


@dataclass(frozen=True)
class TradeoffPoint:
    """One scored map. `share` is the applied INT8 share of the true MACs, 0 to 1.

    `ms` is its measured time and `ms_half_width` half the interval of that median, where time is the cost.
    """

    trial: int
    share: float
    value: float
    half_width: float | None
    family: Family
    label: str | None
    is_on_front: bool
    differs: bool
    ms: float | None = None
    ms_half_width: float | None = None

    @property
    def cost(self) -> float:
        """Where the point lies on the cost axis."""
        return self.share if self.ms is None else self.ms


@dataclass(frozen=True)
class Tradeoff:
    """All points of one metric. The front holds the maps that no other beats in cost and score at once.

    Cost is the INT8 share, of which more is better, or the measured time where there are `timings`.
    `floor` is what the metric shows where only the images differ.
    """

    metric: str
    lower_is_better: bool
    points: tuple[TradeoffPoint, ...]
    chosen: TradeoffPoint | None
    scale: str
    timings: Timings | None = None
    floor: Floor | None = None

    @property
    def front(self) -> tuple[TradeoffPoint, ...]:
        """The Pareto front by rising cost on the axis."""
        return tuple(
            sorted((point for point in self.points if point.is_on_front), key=lambda point: point.cost)
        )


def tradeoff(
    study: Study,
    metric: str,
    chosen: int | None = None,
    timings: Timings | None = None,
    *,
    floor: Floor | None = None,
) -> Tradeoff | None:
    """The trade-off of one metric; `None` with fewer than two comparable finite scores.

    With `timings` the cost is the measured time, and maps that were not measured are left out. `floor` is
    that of the metric.
    """
    scored = [
        entry
        for entry in scored_trials(study, metric)
        if math.isfinite(entry.value)
        and entry.trial.applied is not None
        and (timings is None or timings.of(entry.trial) is not None)
    ]
    if len(scored) < 2:
        return None
    score = scored[0].trial.score(metric)
    lower = score is None or score.lower_is_better
    front = pareto_front(study, metric) if timings is None else latency_front(study, timings, metric)
    points = tuple(_point(study, entry, timings, is_on_front=entry.trial in front) for entry in scored)
    mark = next((point for point in points if point.trial == chosen), None)
    scale = axis_scale([entry.value for entry in scored], is_ratio=lower)
    return Tradeoff(metric, lower, points, mark, scale, timings, floor)


def _point(study: Study, entry: Scored, timings: Timings | None, *, is_on_front: bool) -> TradeoffPoint:
    cuts = plotted_cuts(entry.trial, study.layers)
    family, label = Family.OTHER, None
    if len(cuts) == 2:
        side = cuts[0].float_precision
        family = Family.UNIFORM
        label = "FP32" if side is Precision.FP32 else f"all {(side or Precision.INT8).upper()}"
    elif cuts:
        int8_first = cuts[0].direction is Direction.INT8_FIRST
        family = Family.INT8_FIRST if int8_first else Family.FLOAT_FIRST
    measured = None if timings is None else timings.of(entry.trial)
    return TradeoffPoint(
        entry.trial.number,
        int8_share(study, entry.trial),
        entry.value,
        entry.half_width,
        family,
        label,
        is_on_front,
        built_map_differs(entry.trial),
        None if measured is None else measured.ms,
        None if measured is None else measured.half_width_ms,
    )
