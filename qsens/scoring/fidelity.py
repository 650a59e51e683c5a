"""Closeness of images to the FP32 outputs of the same inputs: PSNR and SSIM on uint8 pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, ScoreError
from qsens.core.interfaces import Measurement, Metric, ScoredBatch, ScoringContext
from qsens.core.metric_names import BUILT_IN, PSNR_CAP_DB
from qsens.core.trial import Score
from qsens.scoring.intervals import heavy_tailed_error

Images = NDArray[np.uint8]
FloatArray = NDArray[np.float64]
PEAK = 255.0
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_STABILISERS = ((0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2)


def mean_squared_errors(images: Images, baseline: Images) -> FloatArray:
    """Mean squared error of each image, in squared grey levels, exact; (N,)."""
    step = images.astype(np.int32) - baseline
    squares = np.square(step, out=step).reshape(len(step), -1)
    return np.asarray(squares.mean(axis=1, dtype=np.float64))


def psnr_of_error(error: float) -> float:
    """PSNR in dB of a mean squared error in squared grey levels, at most `PSNR_CAP_DB`.

    >>> round(psnr_of_error(1.0), 2), psnr_of_error(0.0)
    (48.13, 100.0)
    """
    if error <= 0.0:
        return PSNR_CAP_DB
    return min(float(10.0 * np.log10(PEAK**2 / error)), PSNR_CAP_DB)


def structural_similarities(images: Images, baseline: Images) -> FloatArray:
    """SSIM of each image, mean over colours and over positions where the window lies inside; (N,).

    Gaussian window of 11 by 11 pixels, standard deviation 1.5, K1 = 0.01, K2 = 0.03 (Wang et al. 2004);
    the variance of the window is the weighted one, as in the paper.

    Raises:
        DataError: for images smaller than the window.
    """
    width = 2 * SSIM_RADIUS + 1
    if min(images.shape[2:]) < width:
        raise DataError(
            f"SSIM needs images of at least {width} by {width} pixels, got {images.shape[2:]}",
            "leave ssim out of the metrics",
        )
    return np.array([_similarity(*pair) for pair in zip(images, baseline, strict=True)])


def check_pair(batch: ScoredBatch) -> None:
    """Check that both sides of a batch are pictures of one size, uint8 (N, 3, H, W).

    Raises:
        ScoreError: if the two sides differ in shape.
        DataError: for images that are not uint8.
    """
    if batch.images.shape != batch.baseline.shape:
        raise ScoreError(
            f"images of shape {batch.images.shape} against FP32 images of {batch.baseline.shape}",
            "the map changed the output size: check the generator",
        )
    if batch.images.dtype != np.uint8 or batch.images.ndim != 4:
        raise DataError(
            f"images of shape {batch.images.shape} and dtype {batch.images.dtype}",
            "pass uint8 (N, 3, H, W)",
        )


class Psnr(Metric):
    """Peak signal-to-noise ratio in dB of the pooled error: mean over all images first, then the log.

    A mean of one PSNR an image would be infinite as soon as one image does not change, and would hide a few
    spoiled images; the pooled form has neither fault. Its influence is that of the mean through the log.
    """

    name = "psnr"
    lower_is_better = False
    needs_features = False
    needs_reference = False
    facts = BUILT_IN["psnr"]

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> ImageAccumulator:
        return ImageAccumulator(self, context, mean_squared_errors, _pooled_psnr)


class Ssim(Metric):
    """Structural similarity, mean over images, 1 for equal ones; see `structural_similarities`."""

    name = "ssim"
    lower_is_better = False
    needs_features = False
    needs_reference = False
    facts = BUILT_IN["ssim"]

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> ImageAccumulator:
        return ImageAccumulator(self, context, structural_similarities, mean_of)


@dataclass(frozen=True, eq=False)
class Pooled:
    """A score of all images, and the influence of each on it."""

    value: float
    influence: FloatArray


class ImageAccumulator:
    """Measures every image by itself, then pools."""

    def __init__(
        self,
        metric: Metric,
        context: ScoringContext,
        measure: Callable[[Images, Images], FloatArray],
        pool: Callable[[FloatArray], Pooled],
    ) -> None:
        self._metric = metric
        self._context = context
        self._measure = measure
        self._pool = pool
        self._parts: list[FloatArray] = []
        self._start: int | None = None

    def update(self, batch: ScoredBatch) -> None:
        """Raises `ScoreError` if the two sides differ in shape, `DataError` for images that are not uint8."""
        check_pair(batch)
        self._start = batch.start if self._start is None else self._start
        self._parts.append(self._measure(batch.images, batch.baseline))

    def compute(self) -> Measurement:
        if not self._parts:
            raise ScoreError("no image was scored", "pass at least one batch")
        values = np.concatenate(self._parts)
        return measured_beside_fp32(
            self._metric, self._context, self._pool(values), self._clusters(len(values))
        )

    def _clusters(self, count: int) -> NDArray[Any] | None:
        if self._context.clusters is None:
            return None
        start = self._start or 0
        return self._context.clusters[start : start + count]


def measured_beside_fp32(
    metric: Metric,
    context: ScoringContext,
    pooled: Pooled,
    clusters: NDArray[Any] | None,
    against: str = "fp32",
) -> Measurement:
    """The measurement of a pooled score against the FP32 outputs, with its interval.

    Its difference from FP32 is that from the score of equal pictures, where this is a proper number.
    """
    error = heavy_tailed_error(pooled.influence, clusters)
    best = metric.facts.of_fp32
    difference = None if best is None or math.isinf(best) else pooled.value - best
    score = Score(
        metric=metric.label(context),
        value=pooled.value,
        images=len(pooled.influence),
        against=f"{against} evaluation={context.evaluation_digest}",
        lower_is_better=metric.lower_is_better,
        standard_error=error,
        difference=difference,
        difference_standard_error=None if difference is None else error,
    )
    return Measurement(score, pooled.influence)


def mean_of(values: FloatArray) -> Pooled:
    """The mean over images."""
    mean = float(values.mean())
    return Pooled(mean, values - mean)


def _pooled_psnr(errors: FloatArray) -> Pooled:
    mean = float(errors.mean())
    value = psnr_of_error(mean)
    if value == PSNR_CAP_DB:
        return Pooled(value, np.zeros(len(errors)))
    influence = -10.0 / np.log(10.0) * (errors - mean) / mean
    return Pooled(value, influence)


def _similarity(image: Images, baseline: Images) -> float:
    # Shifting by mid-grey changes no variance and keeps float32 exact enough.
    first = image.astype(np.float32) - np.float32(PEAK / 2)
    second = baseline.astype(np.float32) - np.float32(PEAK / 2)
    mean_first, mean_second = _smoothed(first), _smoothed(second)
    both = mean_first * mean_second
    squares = np.square(mean_first) + np.square(mean_second)
    spread = _smoothed(first * first + second * second) - squares
    shared = _smoothed(first * second) - both
    return float(_ratio(mean_first, mean_second, shared, spread).mean(dtype=np.float64))


def _ratio(
    mean_first: NDArray[np.float32],
    mean_second: NDArray[np.float32],
    shared: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Wang et al. 2004, eq. 13, from means of the shifted images, covariance and sum of variances."""
    for_means, for_spread = (np.float32(value) for value in SSIM_STABILISERS)
    middle = np.float32(PEAK / 2)
    first, second = mean_first + middle, mean_second + middle
    top = (2 * first * second + for_means) * (2 * shared + for_spread)
    bottom = (np.square(first) + np.square(second) + for_means) * (spread + for_spread)
    ratio: NDArray[np.float32] = top / bottom
    return ratio


def _smoothed(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gaussian means (C, H-10, W-10) of planes (C, H, W), where the window lies inside."""
    taps = _window()
    rows = _weighted_sum(planes, taps, axis=1)
    return _weighted_sum(rows, taps, axis=2)


def _weighted_sum(planes: NDArray[np.float32], taps: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Valid correlation with symmetric taps along one axis; equal taps share a multiplication."""
    length = planes.shape[axis] - 2 * SSIM_RADIUS

    def shifted(offset: int) -> NDArray[np.float32]:
        window = [slice(None)] * 3
        window[axis] = slice(offset, offset + length)
        return planes[tuple(window)]

    total: NDArray[np.float32] = taps[SSIM_RADIUS] * shifted(SSIM_RADIUS)
    for offset in range(SSIM_RADIUS):
        total += taps[offset] * (shifted(offset) + shifted(2 * SSIM_RADIUS - offset))
    return total


def _window() -> NDArray[np.float32]:
    distances = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    weights = np.exp(-np.square(distances) / (2.0 * SSIM_SIGMA**2))
    return np.asarray(weights / weights.sum(), dtype=np.float32)
