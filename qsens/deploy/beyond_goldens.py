"""Golden inputs beyond what calibration saw: a format that is narrower than the scored one shows on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qsens.calibration.ranges import Ranges
from qsens.core.interfaces import InputSpec

# How far an input without ends goes beyond the largest magnitude that was seen of it.
REACH = 1.5
Array = np.ndarray[Any, np.dtype[Any]]
Ends = tuple[float, float]


def inputs_beyond(
    inputs: Mapping[str, Array], specs: tuple[InputSpec, ...], ranges: Ranges, *, can_batch: bool
) -> dict[str, Array] | None:
    """Two samples made of the first one; `None` where no input can be anything else.

    One is mirrored within the ends of each input, so that a picture becomes its negative, the other holds
    nothing but the ends. The ends are those of the type or of the set's rules; where there are none, the
    largest magnitude that was seen, with either sign and half as much again. Whole numbers that may be
    labels, single values, and what a batch shares are left as they are.
    """
    found: dict[str, Array] = {}
    is_changed = False
    for spec in specs:
        first = inputs[spec.name][0]
        ends = _ends(first, spec.name, ranges) if spec.is_batched or not can_batch else None
        if ends is None or ends[0] >= ends[1]:
            found[spec.name] = np.stack([first, first])
        else:
            is_changed = True
            found[spec.name] = np.stack([_mirrored(first, ends), _at_ends(first, ends)])
    return found if is_changed else None


def _ends(sample: Array, name: str, ranges: Ranges) -> Ends | None:
    if sample.size < 2 or (sample.dtype.kind != "f" and sample.dtype != np.uint8):
        return None
    if name in ranges.promised:
        return ranges.promised[name]
    if sample.dtype == np.uint8:
        return 0.0, 255.0
    seen = float(np.abs(sample).max())
    if name in ranges:
        entry = ranges[name]
        seen = max(seen, -entry.minimum, entry.maximum, entry.amax)
    return -REACH * seen, REACH * seen


def _mirrored(sample: Array, ends: Ends) -> Array:
    wide = ends[0] + ends[1] - sample.astype(np.float64)
    return np.clip(wide, *ends).astype(sample.dtype)


def _at_ends(sample: Array, ends: Ends) -> Array:
    return np.where(sample >= np.median(sample), ends[1], ends[0]).astype(sample.dtype)
