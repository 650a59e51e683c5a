"""Several extractors in one run: their features lie side by side, and each has its own scores."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from qsens.core.interfaces import (
    Accumulator,
    Extractor,
    Measurement,
    Metric,
    ScoredBatch,
    ScoringContext,
)
from qsens.scoring.metric_around import MetricAround

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class _SideBySide:
    """Runs each extractor on the same images; picklable where they are."""

    parts: tuple[Extractor, ...]

    def __call__(self, images: Array) -> Array:
        return np.concatenate([part.run(images) for part in self.parts], axis=1)


def side_by_side(parts: Sequence[Extractor]) -> Extractor:
    """One extractor that makes the features of each, in order."""
    return Extractor(
        name="+".join(part.name for part in parts),
        dimension=sum(part.dimension for part in parts),
        input_size=max(part.input_size for part in parts),
        preprocessing="that of each",
        weights_sha256="that of each",
        run=_SideBySide(tuple(parts)),
        parts=tuple(parts),
    )


def widths_of(extractor: Extractor | None) -> dict[str, int]:
    """The number of features by extractor, in their order; empty where one extractor makes all."""
    return {} if extractor is None else {part.name: part.dimension for part in extractor.parts}


def columns_of(widths: Mapping[str, int], name: str) -> slice | None:
    """The columns of one extractor among features side by side; `None` for one that is not among them.

    All columns where `widths` is empty, as one extractor made them.
    """
    if not widths:
        return slice(None)
    stops = dict(zip(widths, accumulate(widths.values()), strict=True))
    return slice(stops[name] - widths[name], stops[name]) if name in widths else None


def by_each_extractor(metrics: Sequence[Metric], extractor: Extractor | None) -> tuple[Metric, ...]:
    """The metrics, those that read features once for each of several extractors."""
    if extractor is None or not extractor.parts:
        return tuple(metrics)
    return tuple(found for metric in metrics for found in _by_each(metric, extractor))


def _by_each(metric: Metric, extractor: Extractor) -> Iterator[Metric]:
    if not metric.needs_features:
        yield metric
        return
    start = 0
    for part in extractor.parts:
        # Each keeps what it computed once of features of its own.
        yield OfExtractor(copy.deepcopy(metric), part, slice(start, start + part.dimension))
        start += part.dimension


class OfExtractor(MetricAround):
    """A metric on the features of one of several extractors: those in `columns`."""

    def __init__(self, metric: Metric, extractor: Extractor, columns: slice) -> None:
        super().__init__(metric)
        self._extractor = extractor
        self._columns = columns

    def label(self, context: ScoringContext) -> str:
        """The label of the metric itself, with the name of the extractor."""
        return self._metric.label(self._own(context))

    def start(self, context: ScoringContext) -> Accumulator:
        """The metric's own accumulator, which sees these columns only."""
        return _OfColumns(self._metric.start(self._own(context)), self._columns)

    def _own(self, context: ScoringContext) -> ScoringContext:
        return replace(
            context,
            extractor=self._extractor,
            baseline_features=_cut(context.baseline_features, self._columns),
            reference_features=_cut(context.reference_features, self._columns),
        )


class _OfColumns(Accumulator):
    def __init__(self, accumulator: Accumulator, columns: slice) -> None:
        self._accumulator = accumulator
        self._columns = columns

    def update(self, batch: ScoredBatch) -> None:
        self._accumulator.update(replace(batch, features=_cut(batch.features, self._columns)))

    def compute(self) -> Measurement:
        return self._accumulator.compute()


def _cut(features: Array | None, columns: slice) -> Array | None:
    return None if features is None else features[:, columns]
