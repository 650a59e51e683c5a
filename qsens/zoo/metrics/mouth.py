"""Lip-sync scored exactly where the true mouth is known: the metric `mouth-sync`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import Measurement, Metric, SampleSet, ScoredBatch, ScoringContext
from qsens.core.trial import Score
from qsens.scoring.consecutive import annotated_set
from qsens.scoring.intervals import standard_error
from qsens.zoo.metrics.mouth_reader import STATES, MouthReader, shipped_reader

FloatArray = NDArray[np.float64]
OPEN = STATES.index("open")


@dataclass(frozen=True, eq=False)
class Correlation:
    """Pearson's correlation of two series and the influence float64 (N,) of each pair on it, mean zero."""

    value: float
    influence: FloatArray


def correlate(first: NDArray[Any], second: NDArray[Any]) -> Correlation:
    """Correlation of series (N,); 0 where one of them does not vary, because it follows nothing.

    With u and v the series at mean 0 and variance 1, the influence of a pair is u v - r (u² + v²) / 2
    (Devlin, Gnanadesikan & Kettenring 1975).
    """
    one, other = _standardised(first), _standardised(second)
    if one is None or other is None:
        return Correlation(0.0, np.zeros(len(first)))
    products = one * other
    value = float(products.mean())
    influence = products - value * (np.square(one) + np.square(other)) / 2.0
    return Correlation(value, influence - influence.mean())


def true_openings(samples: SampleSet | None, who: str) -> FloatArray:
    """The true opening (N,) of each sample's mouth, 0 to 1.

    Raises:
        SpecError: if the set does not know it.
        DataError: if the mouth never moves.
    """
    known = annotated_set(samples, "mouth", who)
    states = [known.annotation(index).get("mouth") for index in range(len(known))]
    unknown = sum(state is None for state in states)
    if unknown:
        raise SpecError(
            f"{unknown} of {len(states)} samples of {known.name!r} state no mouth",
            "every clip folder of the set needs its mouth.csv",
        )
    openings = np.array([np.asarray(state)[OPEN] for state in states], dtype=np.float64)
    if np.ptp(openings) == 0.0:
        raise DataError(
            f"the mouth of {known.name!r} is open by {openings[:1]} in all {len(openings)} samples",
            "nothing can follow a mouth that does not move; score more samples",
        )
    return openings


class MouthSync(Metric):
    """Correlation of the mouth opening read off a map's pictures with the true one, over all samples.

    1 is the best there is, 0 a mouth that does not follow the sound. The reader is the one that comes with
    qsens; its own correlation on true frames is the ceiling (`qsens zoo score` prints it).
    """

    name = "mouth-sync"
    lower_is_better = False
    needs_features = False
    needs_reference = False
    needs_annotations = ("mouth",)

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> _MouthSyncAccumulator:
        """Raises `SpecError` where the samples do not know the mouth."""
        return _MouthSyncAccumulator(context, true_openings(context.samples, self.name), shipped_reader())


class _MouthSyncAccumulator:
    def __init__(self, context: ScoringContext, truth: FloatArray, reader: MouthReader) -> None:
        self._context = context
        self._truth = truth
        self._reader = reader
        self._readings: list[NDArray[np.float32]] = []
        self._indices: list[int] = []

    def update(self, batch: ScoredBatch) -> None:
        """Raises `ScoreError` for pictures that are not 96 by 96."""
        self._readings.append(self._reader.read(batch.images)[:, OPEN])
        self._indices += range(batch.start, batch.start + len(batch.images))

    def compute(self) -> Measurement:
        if not self._indices:
            raise ScoreError("no image was scored", "pass at least one batch")
        correlation = correlate(np.concatenate(self._readings), self._truth[self._indices])
        clusters = None if self._context.clusters is None else self._context.clusters[self._indices]
        score = Score(
            metric=MouthSync.name,
            value=correlation.value,
            images=len(self._indices),
            against=f"{self._reader.identity} evaluation={self._context.evaluation_digest}",
            lower_is_better=False,
            standard_error=standard_error(correlation.influence, clusters),
        )
        return Measurement(score, correlation.influence)


def _standardised(series: NDArray[Any]) -> FloatArray | None:
    """The series at mean 0 and variance 1; `None` where it does not vary beyond rounding."""
    values = np.asarray(series, dtype=np.float64)
    spread = float(values.std())
    if spread <= 1e-9 * float(np.abs(values).max(initial=0.0)):
        return None
    standardised: FloatArray = (values - values.mean()) / spread
    return standardised
