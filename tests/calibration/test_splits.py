from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.calibration.sets import split_sample_set, subset
from qsens.core.errors import DataError


class Numbers:
    """Sample i holds the number i."""

    def __init__(self, count, clusters=None):
        self.name = "numbers"
        self.digest = f"numbers{count}"
        self.clusters = clusters
        self._count = count

    def __len__(self):
        return self._count

    def sample(self, index):
        return {"x": np.array([index])}

    def describe(self):
        return {"count": str(self._count), "size": "1"}


def numbers_in(samples):
    return [int(samples.sample(index)["x"][0]) for index in range(len(samples))]


def clips_of(sizes):
    return tuple(f"clip{number}" for number, size in enumerate(sizes) for _ in range(size))


@given(count=st.integers(2, 60), seed=st.integers(0, 100), data=st.data())
@settings(max_examples=40, deadline=None)
def test_parts_have_their_sizes_and_share_nothing(count, seed, data):
    first = data.draw(st.integers(1, count - 1))
    second = data.draw(st.integers(1, count - first))
    calibration, evaluation = split_sample_set(Numbers(count), first, second, seed)
    left, right = numbers_in(calibration), numbers_in(evaluation)
    assert (len(left), len(right)) == (first, second)
    assert not set(left) & set(right)
    assert left == sorted(set(left))
    assert right == sorted(set(right))


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12), seed=st.integers(0, 50), data=st.data())
@settings(max_examples=60, deadline=None)
def test_clips_are_never_split_between_parts_and_every_possible_split_is_found(sizes, seed, data):
    # A split of whole clips exists by construction, so it must be found.
    cut = data.draw(st.integers(1, len(sizes) - 1))
    first, second = sum(sizes[:cut]), sum(sizes[cut:])
    samples = Numbers(sum(sizes), clips_of(sizes))
    calibration, evaluation = split_sample_set(samples, first, second, seed)
    assert (len(calibration), len(evaluation)) == (first, second)
    assert not set(calibration.clusters) & set(evaluation.clusters)
    whole = Counter(samples.clusters)
    assert all(whole[clip] == size for clip, size in Counter(calibration.clusters).items())


def test_the_split_is_seeded():
    parts = [
        numbers_in(split_sample_set(Numbers(40, clips_of([4] * 10)), 8, 20, seed)[0]) for seed in (1, 1, 2)
    ]
    assert parts[0] == parts[1] != parts[2]


def test_a_large_split_of_independent_samples_is_not_slow_to_choose():
    calibration, evaluation = split_sample_set(Numbers(200_000), 50_000, 100_000, 0)
    assert (len(calibration), len(evaluation)) == (50_000, 100_000)


def test_too_few_samples_or_clips_are_told_with_the_numbers():
    with pytest.raises(
        DataError, match="8 samples to calibrate and 3 to evaluate asked for, 'numbers' has 10"
    ):
        split_sample_set(Numbers(10), 8, 3, 0)
    with pytest.raises(DataError, match="has 10 in 1 clips"):
        split_sample_set(Numbers(10, clips_of([10])), 2, 2, 0)
    with pytest.raises(DataError, match="has 12 in 2 clips"):
        split_sample_set(Numbers(12, clips_of([6, 6])), 7, 1, 0)


def test_parts_have_digests_descriptions_and_bounds_of_their_own():
    whole = Numbers(10, clips_of([5, 5]))
    calibration, evaluation = split_sample_set(whole, 5, 5, 0)
    assert len({whole.digest, calibration.digest, evaluation.digest}) == 3
    assert calibration.describe()["count"] == "5 of 10, for calibration, seed 0"
    assert calibration.describe()["clips"] == "1"
    with pytest.raises(IndexError):
        calibration.sample(5)


def test_a_larger_subset_holds_the_smaller():
    whole = Numbers(30)
    assert subset(whole, 30, 0) is whole
    small, large = (set(numbers_in(subset(whole, count, 7))) for count in (5, 12))
    assert small < large
    with pytest.raises(DataError, match="31 samples asked for"):
        subset(whole, 31, 0)
