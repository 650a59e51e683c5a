"""By how much first-order errors of a distance are too large where the distance is mostly sampling noise.

Near equality a Fréchet distance is quadratic, and its influence values contain the noise of the fitted
transport. To second order (Efron & Stein 1981) the variance of a score of N independent images is V1 + V2,
V1 of order 1/N and V2 of order 1/N², while the influence values estimate V1 + 2 V2. At half as many images
they estimate 2 V1 + 8 V2, so that two halves show V2, and with it what is too much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.clustered_errors import first_order_error, group_index
from qsens.scoring.frechet import FloatArray

Rows = NDArray[np.intp]
LEAST_GROUPS = 8


def second_order_factor(
    influence: FloatArray, clusters: NDArray[Any] | None, influence_of: Callable[[Rows], FloatArray]
) -> float:
    """Factor on the error that `influence` (N,) gives: 1 far from equality, √½ where all is noise.

    `influence_of`: the influence values of the same score over some of the rows only; it is asked for two
    random halves, clips whole. 1 for fewer than eight images or clips.
    """
    whole = first_order_error(influence, clusters)
    halves = halves_of(len(influence), clusters)
    if not whole or not halves:
        return 1.0
    errors = [
        first_order_error(influence_of(rows), None if clusters is None else clusters[rows]) for rows in halves
    ]
    half = float(np.mean([np.square(error or 0.0) for error in errors]))
    ratio = min(max(half / (2.0 * whole**2), 1.0), 2.0)
    return float(np.sqrt(1.5 - 0.5 * ratio))


def halves_of(count: int, clusters: NDArray[Any] | None) -> tuple[Rows, ...]:
    """Row indices of two random halves of the images, by whole clips; the same ones every time."""
    groups = group_index(count, clusters)
    total = int(groups.max()) + 1 if count else 0
    if total < LEAST_GROUPS:
        return ()
    is_first = np.random.default_rng(0).permutation(total) < total // 2
    return np.flatnonzero(is_first[groups]), np.flatnonzero(~is_first[groups])
