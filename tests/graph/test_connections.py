"""Connections between layers: branches stay branches, and sums do not lead to every layer before them."""

from onnx import helper
from tiny_models import normal, onnx_model

from qsens.graph.connections import layer_connections
from qsens.graph.prepare import prepare_graph


def conv(name, source, target):
    return helper.make_node("Conv", [source, f"{name}.w"], [target], name=name)


def test_a_skip_joins_where_it_is_concatenated_and_sums_belong_to_their_last_layer():
    nodes = [
        conv("enc", "x", "e"),
        helper.make_node("Relu", ["e"], ["skip"], name="relu"),
        conv("one", "skip", "a"),
        helper.make_node("Add", ["skip", "a"], ["b"], name="sum1"),
        conv("two", "b", "c"),
        helper.make_node("Add", ["b", "c"], ["d"], name="sum2"),
        helper.make_node("Concat", ["d", "skip"], ["both"], name="join", axis=1),
        conv("out", "both", "y"),
    ]
    weights = {f"{name}.w": normal(3, 3, 1, 1) for name in ("enc", "one", "two")}
    weights["out.w"] = normal(3, 6, 1, 1)
    model = onnx_model(nodes, inputs={"x": ["n", 3, 2, 2]}, outputs={"y": None}, weights=weights)
    assert layer_connections(prepare_graph(model)) == {
        "enc": (),
        "one": ("enc",),
        "two": ("enc", "one"),
        "out": ("two",),
    }
