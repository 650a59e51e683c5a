"""Paired standard errors between any two trials, from the influence values that the run folder keeps."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qsens.evidence import load_evidence
from qsens.trial import Trial

PairedError = Callable[[str, Trial, Trial], float | None]


def no_paired_error(_metric: str, _one: Trial, _other: Trial) -> float | None:
    """For studies without a folder: nothing is known of a pair."""
    return None


def paired_errors(folder: Path) -> PairedError:
    """Standard error of the difference of two trials' scores of a metric; `None` where it cannot be told.

    `folder` holds the evidence. Influence values say how much the two share; the factor by which the
    trials' own standard errors exceed those of independent images (clips, calibration of the first-order
    error) is applied to the pair as well, the larger of the two.
    """

    @cache
    def influences(number: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        evidence = load_evidence(folder, number)
        return {} if evidence is None else dict(evidence.influences)

    def error(metric: str, one: Trial, other: Trial) -> float | None:
        first, second = influences(one.number).get(metric), influences(other.number).get(metric)
        if first is None or second is None or first.shape != second.shape or first.size < 2:
            return None
        factors = [_factor(metric, trial, values) for trial, values in ((one, first), (other, second))]
        known = [factor for factor in factors if factor is not None]
        return max(known) * _independent_error(first - second) if known else None

    return error


def _factor(metric: str, trial: Trial, values: np.ndarray[Any, np.dtype[Any]]) -> float | None:
    score = trial.score(metric)
    plain = _independent_error(values)
    if score is None or not score.standard_error or plain == 0:
        return None
    return score.standard_error / plain


def _independent_error(values: np.ndarray[Any, np.dtype[Any]]) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size))
