"""Sensitivity of single layers and blocks: from isolating maps, else from the steps of a boundary curve."""

import math
from dataclasses import dataclass
from itertools import pairwise

from qsens.paired_errors import PairedError, no_paired_error
from qsens.precision import Precision
from qsens.report.boundary_data import BoundaryLine, boundary_lines
from qsens.report.comparable import Scored, error_to_fp32, is_against_fp32, scored_trials
from qsens.report.map_shapes import Direction, Isolation, IsolationKind, isolations_of, unit_of
from qsens.sweep import anchor_trial
from qsens.trial import Study, Trial

STEP_ORIGINS = {
    Direction.INT8_FIRST: "joins the INT8 layers before it",
    Direction.FLOAT_FIRST: "joins the INT8 layers after it",
}


@dataclass(frozen=True)
class Effect:
    """What one unit does to a metric, in the metric's own unit.

    `origin` says what `value` is: the map with only this unit in INT8 minus FP32; the map with only this
    unit in float minus all-INT8; or the step of a boundary curve at which the unit joins the INT8 side.
    `is_paired` says that `standard_error` is that of the same inputs, not of two taken as independent.
    """

    unit: str
    name: str
    start: int
    origin: str
    value: float
    standard_error: float | None
    is_paired: bool
    trial: int


@dataclass(frozen=True)
class Sensitivity:
    """Effects of one metric, in execution order within each origin."""

    metric: str
    lower_is_better: bool
    is_from_steps: bool
    effects: tuple[Effect, ...]

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins in the order in which they appear."""
        return tuple(dict.fromkeys(effect.origin for effect in self.effects))

    def of(self, origin: str) -> tuple[Effect, ...]:
        """The effects of one origin."""
        return tuple(effect for effect in self.effects if effect.origin == origin)


def sensitivity_of(
    study: Study, metric: str, paired_error: PairedError = no_paired_error
) -> Sensitivity | None:
    """Effects of single units on `metric`; `None` where no map says anything about a single unit.

    A boundary sweep isolates its end layers by the way, so isolating maps count only if one of them
    singles out a unit inside the network.
    """
    scored = scored_trials(study, metric)
    isolated = [
        (entry, isolation)
        for entry in scored
        if entry.trial.applied is not None and math.isfinite(entry.value)
        for isolation in isolations_of(entry.trial.applied, study.layers)
    ]
    has_inner = any(not isolation.is_at_an_end for _, isolation in isolated)
    if has_inner:
        effects = [_isolated_effect(study, metric, pair, paired_error) for pair in isolated]
    else:
        effects = [
            effect
            for line in boundary_lines(study, metric)
            for effect in _steps(study, metric, line, paired_error)
        ]
    found = [effect for effect in effects if effect is not None]
    if not found:
        return None
    kinds = [*map(str, IsolationKind), *STEP_ORIGINS.values()]
    found.sort(key=lambda effect: (kinds.index(effect.origin), effect.start, effect.unit))
    score = scored[0].trial.score(metric)
    return Sensitivity(metric, score is None or score.lower_is_better, not has_inner, tuple(found))


def _isolated_effect(
    study: Study, metric: str, pair: tuple[Scored, Isolation], paired_error: PairedError
) -> Effect | None:
    entry, isolation = pair
    is_only = isolation.kind is IsolationKind.ONLY_INT8
    start = anchor_trial(study, Precision.FP32 if is_only else Precision.INT8)
    origin = next((found for found in scored_trials(study, metric) if found.trial is start), None)
    if start is None or origin is None or not math.isfinite(origin.value):
        return None
    error, is_paired = _error_between(study, metric, (start, entry.trial), paired_error)
    if is_only and not is_paired:
        error, is_paired = _own_error(study, metric, entry.trial)
    value = entry.value - origin.value
    place = (isolation.unit, isolation.name, isolation.start, str(isolation.kind))
    return Effect(*place, value, error, is_paired, entry.trial.number)


def _steps(study: Study, metric: str, line: BoundaryLine, paired_error: PairedError) -> list[Effect]:
    """The change of the score at each cut, signed as if the unit joined the INT8 side."""
    trials = {trial.number: trial for trial in study.trials}
    found = []
    for left, right in pairwise(line.points):
        members = study.layers[left.boundary : right.boundary]
        unit, name = unit_of(members, study.layers) or ("range", f"{members[0].name} … {members[-1].name}")
        before, after = (left, right) if line.direction is Direction.INT8_FIRST else (right, left)
        pair = (trials[before.trial], trials[after.trial])
        error, is_paired = _error_between(study, metric, pair, paired_error)
        place = (unit, name, left.boundary, STEP_ORIGINS[line.direction])
        found.append(Effect(*place, after.value - before.value, error, is_paired, after.trial))
    return found


def _error_between(
    study: Study, metric: str, pair: tuple[Trial, Trial], paired_error: PairedError
) -> tuple[float | None, bool]:
    """Standard error of the difference of two trials; as if independent where nothing better is known."""
    exact = paired_error(metric, *pair)
    if exact is not None:
        return exact, True
    errors = [_own_error(study, metric, trial)[0] for trial in pair]
    known = [error for error in errors if error is not None]
    return (math.hypot(*known) if len(known) == 2 else None), False


def _own_error(study: Study, metric: str, trial: Trial) -> tuple[float | None, bool]:
    score = trial.score(metric)
    if score is None:
        return None, False
    return error_to_fp32(score, is_difference=is_against_fp32(study, metric))
