"""Trials of a study that may share an axis, with their scores and intervals."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qsens.core.interfaces import Role
from qsens.core.maps import anchor_trial
from qsens.core.metric_names import Z95, role_of
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Score, Study, Trial


@dataclass(frozen=True)
class Scored:
    """A trial's score of one metric, on all images or on those of a screen.

    `half_width` is half of the 95% interval, `None` where unknown; `is_paired` says that it is that of the
    difference to FP32 on the same inputs. `value` is that of `record`, but infinite for identical images.
    `is_screen` says that the images are those of a screen.
    """

    trial: Trial
    value: float
    half_width: float | None
    is_paired: bool
    record: Score
    is_screen: bool


def scored_trials(study: Study, metric: str) -> tuple[Scored, ...]:
    """Trials with a score of `metric` that was measured against the same thing as the first one.

    Scores with another `against` are left out: they must not be compared. A PSNR of identical images is
    infinite here, whatever number stands for it in the record.
    """
    scores = [(trial, trial.score(metric)) for trial in study.scored()]
    return _comparable(study, metric, scores, reference_of(study, metric), is_screen=False)


def screened_trials(study: Study, metric: str) -> tuple[Scored, ...]:
    """As `scored_trials`, on the few images of the screens: screened trials, and scored ones there too.

    Empty where FP32 was not scored on these images.
    """
    baseline = anchor_trial(study, Precision.FP32)
    start = None if baseline is None else screen_score(baseline, metric)
    if start is None:
        return ()
    scores = [(trial, screen_score(trial, metric)) for trial in study.trials]
    return _comparable(study, metric, scores, start.against, is_screen=True)


def screen_score(trial: Trial, metric: str) -> Score | None:
    """The trial's score of that name on the few images of the screens, or `None`."""
    scores = trial.scores if trial.outcome is Outcome.SCREENED else trial.screen_scores
    return next((score for score in scores if score.metric == metric), None)


def reference_of(study: Study, metric: str) -> str | None:
    """The reference of FP32's score of `metric` (without FP32, of the first scored trial's)."""
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
    score = None if baseline is None or role_of(metric) is not Role.DECIBELS else baseline.score(metric)
    return None if score is None else score.value


def _comparable(
    study: Study,
    metric: str,
    scores: Iterable[tuple[Trial, Score | None]],
    against: str | None,
    *,
    is_screen: bool,
) -> tuple[Scored, ...]:
    is_difference, cap = is_against_fp32(study, metric), _value_of_identical_images(study, metric)
    found = []
    for trial, score in scores:
        if score is None or score.against != against:
            continue
        error, is_paired = error_to_fp32(score, is_difference=is_difference)
        half_width = None if error is None or not math.isfinite(error) else Z95 * error
        value = math.inf if cap is not None and score.value >= cap else score.value
        found.append(Scored(trial, value, half_width, is_paired, score, is_screen))
    return tuple(found)
