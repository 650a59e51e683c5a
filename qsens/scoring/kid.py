"""Kernel distance (KID), unbiased at any number of images.

Squared maximum mean discrepancy with k(x, y) = (x·y / D + 1)³ (Bińkowski et al. 2018), as the raw
value; papers often print it times 1000. Against independent real images it is the unbiased two-sample
estimate; against the FP32 outputs of the same inputs it is the one-sample U-statistic over pairs (Gretton
et al. 2012, eq. 4), which leaves out k(x_i, y_i) and is exactly 0 for equal outputs. The influence of image i
is twice the mean of its terms, centred (Hoeffding's projection). CMMD is the same with another kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.splits import spread_places
from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import Measurement, Metric, ScoringContext
from qsens.core.metric_names import BUILT_IN
from qsens.core.trial import Score
from qsens.scoring.fid import (
    FeatureAccumulator,
    LastResults,
    against,
    extractor_of,
    label_with_extractor,
)
from qsens.scoring.frechet import Features, FloatArray, check_features, float64_blocks
from qsens.scoring.influence import second_order_factor
from qsens.scoring.intervals import standard_error

REFERENCE_IMAGES = 5000
# Mean kernels of rows from their products (N, M) and their dimension D.
Kernel = Callable[[FloatArray, int], FloatArray]


def cubic(products: FloatArray, dimension: int) -> FloatArray:
    """KID's kernel (x·y / D + 1)³."""
    base = products / dimension + 1.0
    cubed: FloatArray = base * base * base
    return cubed


def gaussian_of_unit_rows(products: FloatArray, dimension: int) -> FloatArray:
    """CMMD's kernel 1000 exp(-|x - y|² / (2 · 10²)) of rows of length 1, whose |x - y|² is 2 - 2 x·y."""
    return np.asarray(1000.0 * np.exp((products - 1.0) / 10.0**2))


@dataclass(frozen=True, eq=False)
class KernelMeasurement:
    """A kernel distance and the influence of each image, float64 (N,)."""

    distance: float
    influence: FloatArray


def kernel_distance(
    features: Features, reference: Features, reference_mean: float, kernel: Kernel = cubic
) -> KernelMeasurement:
    """Unbiased squared discrepancy of features (N, D) to independent reference features (M, D).

    `reference_mean`: `mean_kernel_between_rows(reference)`, the same for every map.
    """
    _check_same_dimension(features, reference)
    within = _mean_kernel_within(features, features, kernel)
    across = _mean_kernel_across(features, reference, kernel)
    distance = float(within.mean()) + reference_mean - 2.0 * float(across.mean())
    terms = 2.0 * (within - across)
    return KernelMeasurement(distance, terms - terms.mean())


def paired_kernel_distance(first: Features, second: Features, kernel: Kernel = cubic) -> KernelMeasurement:
    """Unbiased squared discrepancy between two feature sets (N, D) of the same N inputs."""
    _check_same_dimension(first, second)
    if len(first) != len(second):
        raise DataError(
            f"paired features of {len(first)} and {len(second)} images", "pass features of the same inputs"
        )
    crossed = _mean_kernel_within(first, second, kernel) + _mean_kernel_within(second, first, kernel)
    terms = _mean_kernel_within(first, first, kernel) + _mean_kernel_within(second, second, kernel) - crossed
    return KernelMeasurement(float(terms.mean()), 2.0 * (terms - terms.mean()))


def mean_kernel_between_rows(features: Features, kernel: Kernel = cubic) -> float:
    """Mean of k over all ordered pairs of different rows."""
    check_features(features, least=2)
    return float(_mean_kernel_within(features, features, kernel).mean())


def evenly_chosen(features: Features, limit: int) -> Features:
    """At most `limit` rows, evenly spread over the set, because neighbours in a folder are often alike."""
    if len(features) <= limit:
        return features
    chosen: Features = features[list(spread_places(len(features), limit))]
    return chosen


class Kid(Metric):
    """Kernel distance to the real images, or to the FP32 outputs (`kid-fp32`) where there are none.

    `reference_images`: at most so many real images are used, evenly chosen; the cost grows with them.
    """

    name = "kid"
    lower_is_better = True
    needs_features = True
    needs_reference = False
    facts = BUILT_IN["kid"]
    kernel: Kernel = staticmethod(cubic)

    def __init__(self, *, reference_images: int = REFERENCE_IMAGES) -> None:
        if reference_images < 2:
            raise SpecError(f"reference_images={reference_images}", "use at least 2")
        self._reference_images = reference_images
        self._reference_mean: LastResults[float] = LastResults()
        self._baseline: LastResults[KernelMeasurement] = LastResults()

    def label(self, context: ScoringContext) -> str:
        name = self.name if context.reference_features is not None else f"{self.name}-fp32"
        return label_with_extractor(name, extractor_of(context))

    def start(self, context: ScoringContext) -> _KidAccumulator:
        """Raises `SpecError` without an extractor."""
        extractor_of(context)
        return _KidAccumulator(self, context)

    def prepared(self, features: Features) -> Features:
        """Features as the kernel takes them."""
        return features

    def reference(self, context: ScoringContext) -> Features | None:
        """The real images' features that are used, `None` where FP32 is the reference."""
        features = context.reference_features
        return None if features is None else self.prepared(evenly_chosen(features, self._reference_images))

    def measure(self, features: Features, reference: Features) -> KernelMeasurement:
        """Distance to the real images; their own term is computed once a run."""
        check_features(features, least=2)
        mean = self._reference_mean.of((reference,), lambda: mean_kernel_between_rows(reference, self.kernel))
        return kernel_distance(features, reference, mean, self.kernel)

    def baseline(self, features: Features, reference: Features) -> KernelMeasurement:
        """FP32's own measurement on the same images, computed once a run."""
        return self._baseline.of((features, reference), lambda: self.measure(features, reference))


class Cmmd(Kid):
    """CMMD: a Gaussian kernel on features of length 1, to the real images or (`cmmd-fp32`) the FP32 outputs.

    Jayasumana et al. 2024, "Rethinking FID" (arXiv 2401.09603), with sigma 10 and times 1000, on the features
    of `clip`; those of another extractor show its name. Their code takes the mean over all pairs; here, as
    for KID, a picture is no pair with itself, so that few pictures do not bias it.
    """

    name = "cmmd"
    facts = BUILT_IN["cmmd"]
    kernel: Kernel = staticmethod(gaussian_of_unit_rows)

    def prepared(self, features: Features) -> Features:
        """Rows of length 1, float64; a row of zeros stays one."""
        rows = np.asarray(features, np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths == 0.0, 1.0, lengths)


class _KidAccumulator(FeatureAccumulator[Kid]):
    def compute(self) -> Measurement:
        reference = self._metric.reference(self._context)
        return self._against_fp32() if reference is None else self._against_real(reference)

    def _against_real(self, reference: Features) -> Measurement:
        context = self._context
        metric = self._metric
        features, clusters = metric.prepared(self._collector.features), self._collector.clusters(context)
        measured = metric.measure(features, reference)
        difference, difference_error = 0.0, 0.0 if len(features) > 1 else None
        if context.baseline_features is not None:
            fp32 = metric.prepared(self._collector.same_images(context.baseline_features))
            baseline = metric.baseline(fp32, reference)
            difference = measured.distance - baseline.distance
            moved = measured.influence - baseline.influence

            def moved_of(rows: NDArray[np.intp]) -> FloatArray:
                own, other = (
                    kernel_distance(side[rows], reference, 0.0, metric.kernel).influence
                    for side in (features, fp32)
                )
                return own - other

            factor = second_order_factor(moved, clusters, moved_of)
            measured = replace(measured, influence=baseline.influence + factor * moved)
            difference_error = standard_error(factor * moved, clusters)
        named = f"{context.reference_digest}({len(reference)} images)"
        return self._measurement(measured, (difference, difference_error), named)

    def _against_fp32(self) -> Measurement:
        context = self._context
        metric = self._metric
        features = metric.prepared(self._collector.features)
        baseline = features
        if context.baseline_features is not None:
            baseline = metric.prepared(self._collector.same_images(context.baseline_features))
        measured = paired_kernel_distance(features, baseline, metric.kernel)
        factor = second_order_factor(
            measured.influence,
            self._collector.clusters(context),
            lambda rows: paired_kernel_distance(features[rows], baseline[rows], metric.kernel).influence,
        )
        measured = replace(measured, influence=factor * measured.influence)
        error = standard_error(measured.influence, self._collector.clusters(context))
        return self._measurement(measured, (measured.distance, error), "fp32")

    def _measurement(
        self, measured: KernelMeasurement, difference: tuple[float, float | None], reference: str
    ) -> Measurement:
        clusters = self._collector.clusters(self._context)
        score = Score(
            metric=self._metric.label(self._context),
            value=measured.distance,
            images=len(measured.influence),
            against=against(self._context, reference),
            lower_is_better=True,
            standard_error=standard_error(measured.influence, clusters),
            difference=difference[0],
            difference_standard_error=difference[1],
        )
        return Measurement(score, measured.influence)


def _mean_kernel_within(first: Features, other: Features, kernel: Kernel) -> FloatArray:
    """For each row of `first`, the mean of k over the rows of `other` at other positions."""
    total = _mean_kernel_across(first, other, kernel) * len(first)
    own: NDArray[Any] = np.concatenate(
        [
            kernel(np.einsum("nd,nd->n", rows, others), rows.shape[1])
            for rows, others in zip(float64_blocks(first), float64_blocks(other), strict=True)
        ]
    )
    return np.asarray((total - own) / (len(first) - 1))


def _mean_kernel_across(first: Features, second: Features, kernel: Kernel) -> FloatArray:
    """For each row of `first`, the mean of k over all rows of `second`; in blocks."""
    parts = []
    for rows in float64_blocks(first):
        sums = sum(kernel(rows @ others.T, rows.shape[1]).sum(axis=1) for others in float64_blocks(second))
        parts.append(np.asarray(sums) / len(second))
    return np.concatenate(parts)


def _check_same_dimension(first: Features, second: Features) -> None:
    for side in (first, second):
        check_features(side, least=2)
    if first.shape[1] != second.shape[1]:
        raise ScoreError(
            f"features of {first.shape[1]} and {second.shape[1]} dimensions",
            "use one extractor for both sides",
        )
