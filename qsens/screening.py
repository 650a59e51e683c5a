"""Screening: scoring a map on a few samples of the evaluation set before it is scored on all."""

import numpy as np


def spread_places(total: int, count: int) -> tuple[int, ...]:
    """At most `count` places of `total`, spread evenly from the first to the last: every clip has a share.

    >>> spread_places(10, 4)
    (0, 3, 6, 9)
    """
    return tuple(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())


def screen_samples(wished: int, total: int) -> int:
    """How many samples a screen takes: `total`, as any other score, where `wished` is 0 or no fewer."""
    return wished if 0 < wished < total else total
