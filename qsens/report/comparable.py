"""Which trials of a study may share an axis, and what their scores and intervals are."""

import math
from dataclasses import dataclass, replace

from qsens.precision import Precision
from qsens.report.metric_names import base_name
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


def scored_trials(study: Study, metric: str) -> tuple[Scored, ...]:
    """Trials with a score of `metric` that was measured against the same thing as the first one.

    Scores with another `against` are left out: they must not be compared. A PSNR of identical images is
    infinite here, whatever number stands for it in the record.
    """
    against, is_difference = reference_of(study, metric), is_against_fp32(study, metric)
    cap = _value_of_identical_images(study, metric)
    found = []
    for trial in study.scored():
        score = trial.score(metric)
        if score is not None and score.against == against:
            shown = replace(score, value=math.inf) if cap is not None and score.value >= cap else score
            found.append(_scored(trial, shown, is_difference=is_difference))
    return tuple(found)


def reference_of(study: Study, metric: str) -> str | None:
    """What FP32's score of `metric` was measured against (the first scored trial's without FP32)."""
    baseline = anchor_trial(study, Precision.FP32)
    candidates = (*((baseline,) if baseline else ()), *study.scored())
    scores = (trial.score(metric) for trial in candidates)
    return next((score.against for score in scores if score is not None), None)


def is_against_fp32(study: Study, metric: str) -> bool:
    """Whether a score already is a difference from FP32: FP32's own is exact, without a standard error."""
    baseline = anchor_trial(study, Precision.FP32)
    score = None if baseline is None else baseline.score(metric)
    return score is not None and not score.standard_error


def error_to_fp32(score: Score, *, is_difference: bool) -> tuple[float | None, bool]:
    """Standard error of the difference to FP32, else that of the value, and whether it is the former.

    `is_difference` says that the value itself is one.
    """
    if score.difference_standard_error is not None:
        return score.difference_standard_error, True
    return score.standard_error, is_difference and score.standard_error is not None


def built_map_differs(trial: Trial) -> bool:
    """True where the backend is known to have built something else than was asked for."""
    return trial.applied is not None and trial.applied != trial.requested


def _value_of_identical_images(study: Study, metric: str) -> float | None:
    baseline = anchor_trial(study, Precision.FP32)
    score = None if baseline is None or base_name(metric) != "psnr" else baseline.score(metric)
    return None if score is None else score.value


def _scored(trial: Trial, score: Score, *, is_difference: bool) -> Scored:
    error, is_paired = error_to_fp32(score, is_difference=is_difference)
    half_width = None if error is None or not math.isfinite(error) else Z95 * error
    return Scored(trial, score.value, half_width, is_paired)
