"""Which trials of a study may share an axis, and what their scores and intervals are."""

import math
from dataclasses import dataclass

from qsens.precision import Precision
from qsens.selection import Z95
from qsens.sweep import anchor_trial
from qsens.trial import Score, Study, Trial


@dataclass(frozen=True)
class Scored:
    """A trial's score of one metric. `half_width` is half of the 95% interval, `None` where unknown.

    `is_paired` says that the interval is that of the difference to FP32 on the same inputs.
    """

    trial: Trial
    value: float
    half_width: float | None
    is_paired: bool
    difference: float | None


def scored_trials(study: Study, metric: str) -> tuple[Scored, ...]:
    """Trials with a score of `metric` that was measured against the same thing as the first one.

    Scores with another `against` are left out: they must not be compared.
    """
    against = reference_of(study, metric)
    found = []
    for trial in study.scored():
        score = trial.score(metric)
        if score is not None and score.against == against:
            found.append(_scored(trial, score))
    return tuple(found)


def reference_of(study: Study, metric: str) -> str | None:
    """What FP32's score of `metric` was measured against (the first scored trial's without FP32)."""
    baseline = anchor_trial(study, Precision.FP32)
    candidates = (*((baseline,) if baseline else ()), *study.scored())
    scores = (trial.score(metric) for trial in candidates)
    return next((score.against for score in scores if score is not None), None)


def half_width_of(score: Score) -> tuple[float | None, bool]:
    """Half of the 95% interval and whether it is the paired one."""
    if score.difference_standard_error is not None:
        return Z95 * score.difference_standard_error, True
    if score.standard_error is not None:
        return Z95 * score.standard_error, False
    return None, False


def built_map_differs(trial: Trial) -> bool:
    """True where the backend is known to have built something else than was asked for."""
    return trial.applied is not None and trial.applied != trial.requested


def _scored(trial: Trial, score: Score) -> Scored:
    half_width, is_paired = half_width_of(score)
    if half_width is not None and not math.isfinite(half_width):
        half_width = None
    return Scored(trial, score.value, half_width, is_paired, score.difference)
