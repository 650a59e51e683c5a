"""Patterns that name layers: torch names, blocks, ONNX nodes and the engine's own names."""

from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.layer import match_layers
from qsens.core.maps import pin_layers
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


def renamed(*names, **nodes):
    return [
        replace(layer, name=name, block=name.partition(".")[0], node=nodes.get(name, f"n{layer.index}"))
        for name, layer in zip(names, example_layers(24), strict=False)
    ]


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("conv[0]", ("conv[0]", "conv0"), ["conv[0]"]),
        ("conv[01]", ("conv[0]", "conv0", "conv1"), ["conv0", "conv1"]),
        (
            "Net/Seq[tail]/Conv2d[1]/c_0",
            ("Net/Seq[tail]/Conv2d[1]/c_0", "out"),
            ["Net/Seq[tail]/Conv2d[1]/c_0"],
        ),
        ("a*", ("a*", "ab"), ["a*"]),
        ("a?.b", ("a?.b", "a1.b"), ["a?.b"]),
        ("[!a]", ("[!a]", "b"), ["[!a]"]),
        ("head", ("head", "head.out"), ["head"]),
        ("head*", ("head", "head.out"), ["head", "head.out"]),
        ("conv[0]", ("conv[0]", "conv[0]@2", "conv0"), ["conv[0]", "conv[0]@2"]),
        ("conv[0]@2", ("conv[0]", "conv[0]@2", "conv0"), ["conv[0]@2"]),
        ("b[1]", ("b[1].x", "b1.x"), ["b[1].x"]),
    ],
)
def test_a_whole_name_comes_before_a_pattern(text, names, found):
    assert [layer.name for layer in match_layers(text, renamed(*names))] == found


def test_a_layer_comes_before_the_node_of_another():
    assert [layer.name for layer in match_layers("a", renamed("a", "b", b="a"))] == ["a"]
    assert [layer.name for layer in match_layers("n[1]", renamed("a", "b", b="n[1]"))] == ["b"]


def test_a_pin_of_no_layer_suggests_one():
    with pytest.raises(SpecError, match="matches no layer") as caught:
        pin_layers(renamed("conv[0]", "conv[1]"), ["cnv[0]=fp32"])
    assert caught.value.hint == "did you mean 'conv[0]'?"
