"""Parts of a sample set: a seeded choice, and two parts that share no sample and no clip."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qsens.core.errors import DataError
from qsens.core.interfaces import SampleSet

if TYPE_CHECKING:
    from qsens.core.interfaces import Sample


class SampleView:
    """Some samples of another set, in the order of `indices`. Seeded noise stays that of the whole set."""

    def __init__(self, base: SampleSet, indices: Sequence[int], part: str) -> None:
        self._base = base
        self._indices = tuple(indices)
        self._part = part
        clusters = base.clusters
        self.name = base.name
        self.clusters = None if clusters is None else tuple(clusters[index] for index in self._indices)

    @property
    def digest(self) -> str:
        """sha256 over the whole set's digest and the indices."""
        key = json.dumps([self._base.digest, self._indices])
        return hashlib.sha256(key.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        """Sample `index` of this part."""
        if not 0 <= index < len(self._indices):
            raise IndexError(f"sample {index} of a set of {len(self._indices)}")
        return self._base.sample(self._indices[index])

    @property
    def value_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Those of the whole set."""
        return self._base.value_ranges

    def annotation(self, index: int) -> Mapping[str, Any]:
        """Facts about sample `index` of this part beside its inputs."""
        return self._base.annotation(self._indices[index])

    def describe(self) -> Mapping[str, str]:
        """The whole set's description, with this part's count."""
        described = dict(self._base.describe())
        described["count"] = f"{len(self)} of {len(self._base)}{self._part}"
        if self.clusters is not None:
            described["clips"] = str(len(set(self.clusters)))
        return described


def spread_places(total: int, count: int) -> tuple[int, ...]:
    """At most `count` places of `total`, spread evenly from the first to the last: every clip has a share.

    >>> spread_places(10, 4)
    (0, 3, 6, 9)
    """
    return tuple(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())


def subset(sample_set: SampleSet, count: int, seed: int) -> SampleSet:
    """`count` samples chosen by `seed`, in the set's order; a larger choice holds every smaller one.

    Raises:
        DataError: if the set has fewer.
    """
    if count > len(sample_set):
        raise DataError(
            f"{count} samples asked for, {sample_set.name!r} has {len(sample_set)}",
            "ask for fewer, or add samples to the set",
        )
    if count == len(sample_set):
        return sample_set
    chosen = _shuffled(len(sample_set), seed)[:count]
    return SampleView(sample_set, sorted(chosen), f", chosen with seed {seed}")


def subset_of_clips(sample_set: SampleSet, count: int, seed: int) -> SampleSet:
    """`count` samples of whole clips chosen by `seed`, in the set's order; the last clip may be cut short."""
    chosen: list[int] = []
    for clip in _shuffled_groups(sample_set, seed):
        chosen += clip[: count - len(chosen)]
    if len(chosen) == len(sample_set):
        return sample_set
    return SampleView(sample_set, sorted(chosen), f", whole clips chosen with seed {seed}")


def split_sample_set(
    sample_set: SampleSet, calibration: int, evaluation: int, seed: int
) -> tuple[SampleSet, SampleSet]:
    """Two parts of the given sizes without a common sample, nor a common clip where clips are known.

    Clips for calibration are chosen by `seed` so that as few samples as possible are left over.

    Raises:
        DataError: if there are too few samples or clips.
    """
    groups = _shuffled_groups(sample_set, seed)
    first = _choose_groups([len(group) for group in groups], calibration)
    available = [
        [index for number, group in enumerate(groups) if (number in first) is is_first for index in group]
        for is_first in (True, False)
    ]
    if len(available[0]) < calibration or len(available[1]) < evaluation:
        clips = "" if sample_set.clusters is None else f" in {len(groups)} clips"
        raise DataError(
            f"{calibration} samples to calibrate and {evaluation} to evaluate asked for, "
            f"{sample_set.name!r} has {len(sample_set)}{clips}",
            "ask for fewer, or give a separate evaluation set (the two parts share no sample and no clip)",
        )
    return (
        SampleView(sample_set, sorted(available[0][:calibration]), f", for calibration, seed {seed}"),
        SampleView(sample_set, sorted(available[1][:evaluation]), f", for evaluation, seed {seed}"),
    )


def _shuffled(count: int, seed: int) -> list[int]:
    generator = np.random.Generator(np.random.PCG64(seed))
    return [int(index) for index in generator.permutation(count)]


def _shuffled_groups(sample_set: SampleSet, seed: int) -> list[list[int]]:
    """Samples that must stay together, in a seeded order: clips, else single samples."""
    clusters = sample_set.clusters
    if clusters is None:
        return [[index] for index in _shuffled(len(sample_set), seed)]
    members: dict[str, list[int]] = {label: [] for label in Counter(clusters)}
    for index, label in enumerate(clusters):
        members[label].append(index)
    labels = list(members)
    return [members[labels[position]] for position in _shuffled(len(labels), seed)]


def _choose_groups(sizes: Sequence[int], wanted: int) -> set[int]:
    """Groups whose sizes add up to at least `wanted` with the least excess; the earliest where they tie.

    Sums below `wanted` and the least one above it are kept with the last group that reached them.
    """
    if all(size == 1 for size in sizes):
        return set(range(min(wanted, len(sizes))))
    reached: dict[int, tuple[int, int]] = {0: (-1, 0)}
    best = sum(sizes) + 1
    for number, size in enumerate(sizes):
        for total in [total for total in reached if total < wanted]:
            grown = total + size
            is_useful = grown < wanted or grown < best
            if is_useful and grown not in reached:
                reached[grown] = (number, total)
                best = min(best, grown) if grown >= wanted else best
        if best == wanted:
            break
    total = best if best in reached else max(reached)
    chosen: set[int] = set()
    while total:
        number, total = reached[total]
        chosen.add(number)
    return chosen
