"""Patterns that name layers: torch names, blocks, ONNX nodes and the engine's own names."""

import pytest

from qsens.core.errors import SpecError
from qsens.core.layer import match_layers
from qsens.testing import example_layers

LAYERS = example_layers(6)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("block1.conv0", ["block1.conv0"]),
        ("block1", ["block1.conv0", "block1.conv1"]),
        ("*.conv1", ["block0.conv1", "block1.conv1", "block2.conv1"]),
        ("/block2/conv0/Conv", ["block2.conv0"]),
        ("/block0/*", ["block0.conv0", "block0.conv1"]),
        ("/block1/conv1/Conv + /block1/relu1/Relu", ["block1.conv1"]),
        ("/block0/conv1/Conv || /block1/conv0/Conv", ["block0.conv1", "block1.conv0"]),
        ("{ForeignNode[/block2/conv1/Conv.../block2/act/Tanh]}", []),
        ("/block1/conv0/Conv,/block1/act/Relu", ["block1.conv0"]),
    ],
)
def test_a_layer_is_found_under_each_of_its_names(pattern, found):
    if not found:
        with pytest.raises(SpecError, match="matches no layer"):
            match_layers(pattern, LAYERS)
        return
    assert [layer.name for layer in match_layers(pattern, LAYERS)] == found


def test_a_name_inside_another_is_not_found():
    layers = example_layers(24)
    assert [layer.name for layer in match_layers("/block1/conv0/Conv + x", layers)] == ["block1.conv0"]
