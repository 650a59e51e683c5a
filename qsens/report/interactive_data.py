"""The values behind the interactive charts of the page, as plain JSON: trials, curves, fronts and walks."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from qsens.core.maps import Direction, anchor_trial, built_map, int8_share
from qsens.core.metric_names import Z95, axis_title, format_value, headline_metrics, short_name
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Study, Trial
from qsens.report.comparable import reference_of, scored_trials
from qsens.report.figures.block_axis import layer_titles
from qsens.report.figures.boundary_curve import BoundaryCurve, BoundaryLine, boundary_curve, boundary_lines
from qsens.report.figures.sensitivity import Effect, Sensitivity
from qsens.report.figures.tradeoff import Family, tradeoff
from qsens.report.figures.yardstick_axis import yardstick_ticks
from qsens.report.page_content import PageContent
from qsens.report.page_tables import outcome_note, score_text, time_text

_LONGEST_TICK = 16
_DIGITS = {Precision.FP32: "0", Precision.FP16: "1", Precision.INT8: "2"}


def run_data(content: PageContent) -> dict[str, Any]:
    """One run as JSON values. Numbers that are not finite are `None`; texts are not escaped.

    Maps are one digit a layer: 0 FP32, 1 FP16, 2 INT8. Trials are referred to by number.
    """
    study = content.study
    headline = headline_metrics(study.metrics)
    metrics = (*headline, *(metric for metric in study.metrics if metric not in headline))
    baseline, families = anchor_trial(study, Precision.FP32), _families(study, metrics)
    int8, titles = anchor_trial(study, Precision.INT8), layer_titles(study.layers, _LONGEST_TICK)
    return {
        "name": content.run_name,
        "layers": [
            {
                "name": layer.name,
                "short": titles[layer.name],
                "block": layer.block,
                "reason": reason.text if (reason := content.reasons.get(layer.name)) else "",
            }
            for layer in study.layers
        ],
        "places": [timings.place for timings in content.timings],
        "trials": [_trial_data(content, trial, families) for trial in study.trials],
        "metrics": [_metric_data(content, metric) for metric in metrics],
        "chosen": None if content.chosen is None else content.chosen.number,
        "fp32": None if baseline is None else baseline.number,
        "int8": None if int8 is None else int8.number,
        "walks": _walks(study, metrics),
    }


def _trial_data(content: PageContent, trial: Trial, families: dict[int, Family]) -> dict[str, Any]:
    shown = built_map(trial)
    measured = [(entry, entry.of(trial)) for entry in content.timings]
    return {
        "number": trial.number,
        "title": content.study.shapes.map_title(shown),
        "map": _digits(shown, content.study),
        "asked": None if shown == trial.requested else _digits(trial.requested, content.study),
        "share": int8_share(content.study, trial),
        "note": outcome_note(trial),
        "family": str(families.get(trial.number, Family.OTHER)),
        "scores": {score.metric: score_text(score) for score in trial.scores},
        "ms": [None if found is None else [found.ms, found.half_width_ms] for _, found in measured],
        "times": [time_text(entry, trial) for entry, _ in measured],
    }


def _digits(precision_map: PrecisionMap, study: Study) -> str:
    return "".join(_DIGITS[precision_map[layer.name]] for layer in study.layers)


def _families(study: Study, metrics: Sequence[str]) -> dict[int, Family]:
    found = [tradeoff(study, metric) for metric in metrics]
    return {point.trial: point.family for entry in found if entry is not None for point in entry.points}


def _metric_data(content: PageContent, metric: str) -> dict[str, Any]:
    study = content.study
    chosen = None if content.chosen is None else content.chosen.number
    curve = boundary_curve(study, metric, chosen)
    floor = content.floors.get(metric)
    effects = next((entry for entry in content.sensitivities if entry.metric == metric), None)
    return {
        "name": metric,
        "short": short_name(metric),
        "title": axis_title(metric),
        "lower_is_better": curve is None or curve.lower_is_better,
        "is_log": curve is not None and curve.scale != "linear",
        "against": reference_of(study, metric) or "",
        "values": {
            entry.trial.number: [_finite(entry.value), _finite(entry.half_width), format_value(entry.value)]
            for entry in scored_trials(study, metric)
        },
        "lines": [] if curve is None else _lines(curve),
        "references": []
        if curve is None
        else [
            {"label": line.label, "trial": line.trial, "precision": line.precision}
            for line in curve.references
        ],
        "limit": _limit(content, metric),
        "floor": None if floor is None else {"label": floor.label, "value": floor.value},
        "yardsticks": [
            [tick.title, tick.value, format_value(tick.value)] for tick in yardstick_ticks(study, metric)
        ],
        "fronts": [_front(content, metric, place) for place in range(-1, len(content.timings))],
        "effects": [] if effects is None else _effects(effects),
        "effect_limits": [] if effects is None else _effect_limits(effects),
    }


def _limit(content: PageContent, metric: str) -> dict[str, Any] | None:
    """The limit on a score that has one; the axis has no place for an infinite one."""
    limit = content.limits.get(metric)
    if limit is None or not math.isfinite(limit.threshold):
        return None
    return {"value": limit.threshold, "label": f"limit {format_value(limit.threshold)}"}


def _lines(curve: BoundaryCurve) -> list[dict[str, Any]]:
    return [
        {
            "name": _line_name(line.direction, line.float_precision) + _of_screens(line),
            "direction": str(line.direction),
            "points": [[point.boundary, point.trial] for point in line.points],
            "screened": [[_finite(point.value), _finite(point.half_width)] for point in line.points]
            if line.screen_images
            else [],
        }
        for line in curve.lines
    ]


def _of_screens(line: BoundaryLine) -> str:
    return "" if line.screen_images is None else f", screened on {line.screen_images} images"


def _line_name(direction: Direction, side: Precision) -> str:
    if direction is Direction.INT8_FIRST:
        return f"INT8 first, then {side.upper()}"
    return f"{side.upper()} first, then INT8"


def _front(content: PageContent, metric: str, place: int) -> list[int]:
    """Trials on the Pareto front by rising cost: measured time at `place`, the INT8 share where it is -1."""
    timings = None if place < 0 else content.timings[place]
    found = tradeoff(content.study, metric, timings=timings)
    return [] if found is None else [point.trial for point in found.front]


def _effects(found: Sensitivity) -> list[dict[str, Any]]:
    units = {label: {effect.unit for effect in found.of(label)} for label in found.labels}
    return [
        _effect(effect, has_other_units=len(units[effect.label]) > 1)
        for effect in found.effects
        if math.isfinite(effect.value)
    ]


def _effect_limits(found: Sensitivity) -> list[tuple[str, float]]:
    """The effects that reach the limit, one for each way to change a layer."""
    limits = {effect.origin: found.limit_of(effect.label) for effect in reversed(found.effects)}
    return [(origin, limit) for origin, limit in limits.items() if limit is not None and math.isfinite(limit)]


def _effect(effect: Effect, *, has_other_units: bool) -> dict[str, Any]:
    """A block's bar would hide that of its first layer, so beside layers it is of another series."""
    error = effect.standard_error
    is_apart = has_other_units and effect.unit == "block"
    return {
        "origin": f"{effect.label}, whole block" if is_apart else effect.label,
        "is_screen": effect.is_screen,
        "unit": effect.unit,
        "name": effect.name,
        "start": effect.start,
        "value": effect.value,
        "half": None if error is None else _finite(Z95 * error),
        "trial": effect.trial,
    }


def _walks(study: Study, metrics: Iterable[str]) -> list[dict[str, Any]]:
    """Orders to walk the trials in: every boundary line, then by INT8 share."""
    walks: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        for line in boundary_lines(study, metric):
            name = _line_name(line.direction, line.float_precision)
            steps = [[f"boundary {point.boundary}", point.trial] for point in line.points]
            walks.setdefault(name, {"name": name, "steps": steps})
    scored = [trial for trial in study.trials if trial.outcome is not Outcome.FAILED]
    ordered = sorted(scored, key=lambda trial: (int8_share(study, trial), trial.number))
    steps = [[f"{int8_share(study, trial):.1%} INT8", trial.number] for trial in ordered]
    return [*walks.values(), *([{"name": "every map, by INT8 share", "steps": steps}] if steps else [])]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
