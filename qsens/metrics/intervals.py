"""Standard errors and intervals from influence values, independent images or clips."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.errors import DataError

FRECHET_CALIBRATION = 1.2
"""Factor on the influence of Fréchet distances.

Over 12 quantized maps of a small super-resolution network and N = 100 to 500 (EfficientNet-Lite0 features,
N < D) the first-order standard error of a paired difference was 0.8 to 1.2, mostly 0.85 to 0.95, of the
spread over fresh draws; 1.2 covers that range. Linear functionals (PSNR, SSIM) need no factor.
"""


def standard_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """Standard error of the score that these influence values (N,) belong to.

    `clusters`: labels (N,); images with equal labels (frames of a clip) may be correlated, so their values
    are summed first. `None` where there are fewer than two independent images or clips: not measurable.

    Raises:
        DataError: if there is not one label an image.
    """
    values = np.asarray(influence, dtype=np.float64)
    if clusters is not None:
        values = _cluster_sums(values, np.asarray(clusters))
    groups = len(values)
    if groups < 2:
        return None
    spread = float(np.square(values - values.mean()).sum()) * groups / (groups - 1)
    return float(np.sqrt(spread)) / len(influence)


def paired_standard_error(
    first: NDArray[Any], second: NDArray[Any], clusters: NDArray[Any] | None = None
) -> float | None:
    """Standard error of the difference of two scores of the same images in the same order.

    Raises:
        DataError: if the two were not measured on equally many images.
    """
    if len(first) != len(second):
        raise DataError(
            f"influence of {len(first)} and of {len(second)} images cannot be paired",
            "compare maps that were scored on the same inputs",
        )
    return standard_error(np.asarray(first) - np.asarray(second), clusters)


def interval(value: float, error: float, level: float = 0.95) -> tuple[float, float]:
    """Normal interval around a value.

    >>> [round(end, 2) for end in interval(10.0, 1.0)]
    [8.04, 11.96]
    """
    reach = NormalDist().inv_cdf(0.5 + level / 2.0) * error
    return value - reach, value + reach


def _cluster_sums(values: NDArray[np.float64], clusters: NDArray[Any]) -> NDArray[np.float64]:
    if clusters.shape != values.shape:
        raise DataError(
            f"{clusters.size} cluster labels for {values.size} images", "give one clip label an image"
        )
    _, index = np.unique(clusters, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64)
