"""Paired standard errors between trials of one run or of several, from influence values that runs keep."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from qsens.core.trial import Trial
from qsens.run.evidence import Array, Evidence, load_evidence
from qsens.scoring.intervals import first_order_error
from qsens.selection.choose import PairedError


@dataclass(frozen=True)
class Term:
    """One score of a sum: `sign` is 1 or -1, `evidence` the folder with the trial's influence values."""

    sign: int
    evidence: Path
    trial: Trial


ContrastError = Callable[[str, Sequence[Term]], float | None]


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
    for the caller to know: here only their number is compared. Influence values, summed over the frames of a
    clip, say how much the terms share. The factor by which the trials' own standard errors exceed those of
    their influence values (few clips, calibration of the first-order error) is applied to the sum as well,
    the largest of them; it covers clips too where the evidence does not say which there are.
    """

    @cache
    def evidence_of(folder: Path, number: int, digest: str | None) -> Evidence:
        return load_evidence(folder, number, digest) or Evidence(None, {})

    def error(metric: str, terms: Sequence[Term]) -> float | None:
        found = [
            evidence_of(term.evidence, term.trial.number, term.trial.digest_of("evidence")) for term in terms
        ]
        known = [evidence.influences[metric] for evidence in found if metric in evidence.influences]
        if len(known) < len(terms) or len({values.shape for values in known}) != 1:
            return None
        clusters = _common_clusters(found, len(known[0]))
        pairs = list(zip(terms, known, strict=True))
        factors = [_factor(metric, term.trial, values, clusters) for term, values in pairs]
        largest = max((factor for factor in factors if factor is not None), default=None)
        total = np.sum([term.sign * values for term, values in pairs], axis=0)
        plain = first_order_error(total, clusters)
        return None if largest is None or plain is None else largest * plain

    return error


def _common_clusters(found: Sequence[Evidence], images: int) -> Array | None:
    """The labels of the clips; `None` where none are kept, or they contradict each other.

    One that keeps them speaks for all: the inputs are the same, and older versions kept no labels.
    """
    kept = [evidence.clusters for evidence in found if evidence.clusters is not None]
    if not kept or any(not np.array_equal(labels, kept[0]) for labels in kept):
        return None
    return kept[0] if kept[0].shape == (images,) else None


def _factor(metric: str, trial: Trial, values: Array, clusters: Array | None) -> float | None:
    score = trial.score(metric)
    plain = first_order_error(values, clusters)
    if score is None or not score.standard_error or not math.isfinite(score.standard_error) or not plain:
        return None
    return score.standard_error / plain
