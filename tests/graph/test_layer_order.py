"""Blocks and order of layers where the generator states them."""

from types import SimpleNamespace

import pytest

from qsens.core.errors import SpecError
from qsens.graph.layers import in_blocks, in_order
from qsens.testing import example_layers

LAYERS = example_layers(4)


def test_blocks_that_the_generator_states_replace_those_of_the_names():
    generator = SimpleNamespace(name="g", layer_blocks={"block0.conv1": "OUT"})
    assert [layer.block for layer in in_blocks(LAYERS, generator)] == ["block0", "OUT", "block1", "block1"]


def test_layers_in_definition_order_are_numbered_anew():
    order = ("block1", "block1.conv0", "block1.conv1", "block0.conv0", "block0.conv1")
    generator = SimpleNamespace(name="g", definition_order=order)
    arranged = in_order(LAYERS, generator, "definition")
    assert [layer.name for layer in arranged] == list(order[1:])
    assert [layer.index for layer in arranged] == [0, 1, 2, 3]
    assert in_order(LAYERS, generator, "execution") == LAYERS


def test_a_generator_that_states_no_order_is_named():
    with pytest.raises(SpecError, match=r"'g' does not say where 'block0\.conv0' is defined"):
        in_order(LAYERS, SimpleNamespace(name="g", definition_order=()), "definition")
