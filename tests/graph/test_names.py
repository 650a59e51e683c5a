"""Names of nodes and tensors: control characters are shown, made names meet no other, the rest stays."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.graph.editable_graph import Draft
from qsens.graph.layers import WeightedNode, layer_names
from qsens.graph.names import NameMaker, with_shown_names
from qsens.graph.prepare import prepare_graph
from qsens.graph.shapes import graph_inputs

NAMES = {
    "first": "/a\r\n/conv\x00",
    "second": "/a\\r\\n/conv\\x00",
    "image": "im\x1b[2Jage",
    "weight": "\u202ew\x00.weight",
    "middle": "\x9bmiddle",
    "picture": "pic\tture",
}


def model_of(names):
    nodes = [
        helper.make_node("Conv", [names["image"], names["weight"]], [names["middle"]], names["first"]),
        helper.make_node("Conv", [names["middle"], "other"], [names["picture"]], names["second"]),
    ]
    return onnx_model(
        nodes,
        inputs={names["image"]: ["n", 3, 4, 4]},
        outputs={names["picture"]: ["n", 2, 4, 4]},
        weights={names["weight"]: normal(2, 3, 1, 1), "other": normal(2, 2, 1, 1)},
    )


def test_names_are_shown_everywhere_and_stay_different():
    model = model_of(NAMES)
    graph = prepare_graph(model)
    assert [layer.name for layer in graph.layers] == [r"a\r\n.conv\x00@2", r"a\r\n.conv\x00"]
    assert [entry.name for entry in graph.inputs] == [r"im\x1b[2Jage"]
    assert graph.outputs == (r"pic\tture",)
    assert graph_inputs(model) == graph.inputs
    text = onnx.printer.to_text(graph.model)
    assert not any(ord(one) < 32 or one in "\x7f\x9b\u202e" for one in text.replace("\n", ""))
    feed = np.ones((1, 3, 4, 4), np.float32)
    run = [
        onnxruntime.InferenceSession(onnx_file.SerializeToString()).run(None, {name: feed})[0]
        for onnx_file, name in ((model, NAMES["image"]), (graph.model, r"im\x1b[2Jage"))
    ]
    np.testing.assert_array_equal(*run)


def test_a_model_of_plain_names_is_the_same_object():
    model = model_of({name: f"größe/{name}.0 $x$ =1" for name in NAMES})
    assert with_shown_names(model) is model


def test_names_inside_of_subgraphs_are_shown():
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x\x1b"], ["y\x1b"], "n\x1b")],
        "inner",
        [],
        [helper.make_empty_tensor_value_info("y\x1b")],
    )
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model = helper.make_model(
        helper.make_graph([node], "outer", [helper.make_tensor_value_info("x\x1b", 1, [1])], [])
    )
    assert "\\033" in str(model)
    shown = str(with_shown_names(model))
    assert {name: shown.count(f'"{name}\\\\x1b"') for name in "xyn"} == {"x": 3, "y": 4, "n": 2}
    assert "\\033" not in shown


@pytest.mark.parametrize("scopes", ["[" * 100_000, "('" * 500, "['a', 'b\\x1b[2J', 'c']"])
def test_scopes_of_an_exporter_may_hold_anything(scopes):
    model = model_of({**NAMES, "first": "first", "second": "second"})
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert all(layer.name.isprintable() for layer in prepare_graph(model).layers)


def test_a_node_keeps_its_name_from_those_without_one():
    names = ["", "Relu_0", "", "twice", "twice", "twice@2"]
    nodes = [helper.make_node("Relu", ["image"], [f"y{index}"], name) for index, name in enumerate(names)]
    draft = Draft.take_apart(onnx_model(nodes, inputs={"image": [1]}, outputs={"y0": [1]}))
    draft.name_nodes()
    assert [node.name for node in draft.nodes] == [
        "Relu_0@2",
        "Relu_0",
        "Relu_1",
        "twice",
        "twice@3",
        "twice@2",
    ]


def test_a_layer_keeps_its_name_from_the_second_use_of_another():
    nodes = [
        WeightedNode(f"n{index}", module, "conv", f"{module}.weight")
        for index, module in enumerate(("a", "a", "a@2"))
    ]
    assert layer_names(nodes) == ["a", "a@3", "a@2"]
    assert layer_names(nodes[:2]) == ["a", "a@2"]


def test_what_is_made_of_one_name_is_one_name():
    maker = NameMaker({"a:scale", "a:scale@2", "b"})
    assert maker.made("a", "scale") == maker.made("a", "scale") == "a:scale@3"
    assert maker.made("b", "scale") == "b:scale"
    assert maker.made("b", "scale", "/") == "b/scale"
