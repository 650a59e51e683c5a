"""The best units to put in INT8 when damages and savings add: two mixed-integer programs, solved by HiGHS."""

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

# Of damages and savings scaled to sum to 1; HiGHS itself keeps constraints to 1e-6 or so.
_TOLERANCE = 1e-6
# HiGHS stops within 1e-6 of the optimum, which must be small beside the smallest damage that matters.
_OBJECTIVE_SCALE = 1e3
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Items:
    """The items to choose from: damages (at least 0, infinite where forbidden) and savings (at least 0)."""

    damages: tuple[float, ...]
    savings: tuple[float, ...]

    def damage(self, chosen: Sequence[int]) -> float:
        """Sum of the damages of the chosen places."""
        return math.fsum(self.damages[place] for place in chosen)


# A strategy is asked again after every map, with the same damages: an answer is worth keeping.
@lru_cache(maxsize=256)
def most_saved(items: Items, limit: float) -> tuple[int, ...]:
    """Places with the largest sum of savings whose damages sum to at most `limit`; of equal ones any."""
    damages, savings, bounds, total = _scaled(items)
    room = min(limit / total, 1.0) if total else 1.0
    return _solved(-savings, LinearConstraint(damages, -np.inf, room), bounds)


@lru_cache(maxsize=256)
def least_damage(items: Items, share: float) -> tuple[int, ...]:
    """Places with the least damage that save at least `share` (0 to 1) of what all finite ones save.

    Of those with that damage, the ones that save most, so that no other choice is better in both.
    """
    damages, savings, bounds, total = _scaled(items)
    enough = LinearConstraint(savings, min(share, 1.0) * float(savings @ bounds.ub), np.inf)
    cheapest = _solved(damages, enough, bounds)
    return most_saved(items, (items.damage(cheapest) / total + _TOLERANCE) * total if total else 0.0)


def _scaled(items: Items) -> tuple[Array, Array, Bounds, float]:
    """Damages and savings as shares of their sums, which places may be chosen, and the sum of damages."""
    allowed = np.isfinite(items.damages)
    damages = np.where(allowed, items.damages, 0.0)
    savings = np.asarray(items.savings, dtype=np.float64)
    total = float(damages.sum())
    return (
        damages / total if total else damages,
        savings / savings.sum() if savings.any() else savings,
        Bounds(0.0, allowed.astype(np.float64)),
        total,
    )


@contextlib.contextmanager
def _standard_output_closed() -> Iterator[None]:
    """Keep what HiGHS prints while it debugs itself, whatever its options say, out of `--json`."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # a program without standard output
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, TypeError):  # no C library by that name on Windows
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _solved(objective: Array, constraint: LinearConstraint, bounds: Bounds) -> tuple[int, ...]:
    with _standard_output_closed():
        found = milp(
            _OBJECTIVE_SCALE * objective,
            integrality=np.ones_like(objective),
            bounds=bounds,
            constraints=constraint,
            options={"mip_rel_gap": 0.0},
        )
    assert found.x is not None, (
        f"choosing nothing, or everything allowed, is always possible: {found.message}"
    )
    # The solver gives whole numbers as floats that are near them.
    return tuple(int(place) for place in np.flatnonzero(found.x > 0.5))
