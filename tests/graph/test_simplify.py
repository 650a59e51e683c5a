import numpy as np
import pytest
from onnx import helper
from tiny_models import norm_node, norm_weights, normal, onnx_model, run_model

from qsens.core.errors import LoadError
from qsens.graph import simplify
from qsens.graph.prepare import prepare_graph


def normalised(values, weights, prefix="bn"):
    shape = (1, -1, *(1,) * (values.ndim - 2))
    gamma, beta, mean, variance = (
        weights[f"{prefix}.{part}"].astype(np.float64).reshape(shape)
        for part in ("weight", "bias", "mean", "var")
    )
    return (values - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def kinds(graph):
    return [node.op_type for node in graph.model.graph.node]


CASES = {
    "conv": ("Conv", (6, 3, 3, 3), {"pads": [1, 1, 1, 1]}, 6),
    "conv without bias": ("Conv", (6, 3, 3, 3), {}, 6),
    "depthwise": ("Conv", (3, 1, 3, 3), {"group": 3}, 3),
    "deconv": ("ConvTranspose", (3, 5, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}, 5),
    "grouped deconv": ("ConvTranspose", (6, 2, 3, 3), {"group": 3, "strides": [2, 2]}, 6),
}


@pytest.mark.parametrize("case", CASES)
def test_normalisation_disappears_and_the_output_is_the_normalised_one(case):
    kind, shape, attributes, channels = CASES[case]
    inputs = shape[0] if kind == "ConvTranspose" else shape[1] * attributes.get("group", 1)
    weights = {"w": normal(*shape), **norm_weights(channels)}
    names = ["x", "w"]
    if "without" not in case:
        weights["b"] = normal(channels, seed=9)
        names.append("b")
    layer = helper.make_node(kind, names, ["y"], name="layer", **attributes)
    arguments = {"inputs": {"x": ["n", inputs, 6, 6]}, "weights": weights}
    graph = prepare_graph(onnx_model([layer, norm_node("y", "z")], outputs={"z": None}, **arguments))

    assert kinds(graph) == [kind]
    values = normal(2, inputs, 6, 6, seed=1)
    plain = run_model(onnx_model([layer], outputs={"y": None}, **arguments), {"x": values})[0]
    np.testing.assert_allclose(
        run_model(graph.model, {"x": values})[0], normalised(plain, weights), rtol=1e-4, atol=1e-5
    )
    assert graph.layers[0].parameters == np.prod(shape) + channels
    assert graph.layers[0].node == "layer"


def test_a_matrix_product_takes_its_bias_and_its_normalisation():
    weights = {"w": normal(5, 7), "b": normal(7, seed=1), **norm_weights(7)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["b", "p"], ["y"]),
        norm_node("y", "z"),
    ]
    graph = prepare_graph(onnx_model(nodes, inputs={"x": ["n", 5]}, outputs={"z": None}, weights=weights))
    assert kinds(graph) == ["Gemm"]
    values = normal(3, 5, seed=2)
    wanted = normalised(values @ weights["w"] + weights["b"], weights)
    np.testing.assert_allclose(run_model(graph.model, {"x": values})[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_something_else_reads_keeps_its_normalisation():
    weights = {"w": normal(4, 3, 1, 1), **norm_weights(4)}
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    add = helper.make_node("Add", ["y", "z"], ["out"])
    model = onnx_model(
        [conv, norm_node("y", "z"), add],
        inputs={"x": ["n", 3, 4, 4]},
        outputs={"out": None},
        weights=weights,
    )
    assert "BatchNormalization" in kinds(prepare_graph(model))


def test_a_convolution_that_is_an_output_keeps_its_normalisation():
    weights = {"w": normal(4, 3, 1, 1), **norm_weights(4)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), norm_node("y", "z")]
    model = onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"z": None, "y": None}, weights=weights)
    graph = prepare_graph(model)
    assert kinds(graph) == ["Conv", "BatchNormalization"]
    assert graph.outputs == ("z", "y")


def test_shared_weights_with_two_normalisations_become_two_tensors():
    weights = {"w": normal(3, 3, 1, 1), **norm_weights(3, "a", 1), **norm_weights(3, "b", 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["p"]),
        norm_node("p", "q", "a"),
        helper.make_node("Conv", ["q", "w"], ["r"]),
        norm_node("r", "z", "b"),
    ]
    model = onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"z": None}, weights=weights)
    graph = prepare_graph(model)
    assert kinds(graph) == ["Conv", "Conv"]
    values = normal(2, 3, 4, 4, seed=3)
    np.testing.assert_allclose(
        run_model(graph.model, {"x": values})[0], run_model(model, {"x": values})[0], rtol=1e-4, atol=1e-5
    )


def test_a_wrong_fold_is_noticed(monkeypatch):
    monkeypatch.setattr(simplify, "_along_outputs", lambda scale, weight, node: np.ones(()))
    weights = {"w": normal(4, 3, 1, 1), **norm_weights(4)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), norm_node("y", "z")]
    model = onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"z": None}, weights=weights)
    with pytest.raises(LoadError, match="'z' differs from the original by"):
        prepare_graph(model)
