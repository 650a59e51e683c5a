"""Numbers behind the boundary curve: points, lines, reference lines and the axis, apart from any drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsens.core.layer import Layer
from qsens.core.maps import Cut, Direction, anchor_trial, cuts_of
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.report.comparable import Scored, built_map_differs, scored_trials
from qsens.report.floors import Floor

BROAD_SPAN = 20.0


@dataclass(frozen=True)
class BoundaryPoint:
    """One scored cut. `differs` marks an engine that was not built as requested.

    `boundary` comes from the applied map; where that is no cut at all, from the requested one.
    """

    boundary: int
    value: float
    half_width: float | None
    trial: int
    differs: bool


@dataclass(frozen=True)
class BoundaryLine:
    """All points of one direction and one float precision, by boundary index."""

    direction: Direction
    float_precision: Precision
    points: tuple[BoundaryPoint, ...]


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line: the score of a uniform or of the chosen map; infinite scores have a label only."""

    label: str
    value: float
    half_width: float | None
    trial: int


@dataclass(frozen=True)
class BoundaryCurve:
    """Everything a panel of the boundary figure shows for one metric.

    `layers` is N, the largest boundary index. `scale` is `linear`, `log` or `symlog`. `chosen` is the
    chosen map as a point where it is a cut of one of the lines. `is_paired` says that every interval is
    that of the difference to FP32. `floor` is what the metric shows where only the images differ.
    """

    metric: str
    lower_is_better: bool
    layers: int
    lines: tuple[BoundaryLine, ...]
    references: tuple[ReferenceLine, ...]
    chosen: BoundaryPoint | None
    scale: str
    is_paired: bool
    floor: Floor | None = None


def boundary_curve(
    study: Study, metric: str, chosen: int | None = None, floor: Floor | None = None
) -> BoundaryCurve | None:
    """The curve of one metric; `None` where nothing comparable was scored.

    `chosen` is the number of the trial whose map was selected, `floor` that of the metric. Source
    of the figure: Kim et al. 2023, Figure 3 (arXiv 2304.00471).
    """
    scored = scored_trials(study, metric)
    if not scored:
        return None
    lines = boundary_lines(study, metric)
    points = [point for line in lines for point in line.points]
    mark = next((point for point in points if point.trial == chosen), None)
    references = _reference_lines(study, scored, None if mark else chosen)
    values = [point.value for point in points] + [line.value for line in references]
    score = scored[0].trial.score(metric)
    baseline = anchor_trial(study, Precision.FP32)
    measured = [entry for entry in scored if entry.half_width is not None and entry.trial is not baseline]
    return BoundaryCurve(
        metric,
        score is None or score.lower_is_better,
        len(study.layers),
        lines,
        references,
        mark,
        axis_scale(values, is_ratio=score is None or score.lower_is_better),
        bool(measured) and all(entry.is_paired for entry in measured),
        floor,
    )


def boundary_lines(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    """Lines with at least one real cut; the uniform maps close them at 0 and N.

    None unless cuts make up more than half of the study's mixed maps: other strategies try a few cuts by
    the way, and a line through these would claim what nobody measured.
    """
    grouped: dict[tuple[Direction, Precision], dict[int, BoundaryPoint]] = {}
    uniform: list[tuple[Cut, BoundaryPoint]] = []
    mixed_maps = 0
    for entry in scored_trials(study, metric):
        cuts = plotted_cuts(entry.trial, study.layers)
        mixed_maps += len(cuts) != 2
        for cut in cuts if math.isfinite(entry.value) else ():
            point = _point(cut, entry)
            if len(cuts) == 2 or cut.float_precision is None:
                uniform.append((cut, point))
            else:
                grouped.setdefault((cut.direction, cut.float_precision), {})[cut.boundary] = point
    if sum(len(points) for points in grouped.values()) * 2 <= mixed_maps:
        return ()
    _close_lines(grouped, uniform)
    return tuple(
        BoundaryLine(*key, tuple(points[index] for index in sorted(points)))
        for key, points in sorted(grouped.items(), reverse=True)
    )


def plotted_cuts(trial: Trial, layers: Sequence[Layer]) -> tuple[Cut, ...]:
    """Cuts of what the engine ran; of what was asked for only where the engine's own map is no cut."""
    if trial.applied is None:
        return ()
    return cuts_of(trial.applied, layers) or cuts_of(trial.requested, layers)


def axis_scale(values: Sequence[float], *, is_ratio: bool) -> str:
    """`log` where positive values span more than 20x, `symlog` where zeros or negatives belong to them.

    `is_ratio` is false for decibels and other scores whose ratios mean nothing.
    """
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if not is_ratio or not positive or max(positive) / min(positive) <= BROAD_SPAN:
        return "linear"
    return "log" if len(positive) == len(finite) else "symlog"


def _close_lines(
    grouped: dict[tuple[Direction, Precision], dict[int, BoundaryPoint]],
    uniform: Sequence[tuple[Cut, BoundaryPoint]],
) -> None:
    """Add the uniform maps to the lines that they end."""
    for cut, point in uniform:
        for (direction, side), points in grouped.items():
            if direction is cut.direction and cut.float_precision in (None, side):
                points.setdefault(cut.boundary, point)


def _point(cut: Cut, entry: Scored) -> BoundaryPoint:
    differs = built_map_differs(entry.trial)
    return BoundaryPoint(cut.boundary, entry.value, entry.half_width, entry.trial.number, differs)


def _reference_lines(study: Study, scored: Sequence[Scored], chosen: int | None) -> tuple[ReferenceLine, ...]:
    labels = {}
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            labels[trial.number] = "FP32" if precision is Precision.FP32 else f"all {precision.upper()}"
    if chosen is not None:
        labels.setdefault(chosen, f"chosen, trial {chosen}")
    found = [entry for entry in scored if entry.trial.number in labels]
    return tuple(
        ReferenceLine(labels[entry.trial.number], entry.value, entry.half_width, entry.trial.number)
        for entry in found
    )
