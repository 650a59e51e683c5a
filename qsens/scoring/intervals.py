"""Standard errors and intervals from influence values, independent images or clips."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError


def first_order_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """Standard error of the score that these influence values (N,) belong to, to first order.

    √(sum of squares of the groups' sums) / N, its square unbiased for a mean. A group is a clip, by the
    labels (N,), or one image where there are no labels. `None` for fewer than two groups.

    Raises:
        DataError: if there is not one label an image.
    """
    values = group_sums(influence, clusters)
    groups = len(values)
    if groups < 2:
        return None
    spread = float(np.square(values - values.mean()).sum()) * groups / (groups - 1)
    return float(np.sqrt(spread)) / len(influence)


def group_sums(influence: NDArray[Any], clusters: NDArray[Any] | None) -> NDArray[np.float64]:
    """The sum of the values (N,) of each clip; the values themselves where there are no clips.

    Raises:
        DataError: if there is not one label an image.
    """
    values = np.asarray(influence, dtype=np.float64)
    if clusters is None:
        return values
    return np.bincount(group_index(len(values), clusters), weights=values).astype(np.float64)


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


def standard_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """Standard error of the score that these influence values (N,) belong to.

    `clusters`: labels (N,); images with equal labels (frames of a clip) may be correlated, so their values
    are summed first. It is `first_order_error`, widened by `few_groups_factor`, so that 1.96 of it are a 95%
    interval for few clips too. `None` where there are fewer than two independent images or clips.

    Raises:
        DataError: if there is not one label an image.
    """
    error = first_order_error(influence, clusters)
    groups = len(group_sums(influence, clusters))
    return None if error is None else error * few_groups_factor(groups)


def few_groups_factor(groups: float) -> float:
    """Student's t over the normal quantile at 95 %, for that many independent images or clips.

    >>> [round(few_groups_factor(groups), 2) for groups in (5, 10, 40, 1000)]
    [1.42, 1.15, 1.03, 1.0]
    """
    from scipy.special import stdtrit  # SciPy takes a quarter of a second to load

    return float(stdtrit(groups - 1, 0.975) / NormalDist().inv_cdf(0.975))


def heavy_tailed_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """`standard_error` for values (N,) a few of which carry most of the spread, as of squared pixel errors.

    A spread that rests on a few values is as uncertain as that of fewer normal ones, and so are the intervals
    made of it: `few_groups_factor` is taken for `effective_groups` instead.

    Raises:
        DataError: if there is not one label an image.
    """
    error = first_order_error(influence, clusters)
    if error is None:
        return None
    return error * few_groups_factor(effective_groups(group_sums(influence, clusters)))


def effective_groups(values: NDArray[Any]) -> float:
    """The number of normal values with a sample variance as uncertain as that of these (N,), at most N.

    The variance of the sample variance, 2 / (N - 1) + excess kurtosis / N in units of the squared variance,
    is matched to that of a chi-squared one, as Satterthwaite (1946) does for sums of variances.

    >>> effective_groups(np.array([-1.0, 1.0] * 8)), round(effective_groups(np.eye(16)[0]), 2)
    (16.0, 3.42)
    """
    count = len(values)
    squares = np.square(values - values.mean())
    spread = float(squares.mean())
    excess = float(np.square(squares).mean()) / spread**2 - 3.0 if spread > 0.0 else 0.0
    return 1.0 + 2.0 / (2.0 / (count - 1) + max(excess, 0.0) / count)


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
