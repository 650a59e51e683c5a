"""Every installed strategy keeps its contract, with its default options and by block."""

from dataclasses import replace

import pytest

from qsens.core import plugins
from qsens.core.errors import PluginError
from qsens.core.maps import pin_layers
from qsens.core.precision import Precision
from qsens.testing import check_strategy, example_layers

LAYERS = {
    "one layer": example_layers(1),
    "two layers in one block": example_layers(2),
    "six layers": example_layers(6),
    "one block": example_layers(5, per_block=5),
    "a pinned layer": pin_layers(example_layers(5), ["block0.conv1=fp16"]),
    "all pinned": pin_layers(example_layers(3), ["*=fp16"]),
    "no FP16": tuple(
        replace(layer, allowed=frozenset({Precision.FP32, Precision.INT8})) for layer in example_layers(4)
    ),
}


NAMES = plugins.names("strategies")


def created(name, options):
    try:
        plugins.load_plugin("strategies", name)
    except PluginError as error:
        pytest.skip(error.message)
    return plugins.create("strategies", name, options)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_strategy_ends_never_repeats_and_replays(name, layers):
    check_strategy(created(name, {}), LAYERS[layers])


@pytest.mark.parametrize("name", NAMES)
def test_the_strategy_works_by_block(name):
    created(name, {})
    if "by" not in plugins.option_names("strategies", name):
        pytest.skip(f"{name} has no option 'by'")
    strategy = created(name, {"by": "block"})
    layers = example_layers(6)
    for trial in check_strategy(strategy, layers):
        for first, second in zip(layers[::2], layers[1::2], strict=True):
            assert trial.requested[first.name] is trial.requested[second.name]


@pytest.mark.parametrize("name", NAMES)
def test_the_strategy_carries_its_entry_point_name(name):
    assert created(name, {}).name == name
