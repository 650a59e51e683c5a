"""Batches drawn from packed clips for training, and the choice of a reference frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import SpecError

REFERENCES = ("same", "other")
REFERENCE_DISTANCE = 5  # frames between a target and another frame as its reference


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Single frames with their sound.

    `index`: int64 (B,), positions in the packed frames. `mel`: float32 (B, 1, 80, 16), -4 to 4. `target`
    and `reference`: uint8 (B, 96, 96, 3), 0 to 255, RGB. `mouth`: float32 (B, 3), 0 to 1, or `None`.
    """

    index: NDArray[np.int64]
    mel: NDArray[np.float32]
    target: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    mouth: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class FiveBatch:
    """Windows of five consecutive frames with their sound.

    `index`: int64 (B,), positions of the first frames. `mel`: float32 (B, 5, 1, 80, 16), one window a frame.
    `sync_mel`: float32 (B, 1, 80, 16), the window that starts at the first frame. `target` and `reference`:
    uint8 (B, 5, 96, 96, 3), 0 to 255, RGB. `mouth`: float32 (B, 5, 3), 0 to 1, or `None`.
    """

    index: NDArray[np.int64]
    mel: NDArray[np.float32]
    sync_mel: NDArray[np.float32]
    target: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    mouth: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class SyncBatch:
    """Five frames with sound that matches or not, for training a lip-sync expert.

    `frames`: uint8 (B, 5, 96, 96, 3), 0 to 255, RGB. `mel`: float32 (B, 1, 80, 16). `is_match`: float32
    (B,), 1 where the sound belongs to the frames, 0 where it belongs to another window of the same clip.
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]
    is_match: NDArray[np.float32]


def check_reference(reference: str) -> str:
    """The reference as given. Raises `SpecError` unless it is `same` or `other`."""
    if reference not in REFERENCES:
        raise SpecError(f"unknown reference {reference!r}", f"choose from {', '.join(REFERENCES)}")
    return reference


def draw_other(
    generator: np.random.Generator,
    positions: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    distance: int = REFERENCE_DISTANCE,
) -> NDArray[np.int64]:
    """For each position another one of its range `first` to `end` (excluded), uniformly: int64 (B,).

    It lies at least `distance` away where the range is long enough, else at least one away; a range of one
    position gives that position.
    """
    return pick_other(generator.random(len(positions)), positions, first, end, distance)


def pick_other(
    shares: NDArray[np.float64],
    positions: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    distance: int = REFERENCE_DISTANCE,
) -> NDArray[np.int64]:
    """As `draw_other`, with the uniform numbers in [0, 1) given."""
    is_far = _allowed(positions, first, end, distance) > 0
    reach = np.where(is_far, distance, 1)
    allowed = np.maximum(_allowed(positions, first, end, reach), 1)
    chosen = first + np.floor(shares * allowed).astype(np.int64)
    excluded_from = np.maximum(first, positions - reach + 1)
    excluded_to = np.minimum(end, positions + reach)
    chosen = np.where(chosen >= excluded_from, chosen + (excluded_to - excluded_from), chosen)
    return np.where(end - first > 1, chosen, positions)


def _allowed(
    positions: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    reach: int | NDArray[np.int64],
) -> NDArray[np.int64]:
    """The number of positions of the range that lie at least `reach` away."""
    below: NDArray[np.int64] = np.maximum(positions - reach - first + 1, 0)
    above: NDArray[np.int64] = np.maximum(end - positions - reach, 0)
    return below + above
