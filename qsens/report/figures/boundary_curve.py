"""The boundary curve as data: score against the boundary layer index, from the trials of a study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qsens.core.maps import Cut, Direction, anchor_name, anchor_trial
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.report.comparable import Scored, built_map_differs, scored_trials, screened_trials
from qsens.report.figures.yardstick_axis import YardstickTick, yardstick_ticks
from qsens.run.floors import Floor

BROAD_SPAN = 20.0
CHOSEN_LINE = "chosen"
# Cuts, both ends counted, that make a curve.
_FEWEST = 4


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
    """All points of one direction and one float precision, by boundary index.

    `screen_images` is the number of images of a screen, whose differences from FP32 are added to FP32's
    score on all images; `None` for scores on all of them.
    """

    direction: Direction
    float_precision: Precision
    points: tuple[BoundaryPoint, ...]
    screen_images: int | None = None


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line: the score of a uniform or of the chosen map; infinite scores have a label only.

    `precision` is that of a uniform map.
    """

    label: str
    value: float
    half_width: float | None
    trial: int
    precision: Precision | None = None


@dataclass(frozen=True)
class BoundaryCurve:
    """Everything a panel of the boundary figure shows for one metric.

    `layers` is N, the largest boundary index. `scale` is `linear`, `log` or `symlog`. `chosen` is the
    chosen map as a point where it is a cut of one of the lines. `is_paired` says that every interval is
    that of the difference to FP32. `floor` is what the metric shows where only the images differ,
    `yardsticks` what it shows of FP32's own pictures after alterations, `limit` the worst acceptable score.
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
    yardsticks: tuple[YardstickTick, ...] = ()
    limit: float | None = None


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
    lines = boundary_lines(study, metric) or screened_lines(study, metric)
    points = [point for line in lines for point in line.points]
    in_full = [point for line in _lines_of(study, scored) for point in line.points]
    mark = next((point for point in (*in_full, *points) if point.trial == chosen), None)
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
        yardstick_ticks(study, metric),
    )


def boundary_lines(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    """Lines with at least one real cut; the uniform maps close them at 0 and N.

    None unless cuts make up more than half of the study's mixed maps, nor of a few points, nor where more
    cuts were screened: searches score some by the way; a line through these would claim what nobody measured.
    """
    fewest = min(_FEWEST, len(study.layers) + 1)
    lines = _lines_of(study, scored_trials(study, metric))
    lines = tuple(line for line in lines if len(line.points) >= fewest)
    return () if _count(lines) < _count(screened_lines(study, metric)) else lines


def screened_lines(study: Study, metric: str) -> tuple[BoundaryLine, ...]:
    """Lines of the screens of a run without a boundary on all images; none where few cuts were screened."""
    baseline = anchor_trial(study, Precision.FP32)
    full = None if baseline is None else baseline.score(metric)
    entries = screened_trials(study, metric)
    of_fp32 = next((entry for entry in entries if entry.trial is baseline), None)
    if full is None or of_fp32 is None:
        return ()
    shift = full.value - of_fp32.record.value
    # Searches screen single layers and pairs too: only cuts are looked at, and few of them are no curve.
    cuts = [entry for entry in entries if plotted_cuts(entry.trial, study)]
    lines = _lines_of(study, [replace(entry, value=entry.value + shift) for entry in cuts])
    images = of_fp32.record.images
    return tuple(replace(line, screen_images=images) for line in lines if len(line.points) >= _FEWEST)


def _count(lines: Sequence[BoundaryLine]) -> int:
    return sum(len(line.points) for line in lines)


def _lines_of(study: Study, entries: Sequence[Scored]) -> tuple[BoundaryLine, ...]:
    grouped: dict[tuple[Direction, Precision], dict[int, BoundaryPoint]] = {}
    uniform: list[tuple[Cut, BoundaryPoint]] = []
    mixed_maps = 0
    for entry in entries:
        cuts = plotted_cuts(entry.trial, study)
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


def plotted_cuts(trial: Trial, study: Study) -> tuple[Cut, ...]:
    """Cuts of what the engine ran; of what was asked for only where the engine's own map is no cut."""
    if trial.applied is None:
        return ()
    return study.shapes.cuts_of(trial.applied) or study.shapes.cuts_of(trial.requested)


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
    labels: dict[int, tuple[str, Precision | None]] = {}
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            labels[trial.number] = (anchor_name(precision, study.layers), precision)
    if chosen is not None:
        labels.setdefault(chosen, (f"{CHOSEN_LINE}, trial {chosen}", None))
    return tuple(
        ReferenceLine(label, entry.value, entry.half_width, entry.trial.number, precision)
        for entry in scored
        if entry.trial.number in labels
        for label, precision in [labels[entry.trial.number]]
    )
