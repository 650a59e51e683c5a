"""The search over channel scales and thresholds: what it finds, and how often it asks."""

from collections.abc import Mapping

import numpy as np
import pytest

from qsens.repair.scale_candidates import ChannelGroup, channel_groups
from qsens.repair.scale_search import search_scales

GROUPS = {
    "t": (ChannelGroup("one", (0,), 8.0), ChannelGroup("one", (1, 2), 2.0)),
    "u": (ChannelGroup("two", (0,), 3.0),),
}
START = {"t": 8.0, "u": 3.0}
BEST = {"one": np.array([0, -2, -2]), "two": np.array([3])}


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


def error_of(exponents: Mapping[str, np.ndarray], amax: Mapping[str, float]) -> float:
    """Squares of what is missing to `BEST`, and to a threshold of 4 for `t`."""
    missing = [np.square(exponents.get(name, 0) - best).sum() for name, best in BEST.items()]
    asked = {**START, **amax}
    return float(sum(missing) + np.log2(asked["t"] / 4) ** 2 + np.log2(asked["u"] / 3) ** 2)


def test_channels_and_thresholds_are_found_together():
    found = search_scales(START, GROUPS, error_of, silent)
    assert {name: values.tolist() for name, values in found.exponents.items()} == {
        name: values.tolist() for name, values in BEST.items()
    }
    assert found.amax == {"t": pytest.approx(4.0)}
    assert found.error == pytest.approx(0.0)


@pytest.mark.parametrize("most_tries", [0, 1, 7])
def test_tries_are_bounded(most_tries):
    found = search_scales(START, GROUPS, error_of, silent, most_tries=most_tries)
    assert found.tries == most_tries
    assert found.error == error_of(found.exponents, found.amax) <= error_of({}, {})


def test_channels_of_a_similar_size_are_scaled_alike():
    magnitudes = np.arange(40.0)[::-1] % 7
    groups = channel_groups("wide", magnitudes)
    assert len(groups) == 16
    assert sorted(channel for group in groups for channel in group.channels) == list(range(40))
    in_order = [magnitudes[channel] for group in groups for channel in group.channels]
    assert in_order == sorted(in_order, reverse=True)
