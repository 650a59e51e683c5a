"""Samples from memory: what a loader, a list or a dict holds, as arrays by graph input."""

import random

import numpy as np
import pytest

from qsens.calibration.given import GivenData, same_randomness
from qsens.core.errors import DataError
from qsens.core.interfaces import InputSpec

IMAGE = InputSpec("image", (3, 4, 4), "float32", is_batched=True)
AUDIO = InputSpec("audio", (6,), "float32", is_batched=True)
ONE = np.ones((3, 4, 4), np.float32)


def samples(data, *inputs):
    return list(GivenData(data, "calibration").samples(inputs or (IMAGE,)))


class Loader:
    """What a torch DataLoader shows, that shuffles all of its data set."""

    def __init__(self, dataset, sampler):
        self.dataset, self.batch_size = dataset, 2
        self.sampler = type(sampler, (), {})()

    def collate_fn(self, samples):
        return np.stack(samples)

    def __iter__(self):
        yield np.stack(self.dataset[::-1])


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ([ONE, ONE], 2),
        ([np.stack([ONE] * 3)], 3),
        (np.stack([ONE] * 4).astype(np.float64), 4),
        ([{"image": ONE}], 1),
        ([(ONE,)], 1),
        (lambda: iter([ONE]), 1),
    ],
)
def test_samples_come_one_by_one_in_the_type_of_the_input(data, count):
    found = samples(data)
    assert [(one["image"].shape, str(one["image"].dtype)) for one in found] == [
        ((3, 4, 4), "float32")
    ] * count


def test_inputs_of_a_batch_belong_together_and_clips_go_with_them():
    batch = {
        "audio": np.arange(12.0).reshape(2, 6),
        "image": np.stack([ONE, 2 * ONE]),
        "clip": np.array(["a", "b"]),
    }
    second = samples([batch], IMAGE, AUDIO)[1]
    assert (second["image"][0, 0, 0], second["audio"][0], str(second["clip"])) == (2.0, 6.0, "b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([np.ones((4, 4), np.float32)], r"item 0 of calibration is \(4, 4\) for input 'image'"),
        ([ONE, {"picture": ONE}], "item 1 of calibration has no 'image', only picture"),
        ([{"image": ONE, "label": ONE}], "has 'label', which is no input"),
        ([(ONE, 3)], "holds 2 arrays for 1 inputs"),
        ([ONE.astype(np.uint8)], "is uint8 for input 'image'"),
        (["face.png"], "holds a str, which is no array"),
    ],
)
def test_what_does_not_fit_is_said_with_the_inputs_of_the_graph(data, message):
    with pytest.raises(DataError, match=message) as caught:
        samples(data)
    assert caught.value.hint.startswith("the graph's input is image (3, 4, 4) float32")


def test_something_that_is_no_series_is_refused():
    with pytest.raises(DataError, match="calibration is a int, which is no series of samples"):
        samples(3)


@pytest.mark.parametrize(("sampler", "order"), [("RandomSampler", [0, 1, 2]), ("SubsetSampler", [2, 1, 0])])
def test_a_loader_of_all_of_a_data_set_is_read_in_the_order_of_that(sampler, order):
    loader = Loader([place * ONE for place in range(3)], sampler)
    assert [one["image"][0, 0, 0] for one in samples(loader)] == order


def test_a_first_look_at_what_can_be_read_once_takes_nothing_away():
    first, data = GivenData(iter([ONE, 2 * ONE]), "calibration").with_first_item()
    assert first is ONE
    assert len(list(data.samples([IMAGE]))) == 2


def test_random_numbers_are_the_same_inside_and_untouched_outside():
    before = (random.getstate(), np.random.get_state()[1].tolist())
    drawn = []
    for _ in range(2):
        with same_randomness(0):
            drawn.append((random.random(), np.random.rand()))
    assert drawn[0] == drawn[1]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
