"""Loops on the device: states that are handed on, samplers whose answer is known."""

import numpy as np
import pytest

from qsens.device.errors import DeviceError
from qsens.device.loops import Network, Once, Port, Recurrent
from qsens.device.samplers import Sampler

FRAME = Port("frame", "float32", (2,), True, (2,))
STATE = Port("h", "float32", (2,), True, (2,))
FREE = Port("h", "float32", (None,), True, (None,))
FRAMES = [{"frame": np.full((1, 2), value, np.float32)} for value in (1, 2, 4)]


def network(*ports, batch=1):
    return Network(ports, ("picture", "next"), batch)


def sums(feed):
    total = feed["frame"] + feed["h"]
    return {"picture": total / 10, "next": total}


def test_one_call_makes_one_picture():
    assert [
        made["picture"][0, 0] for made in Once().play(lambda feed: {"picture": feed["frame"]}, FRAMES)
    ] == [1, 2, 4]


def test_states_go_from_frame_to_frame_and_start_as_zeros_each_time():
    loop = Recurrent({"h": "next"}, network(FRAME, STATE))
    for _ in range(2):
        assert [float(made["next"][0, 0]) for made in loop.play(sums, FRAMES)] == [1, 3, 7]


def test_a_start_that_samples_hold_is_that_of_the_first_frame():
    frames = [{**frame, "h": np.full((1, 2), 10, np.float32)} for frame in FRAMES]
    made = Recurrent({"h": "next"}, network(FRAME, FREE)).play(sums, frames)
    assert [float(one["next"][0, 0]) for one in made] == [11, 13, 17]


def test_a_first_state_may_be_one_value_that_is_broadcast():
    start = Port("h", "float32", (None,), True, (1,))
    assert len(Recurrent({"h": "next"}, network(FRAME, start)).play(sums, FRAMES)) == 3


@pytest.mark.parametrize(
    ("states", "port", "made", "message"),
    [
        ({}, STATE, sums, "states are {}"),
        ({"g": "next"}, STATE, sums, "no input 'g', which is a state's"),
        ({"h": "nxt"}, STATE, sums, "no output 'nxt'"),
        ({"h": "next", "frame": "next"}, STATE, sums, "'next' is the state of several inputs: h, frame"),
        ({"h": "next"}, FREE, sums, r"the state 'h' has free sides \(\?\)"),
        (
            {"h": "next"},
            STATE,
            lambda feed: {"next": np.zeros((1, 3), np.float32)},
            "'next' is float32 1x3, and the input 'h' that takes it is float32 batchx2",
        ),
        (
            {"h": "next"},
            Port("h", "float32", (None,), True, (2,)),
            lambda feed: {"next": np.concatenate([feed["h"], feed["h"]], axis=1)},
            "'next' grows: float32 1x4 after call 1 of the loop, float32 1x8 after call 2",
        ),
        (
            {"h": "next"},
            STATE,
            lambda feed: {"next": feed["h"] + np.where(feed["frame"] == 4, np.nan, 1).astype(np.float32)},
            "'next' holds 2 NaN or infinite values after call 3",
        ),
    ],
)
def test_states_that_do_not_fit_are_named(states, port, made, message):
    with pytest.raises(DeviceError, match=message):
        Recurrent(states, network(FRAME, port)).play(made, FRAMES)


NOISY, TIME = Port("x", "float32", (3, 4, 4), True, (3, 4, 4)), Port("t", "int64", (), True, ())
SAMPLED = Network((NOISY, TIME), ("predicted",))


def clean_and_noise(count=2):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, 3, 4, 4)), random.standard_normal((count, 3, 4, 4)).astype(
        np.float32
    )


@pytest.mark.parametrize("schedule", ["linear", "scaled-linear", "cosine"])
def test_ddim_finds_the_picture_that_a_perfect_prediction_of_its_noise_hides(schedule):
    clean, start = clean_and_noise()
    betas = {"linear": (1e-4, 0.02), "scaled-linear": (1e-4**0.5, 0.02**0.5)}.get(schedule)
    if betas is not None:
        steps = np.linspace(*betas, 1000) ** (2 if schedule == "scaled-linear" else 1)
        alphas = np.cumprod(1 - steps)
    else:
        curve = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
        alphas = np.cumprod(1 - np.minimum(1 - curve[1:] / curve[:-1], 0.999))
    times = []

    def call(feed):
        assert (feed["t"].shape, feed["t"].dtype) == ((2,), np.int64)
        times.append(int(feed["t"][0]))
        level = alphas[times[-1]]
        noise = (feed["x"] - np.sqrt(level) * clean) / np.sqrt(1 - level)
        return {"predicted": noise.astype(np.float32)}

    loop = Sampler("x", "t", "predicted", SAMPLED, steps=5, schedule=schedule)
    (made,) = loop.play(call, [{"x": start}])
    assert times == [999, 749, 500, 250, 0]
    np.testing.assert_allclose(made["predicted"], clean, atol=1e-3)


def test_euler_goes_straight_where_the_velocity_is_that_of_a_straight_line():
    clean, start = clean_and_noise()
    times = []

    def call(feed):
        times.append(float(feed["t"][0]))
        return {"predicted": (start - clean).astype(np.float32), "other": feed["class"]}

    network = Network((NOISY, Port("t", "float32", (), True, ())), ("predicted", "other"))
    loop = Sampler("x", "t", "predicted", network, method="euler", steps=4)
    (made,) = loop.play(call, [{"x": start, "class": np.ones((2, 1), np.float32)}])
    assert times == [1000, 750, 500, 250]
    np.testing.assert_allclose(made["predicted"], clean, atol=1e-5)
    assert made["other"].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "heun"}, "no sampler does 'heun'"),
        ({"steps": 0}, "0 steps of the 1000"),
        ({"schedule": "sine"}, "no schedule is called 'sine'"),
        ({"betas": [0.1, 0.01]}, r"the betas are \[0.1, 0.01\]"),
    ],
)
def test_options_of_a_sampler_are_checked(options, message):
    with pytest.raises(DeviceError, match=message):
        Sampler("x", "t", "predicted", SAMPLED, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda feed: {"predicted": feed["x"][:, :1]}, r"the prediction 'predicted' is \(2, 1, 4, 4\)"),
        (lambda feed: {"predicted": feed["x"] / (feed["t"][0] > 0)}, "NaN or infinite values after call 3"),
    ],
)
def test_a_prediction_of_another_size_or_without_end_stops_the_sampler(call, message):
    _, start = clean_and_noise()
    with np.errstate(all="ignore"), pytest.raises(DeviceError, match=message):
        Sampler("x", "t", "predicted", SAMPLED, steps=3).play(call, [{"x": start}])
