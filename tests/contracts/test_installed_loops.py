"""The loops that come with qsens keep their contract, and what breaks it is named."""

import numpy as np
import pytest
from tiny_loops import Nothing, Twice, Unseeded

from qsens.core.errors import PluginError
from qsens.device.loops import Network, Once, Port, Recurrent
from qsens.device.samplers import Sampler
from qsens.testing import check_loop

NETWORK = Network(
    (
        Port("image", "float32", (2,), True, (2,)),
        Port("state", "float32", (2,), True, (2,)),
        Port("time", "float32", (), True, ()),
    ),
    ("picture", "next"),
)
FEEDS = [{"image": np.full((1, 2), value, np.float32)} for value in (1, 2)]
LOOPS = {
    "once": Once(),
    "recurrent": Recurrent({"state": "next"}, NETWORK),
    "ddim": Sampler("image", "time", "picture", NETWORK, steps=3),
    "euler": Sampler("image", "time", "picture", NETWORK, method="euler", steps=3),
    "own": Twice(),
}


def call(feed):
    total = (feed["image"] + feed.get("state", 0)) / 3
    return {"picture": total, "next": total}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_keeps_its_contract(name):
    check_loop(LOOPS[name], call, FEEDS)


class Mixing:
    def play(self, call, feeds):
        return [{"picture": feed["image"] + len(feeds)} for feed in feeds]


class Startless:
    started = ("image",)

    def play(self, call, feeds):
        return [call(feed) for feed in feeds]


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (Nothing(), "Nothing made no picture"),
        (Unseeded(), "Unseeded makes other pictures when it plays again"),
        (Mixing(), "Mixing makes another picture of a feed beside others"),
        (Startless(), "Startless starts inputs that it does not feed"),
    ],
)
def test_a_broken_promise_is_named(loop, message):
    with pytest.raises(PluginError, match=message):
        check_loop(loop, call, FEEDS)
