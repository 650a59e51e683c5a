"""Standard errors and intervals from influence values, independent images or clips."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from qsens.clustered_errors import first_order_error, group_index
from qsens.errors import DataError


def standard_error(influence: NDArray[Any], clusters: NDArray[Any] | None = None) -> float | None:
    """Standard error of the score that these influence values (N,) belong to.

    `clusters`: labels (N,); images with equal labels (frames of a clip) may be correlated, so their values
    are summed first. It is `first_order_error`, widened by `few_groups_factor`, so that 1.96 of it are a 95%
    interval for few clips too. `None` where there are fewer than two independent images or clips.

    Raises:
        DataError: if there is not one label an image.
    """
    error = first_order_error(influence, clusters)
    groups = int(group_index(len(influence), clusters).max(initial=-1)) + 1
    return None if error is None else error * few_groups_factor(groups)


def few_groups_factor(groups: int) -> float:
    """Student's t over the normal quantile at 95 %, for that many independent images or clips.

    >>> [round(few_groups_factor(groups), 2) for groups in (5, 10, 40, 1000)]
    [1.42, 1.15, 1.03, 1.0]
    """
    return float(stdtrit(groups - 1, 0.975) / NormalDist().inv_cdf(0.975))


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
