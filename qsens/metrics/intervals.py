"""Standard errors and intervals from influence values, independent images or clips."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from qsens.errors import DataError


def standard_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """Standard error of the score that these influence values (N,) belong to.

    `clusters`: labels (N,); images with equal labels (frames of a clip) may be correlated, so their values
    are summed first. It is widened by `few_groups_factor`, so that 1.96 of it are a 95% interval for few
    clips too. `None` where there are fewer than two independent images or clips: not measurable.

    Raises:
        DataError: if there is not one label an image.
    """
    error = first_order_error(influence, clusters)
    groups = int(group_index(len(influence), clusters).max(initial=-1)) + 1
    return None if error is None else error * few_groups_factor(groups)


def first_order_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """The same without the widening: √(sum of squares of the groups' sums) / N, unbiased for a mean.

    Raises:
        DataError: if there is not one label an image.
    """
    values = np.asarray(influence, dtype=np.float64)
    if clusters is not None:
        values = np.bincount(group_index(len(values), clusters), weights=values).astype(np.float64)
    groups = len(values)
    if groups < 2:
        return None
    spread = float(np.square(values - values.mean()).sum()) * groups / (groups - 1)
    return float(np.sqrt(spread)) / len(influence)


def few_groups_factor(groups: int) -> float:
    """Student's t over the normal quantile at 95 %, for that many independent images or clips.

    >>> [round(few_groups_factor(groups), 2) for groups in (5, 10, 40, 1000)]
    [1.42, 1.15, 1.03, 1.0]
    """
    return float(stdtrit(groups - 1, 0.975) / NormalDist().inv_cdf(0.975))


def group_index(count: int, clusters: NDArray[Any] | None) -> NDArray[np.intp]:
    """The number of the clip of each of `count` images, from 0; of the image where there are no clips.

    Raises:
        DataError: if there is not one label an image.
    """
    if clusters is None:
        return np.arange(count)
    if np.shape(clusters) != (count,):
        raise DataError(
            f"{np.size(clusters)} cluster labels for {count} images", "give one clip label an image"
        )
    return np.unique(clusters, return_inverse=True)[1]


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
