"""Fréchet distance to real images and to the FP32 outputs, as metrics; parts that feature metrics share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import Extractor, Measurement, Metric, ScoredBatch, ScoringContext
from qsens.core.metric_names import BUILT_IN, FRECHET_CALIBRATION
from qsens.core.trial import Score
from qsens.scoring import inception
from qsens.scoring.frechet import FloatArray, Reference
from qsens.scoring.influence import (
    FrechetMeasurement,
    measure_pair,
    measure_to_reference,
    second_order_factor,
)
from qsens.scoring.intervals import standard_error

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=Metric)


class FeatureCollector:
    """Keeps the features of consecutive batches as they come, float32."""

    def __init__(self) -> None:
        self._parts: list[NDArray[Any]] = []
        self._start = 0
        self._stop = 0

    def add(self, batch: ScoredBatch) -> None:
        """Raises `SpecError` without features, `DataError` if batches are not consecutive."""
        if batch.features is None:
            raise SpecError("this metric needs features, but the batch has none", "choose an extractor")
        if self._parts and batch.start != self._stop:
            raise DataError(
                f"a batch starts at image {batch.start}, expected {self._stop}", "pass batches in order"
            )
        if not self._parts:
            self._start = batch.start
        self._parts.append(batch.features)
        self._stop = batch.start + len(batch.features)

    @property
    def features(self) -> NDArray[Any]:
        """All features so far, (N, D). Raises `ScoreError` if there are none."""
        if not self._parts:
            raise ScoreError("no image was scored", "pass at least one batch")
        return np.concatenate(self._parts)

    def same_images(self, values: NDArray[Any]) -> NDArray[Any]:
        """The entries of `values` (one an evaluation image) that belong to the images so far.

        Raises:
            DataError: if there are too few.
        """
        if len(values) < self._stop:
            raise DataError(
                f"{len(values)} values for {self._stop} images", "compute them over the same evaluation set"
            )
        return values[self._start : self._stop]

    def clusters(self, context: ScoringContext) -> NDArray[Any] | None:
        """Clip labels of the images so far."""
        return None if context.clusters is None else self.same_images(context.clusters)


class FeatureAccumulator(Generic[Kind]):
    """Collects the features of a map's images for the metric that started it."""

    def __init__(self, metric: Kind, context: ScoringContext) -> None:
        self._metric = metric
        self._context = context
        self._collector = FeatureCollector()

    def update(self, batch: ScoredBatch) -> None:
        self._collector.add(batch)


class LastResults(Generic[Result]):
    """Results for the arrays asked about last: every map of a run asks about FP32 on all samples and a few.

    Copies in other processes start empty.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[tuple[NDArray[Any], ...], Result]] = deque(maxlen=2)

    def of(self, arrays: tuple[NDArray[Any], ...], compute: Callable[[], Result]) -> Result:
        """The kept result if the arrays hold the same values, else a new one."""
        for known, result in self._kept:
            if _hold_the_same(known, arrays):
                return result
        self._kept.append((arrays, compute()))
        return self._kept[-1][1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def extractor_of(context: ScoringContext) -> Extractor:
    """The context's extractor. Raises `SpecError` if there is none."""
    if context.extractor is None:
        raise SpecError("this metric needs a feature extractor", "choose --extractor lite0 or inception")
    return context.extractor


def label_with_extractor(name: str, extractor: Extractor) -> str:
    """The bare name only for pytorch-fid's Inception; any other extractor shows its own: `fid[lite0]`."""
    return name if extractor.name == inception.NAME else f"{name}[{extractor.name}]"


def against(context: ScoringContext, reference: str) -> str:
    """The reference of a feature score as a text; scores with different texts must not be compared."""
    extractor = extractor_of(context)
    return f"{extractor.identity} reference={reference} evaluation={context.evaluation_digest}"


def sample_size_warning(images: int, extractor: Extractor) -> str | None:
    """A sentence if there are fewer images than features, else `None` (bias: Chong & Forsyth 2020)."""
    if images >= extractor.dimension:
        return None
    return (
        f"{images} images, fewer than the {extractor.dimension} features of {extractor.name}: Fréchet "
        f"distances are biased upwards and depend on the number of images; compare them only with others "
        f"of the same {images} inputs, by their paired differences"
    )


def _hold_the_same(first: tuple[NDArray[Any], ...], second: tuple[NDArray[Any], ...]) -> bool:
    return len(first) == len(second) and all(
        one is other or np.array_equal(one, other) for one, other in zip(first, second, strict=True)
    )


def score_of_two_sets(first: NDArray[Any], second: NDArray[Any], extractor: Extractor) -> Score:
    """Distance between two independent sets of images: features (N, D) and (M, D) of one extractor.

    Both sides count in the standard error; `images` is the smaller number.

    Raises:
        ScoreError: for fewer than two images a side or features that are not finite.
    """
    sides = ((first, second), (second, first))
    measured = [
        measure_to_reference(Reference.from_features(other, extractor.identity), features)
        for features, other in sides
    ]
    errors = [standard_error(FRECHET_CALIBRATION * side.influence) or 0.0 for side in measured]
    return Score(
        metric=label_with_extractor(Fid.name, extractor),
        value=measured[0].distance,
        images=min(len(first), len(second)),
        against=extractor.identity,
        lower_is_better=True,
        standard_error=math.hypot(*errors),
    )


class Fid(Metric):
    """Distance to the features of real images, with the paired difference to FP32.

    Called `fid` with pytorch-fid's Inception, `fid[lite0]` with the embedded extractor. Influence values
    carry `FRECHET_CALIBRATION`, and their difference from FP32's `second_order_factor`, so differences
    between any two maps are calibrated too.
    """

    name = "fid"
    lower_is_better = True
    needs_features = True
    needs_reference = True
    facts = BUILT_IN["fid"]

    def __init__(self) -> None:
        self._reference: LastResults[Reference] = LastResults()
        self._baseline: LastResults[FrechetMeasurement] = LastResults()
        self._baseline_halves: LastResults[dict[bytes, FloatArray]] = LastResults()

    def label(self, context: ScoringContext) -> str:
        return label_with_extractor(self.name, extractor_of(context))

    def start(self, context: ScoringContext) -> _FidAccumulator:
        """Raises `SpecError` without an extractor or real images."""
        if context.reference_features is None:
            raise SpecError(
                "fid needs real images to compare with, but none were given",
                "name a folder with --reference, or score with --metric fid-fp32",
            )
        extractor_of(context)
        return _FidAccumulator(self, context)

    def reference(self, context: ScoringContext) -> Reference:
        """The fitted reference, computed once a run."""
        features, identity = context.reference_features, extractor_of(context).identity
        assert features is not None, "start() refuses contexts without a reference"
        return self._reference.of((features,), lambda: Reference.from_features(features, identity))

    def baseline(self, context: ScoringContext, features: NDArray[Any]) -> FrechetMeasurement:
        """FP32's own measurement on the same images, computed once a run."""
        reference = self.reference(context)
        arrays = (reference.mean, reference.root, features)
        return self._baseline.of(arrays, lambda: measure_to_reference(reference, features))

    def baseline_influence(
        self, context: ScoringContext, features: NDArray[Any], rows: NDArray[np.intp]
    ) -> FloatArray:
        """FP32's influence over some of the images only, computed once a run."""
        reference = self.reference(context)
        kept = self._baseline_halves.of((reference.mean, reference.root, features), dict)
        key = rows.tobytes()
        if key not in kept:
            kept[key] = measure_to_reference(reference, features[rows]).influence
        return kept[key]


class _FidAccumulator(FeatureAccumulator[Fid]):
    def compute(self) -> Measurement:
        context = self._context
        features = self._collector.features
        clusters = self._collector.clusters(context)
        measured = measure_to_reference(self._metric.reference(context), features)
        influence = FRECHET_CALIBRATION * measured.influence
        difference, difference_error = 0.0, 0.0 if len(features) > 1 else None
        if context.baseline_features is not None:
            fp32 = self._collector.same_images(context.baseline_features)
            baseline = self._metric.baseline(context, fp32)
            difference = measured.distance - baseline.distance
            moved = measured.influence - baseline.influence
            factor = second_order_factor(moved, clusters, lambda rows: self._moved(features, fp32, rows))
            influence = FRECHET_CALIBRATION * (baseline.influence + factor * moved)
            difference_error = standard_error(FRECHET_CALIBRATION * factor * moved, clusters)
        score = Score(
            metric=self._metric.label(context),
            value=measured.distance,
            images=len(features),
            against=against(context, str(context.reference_digest)),
            lower_is_better=True,
            standard_error=standard_error(influence, clusters),
            difference=difference,
            difference_standard_error=difference_error,
        )
        return Measurement(score, influence)

    def _moved(self, features: NDArray[Any], fp32: NDArray[Any], rows: NDArray[np.intp]) -> FloatArray:
        """Influence of some of the images on the difference from FP32."""
        own = measure_to_reference(self._metric.reference(self._context), features[rows]).influence
        return own - self._metric.baseline_influence(self._context, fp32, rows)


class FidAgainstFp32(Metric):
    """Distance to the FP32 outputs of the same inputs: how far a map moved, in any direction.

    0 for FP32 itself, which has no interval. Both sides move with every input, which the standard error
    takes into account.
    """

    name = "fid-fp32"
    lower_is_better = True
    needs_features = True
    needs_reference = False
    facts = BUILT_IN["fid-fp32"]

    def __init__(self) -> None:
        self._reference: LastResults[Reference] = LastResults()

    def label(self, context: ScoringContext) -> str:
        return label_with_extractor(self.name, extractor_of(context))

    def start(self, context: ScoringContext) -> _FidAgainstFp32Accumulator:
        """Raises `SpecError` without an extractor."""
        extractor_of(context)
        return _FidAgainstFp32Accumulator(self, context)

    def measure(self, features: NDArray[Any], baseline: NDArray[Any]) -> FrechetMeasurement:
        """Paired distance; the factors of many FP32 outputs are computed once a run."""
        reference = None
        if len(baseline) > baseline.shape[1]:
            reference = self._reference.of(
                (baseline,), lambda: Reference.from_features(baseline, identity="fp32")
            )
        return measure_pair(features, baseline, reference)


class _FidAgainstFp32Accumulator(FeatureAccumulator[FidAgainstFp32]):
    def compute(self) -> Measurement:
        context = self._context
        features = self._collector.features
        distance, error, influence = 0.0, None, None
        if context.baseline_features is not None:
            baseline = self._collector.same_images(context.baseline_features)
            measured = self._metric.measure(features, baseline)
            distance = measured.distance
            clusters = self._collector.clusters(context)
            factor = second_order_factor(
                measured.influence,
                clusters,
                lambda rows: measure_pair(features[rows], baseline[rows]).influence,
            )
            influence = FRECHET_CALIBRATION * factor * measured.influence
            error = standard_error(influence, clusters)
        score = Score(
            metric=self._metric.label(context),
            value=distance,
            images=len(features),
            against=against(context, "fp32"),
            lower_is_better=True,
            standard_error=error,
            difference=distance,
            difference_standard_error=error,
        )
        return Measurement(score, influence)
