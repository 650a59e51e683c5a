"""Samples share a batch only where that changes none of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from calibration_sets import STYLE

from qsens.calibration.batches import InputCache, batching_note, run_feeds
from qsens.core.errors import ScoreError
from qsens.core.interfaces import InputSpec

IMAGE = InputSpec("image", (1, None), "float32", True)


def graph_of(*inputs, can_batch=True):
    return SimpleNamespace(inputs=inputs, can_batch=can_batch, why_single=None if can_batch else "because")


class Samples(list):
    def sample(self, index):
        return self[index]


def samples_with(style_values, widths=None):
    widths = widths or [2] * len(style_values)
    return Samples(
        {"image": np.full((1, width), place, np.float32), "style": np.asarray(value)}
        for place, (value, width) in enumerate(zip(style_values, widths, strict=True))
    )


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ([0.5, 0.5, 0.5, 0.5], [4]),
        ([0.0, 0.1, 0.2, 0.2], [1, 1, 2]),
        ([[1, 2], [1, 2], [2, 1], [1, 2]], [2, 1, 1]),
        ([True, True, False, False], [2, 2]),
        ([np.int64(3), np.int64(4), np.int64(4), np.int64(4)], [1, 3]),
    ],
)
def test_a_batch_holds_one_value_of_an_input_without_batch_axis(values, sizes):
    samples = samples_with(values)
    feeds = InputCache(samples, graph_of(IMAGE, STYLE), 4).feeds(samples)
    assert [len(feed["image"]) for feed in feeds] == sizes
    seen = [(image[0, 0], feed["style"].tolist()) for feed in feeds for image in feed["image"]]
    assert seen == [(place, np.asarray(value).tolist()) for place, value in enumerate(values)]


def test_samples_of_different_sizes_run_apart():
    samples = samples_with([0, 0, 0], widths=[2, 3, 3])
    feeds = InputCache(samples, graph_of(IMAGE, STYLE), 4).feeds(samples)
    assert [feed["image"].shape for feed in feeds] == [(1, 1, 2), (2, 1, 3)]


def test_a_feed_to_time_is_full_of_samples_that_can_share_it():
    feed = InputCache(samples_with([1, 2, 1]), graph_of(IMAGE, STYLE), 1).filled(5)
    assert feed["image"][:, 0, 0].tolist() == [0, 2, 0, 2, 0]
    assert feed["style"] == 1


@pytest.mark.parametrize(
    ("samples", "graph", "note"),
    [
        (samples_with([1, 1]), graph_of(IMAGE, STYLE), None),
        (
            samples_with([1, 2]),
            graph_of(IMAGE, STYLE),
            "those that differ in 'style' run apart (no batch axis)",
        ),
        (samples_with([1, 1], [2, 3]), graph_of(IMAGE, STYLE), "'image' run apart (sizes differ)"),
        (samples_with([1, 1]), graph_of(IMAGE, can_batch=False), "one at a time, not 2: because"),
        (samples_with([1]), graph_of(IMAGE, can_batch=False), None),
    ],
)
def test_what_runs_apart_is_said(samples, graph, note):
    said = batching_note(samples, graph, 8)
    assert said is None if note is None else note in said


def engine(function):
    return SimpleNamespace(run=lambda feed: {"out": function(feed["image"])})


def test_outputs_without_axes_are_joined_one_a_feed():
    feeds = [{"image": np.full((1, 2), value, np.float32)} for value in (1, 2)]
    assert run_feeds(engine(lambda image: image.sum()), feeds)["out"].tolist() == [2, 4]


def test_pictures_of_different_sizes_are_refused_in_words():
    feeds = [{"image": np.ones((1, width), np.float32)} for width in (2, 3)]
    with pytest.raises(ScoreError, match=r"output 'out' is \(2,\) for one sample and \(3,\)"):
        run_feeds(engine(lambda image: image), feeds)
