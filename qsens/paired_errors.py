"""Paired standard errors between trials of one run or of several, from influence values that runs keep."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qsens.evidence import load_evidence
from qsens.trial import Trial

PairedError = Callable[[str, Trial, Trial], float | None]
Influences = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Term:
    """One score of a sum: `sign` is 1 or -1, `evidence` the folder with the trial's influence values."""

    sign: int
    evidence: Path
    trial: Trial


ContrastError = Callable[[str, Sequence[Term]], float | None]


def no_paired_error(_metric: str, _one: Trial, _other: Trial) -> float | None:
    """For studies without a folder: nothing is known of a pair."""
    return None


def paired_errors(folder: Path) -> PairedError:
    """Standard error of the difference of two trials' scores of a metric; `None` where it cannot be told.

    `folder` holds the evidence of both. `contrast_errors` says how it is made.
    """
    contrast = contrast_errors()

    def error(metric: str, one: Trial, other: Trial) -> float | None:
        return contrast(metric, (Term(1, folder, one), Term(-1, folder, other)))

    return error


def contrast_errors() -> ContrastError:
    """Standard error of a sum of scores of a metric with signs; `None` where it cannot be told.

    The terms may lie in several run folders. That they were scored on the same inputs in the same order is
    for the caller to know: here only their number is compared. Influence values say how much the terms
    share; the factor by which the trials' own standard errors exceed those of independent images (clips,
    calibration of the first-order error) is applied to the sum as well, the largest of them.
    """

    @cache
    def influences(folder: Path, number: int) -> Influences:
        evidence = load_evidence(folder, number)
        return {} if evidence is None else dict(evidence.influences)

    def error(metric: str, terms: Sequence[Term]) -> float | None:
        found = [influences(term.evidence, term.trial.number).get(metric) for term in terms]
        known = [values for values in found if values is not None]
        if len(known) < len(terms) or len({values.shape for values in known}) != 1 or known[0].size < 2:
            return None
        pairs = list(zip(terms, known, strict=True))
        factors = [_factor(metric, term.trial, values) for term, values in pairs]
        largest = max((factor for factor in factors if factor is not None), default=None)
        total = np.sum([term.sign * values for term, values in pairs], axis=0)
        return None if largest is None else largest * _independent_error(total)

    return error


def _factor(metric: str, trial: Trial, values: np.ndarray[Any, np.dtype[Any]]) -> float | None:
    score = trial.score(metric)
    plain = _independent_error(values)
    if score is None or not score.standard_error or not math.isfinite(score.standard_error) or plain == 0:
        return None
    return score.standard_error / plain


def _independent_error(values: np.ndarray[Any, np.dtype[Any]]) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size))
