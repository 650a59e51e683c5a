import json
import sys
import types
from dataclasses import replace

import pytest
from click.testing import CliRunner
from tiny_models import conv_model

from qsens.cli.layers import graph_table, layers, parse_shape
from qsens.cli.main import main
from qsens.core.errors import SpecError
from qsens.graph.prepare import prepare_graph


@pytest.fixture
def asked(monkeypatch):
    """What the command asks the assembly for; it gets a prepared two-layer generator."""
    calls = []
    graph = prepare_graph(conv_model())
    opening = types.ModuleType("qsens.run.open")
    generator = types.SimpleNamespace(weights_read="read 4 tensors of talker.pth, under 'ema'")
    opening.open_generator = lambda *arguments: calls.append(arguments) or generator
    opening.load_graph = lambda generator, shapes, spec: calls.append(shapes) or graph
    monkeypatch.setitem(sys.modules, opening.__name__, opening)
    return calls


def run(*arguments):
    return CliRunner().invoke(layers, list(arguments), catch_exceptions=False)


def test_table_totals_and_conventions(asked):
    result = run("talker.onnx")
    assert result.stderr == "Note: read 4 tensors of talker.pth, under 'ema'\n"
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "#"
    assert lines[1].split() == ["0", "first", "first", "first", "Conv", "112", "6,912", "6,912", "1x4x8x8"]
    assert lines[3].split() == ["2", "layers", "124", "7,680", "7,680"]
    assert "image 1x3x8x8" in lines[5]
    assert "any size" in lines[5]
    assert "output resolution" in lines[-2]


def test_an_input_without_axes_is_said_to_be_a_scalar():
    shapes = (("image", (1, 3, 8, 8)), ("strength", ()))
    table = graph_table(replace(prepare_graph(conv_model()), example_shapes=shapes))
    assert "inputs: image 1x3x8x8, strength scalar; outputs: picture" in table


def test_json_has_layers_and_totals(asked):
    found = json.loads(run("talker.onnx", "--json").stdout)
    assert [layer["name"] for layer in found["layers"]] == ["first", "second"]
    assert found["layers"][0]["allowed"] == ["fp16", "fp32", "int8"]
    assert found["weights_read"] == "read 4 tensors of talker.pth, under 'ema'"
    assert found["totals"] == {"layers": 2, "parameters": 124, "macs": 7680, "macs_torchprofile": 7680}


def test_options_reach_the_generator(asked):
    run("a.pth", "--model", "net:make", "--input-shape", "image=1x3x8x8", "--trust-checkpoint")
    (path, model, options), shapes = asked
    assert (str(path), model) == ("a.pth", "net:make")
    assert options == {"input_shapes": {"image": (1, 3, 8, 8)}, "trust_checkpoint": True}
    assert shapes == {"image": (1, 3, 8, 8)}


def test_several_shapes_may_be_given(asked):
    run("a.onnx", "--input-shape", "image=1x3x8x8", "--input-shape", "style=26")
    assert asked[1] == {"image": (1, 3, 8, 8), "style": (26,)}


@pytest.mark.parametrize("text", ["1x3x8x8", "image=", "image=1x3xhxw", "image=1x0x8x8", "image=-1x3x8x8"])
def test_shapes_that_cannot_be_read_are_quoted(text):
    with pytest.raises(SpecError, match=text):
        parse_shape(text)


def test_nothing_to_open_is_a_usage_error(asked):
    with pytest.raises(SpecError, match="no generator given"):
        run()


def test_options_reach_the_generator_and_nothing_else():
    asked = ["layers", "--model", "onnx", "--option", "model.name=seven", "absent.onnx"]
    assert "absent.onnx" in CliRunner().invoke(main, asked).output
    refused = CliRunner().invoke(
        main, ["layers", "--model", "onnx", "--option", "backend.threads=1", "x.onnx"]
    )
    assert "layers takes no option of a backend" in refused.output
    unknown = CliRunner().invoke(main, ["layers", "--model", "onnx", "--option", "model.nme=1", "x.onnx"])
    assert "did you mean 'name'?" in unknown.output
