"""Standard errors of sums of influence values, independent images or clips."""

from __future__ import annotations

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
