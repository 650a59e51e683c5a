"""A layer as a matrix product gives what ONNX Runtime computes."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.repair.layer_inputs import WeightMatrix

CONV = {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
NODES = {
    "conv": ("Conv", CONV, (6, 4, 3, 3), (2, 4, 9, 8)),
    "grouped": ("Conv", {"group": 2, "pads": [1, 1, 1, 1]}, (6, 2, 3, 3), (1, 4, 5, 5)),
    "depthwise": ("Conv", {"group": 4}, (4, 1, 3, 3), (1, 4, 5, 5)),
    "line": ("Conv", {"pads": [1, 1]}, (3, 4, 3), (1, 4, 7)),
    "volume": ("Conv", {}, (3, 2, 2, 2, 2), (1, 2, 3, 4, 3)),
    "same upper": ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (3, 4, 4, 4), (1, 4, 7, 8)),
    "same lower": ("Conv", {"auto_pad": "SAME_LOWER"}, (3, 4, 4, 4), (1, 4, 7, 8)),
    "valid": ("Conv", {"auto_pad": "VALID"}, (3, 4, 3, 3), (1, 4, 7, 8)),
    "transposed": (
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        (4, 6, 3, 3),
        (1, 4, 5, 4),
    ),
    "transposed groups": ("ConvTranspose", {"strides": [2, 2], "group": 2}, (4, 3, 4, 4), (1, 4, 3, 3)),
    "transposed dilated": ("ConvTranspose", {"dilations": [2, 1]}, (4, 3, 3, 2), (1, 4, 4, 4)),
    "transposed same": (
        "ConvTranspose",
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        (4, 3, 3, 3),
        (1, 4, 4, 4),
    ),
    "transposed deep pads": ("ConvTranspose", {"pads": [2, 2, 2, 2]}, (4, 3, 2, 2), (1, 4, 6, 6)),
    "gemm": ("Gemm", {"alpha": 0.5}, (5, 3), (4, 5)),
    "gemm transposed": ("Gemm", {"transB": 1, "transA": 1}, (3, 5), (5, 4)),
    "matmul": ("MatMul", {}, (5, 3), (2, 4, 5)),
}


@pytest.mark.parametrize("name", NODES)
def test_rows_times_matrix_are_the_outputs(name):
    operator, attributes, shape, sides = NODES[name]
    node = helper.make_node(operator, ["x", "w"], ["y"], name="layer", **attributes)
    weight, x = normal(*shape, seed=1), normal(*sides, seed=2)
    model = onnx_model([node], inputs={"x": list(sides)}, outputs={"y": None}, weights={"w": weight})
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    matrix = WeightMatrix(node, shape)
    rows = matrix.rows(x, 10**6, seed=0)
    products = np.einsum("grc,goc->rgo", rows, matrix.split(weight)) * matrix.factor
    channels = 1 if operator.startswith("Conv") else -1
    flat = np.moveaxis(expected, channels, -1).reshape(-1, expected.shape[channels])
    np.testing.assert_allclose(products.reshape(flat.shape), flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NODES)
def test_a_weight_comes_back_from_its_matrices(name):
    operator, attributes, shape, _ = NODES[name]
    matrix = WeightMatrix(helper.make_node(operator, ["x", "w"], ["y"], **attributes), shape)
    weight = normal(*shape, seed=1)
    np.testing.assert_array_equal(matrix.joined(matrix.split(weight)), weight)
    assert matrix.split(weight).shape[-1] == matrix.columns


def test_some_rows_are_rows_of_all():
    operator, attributes, shape, sides = NODES["conv"]
    matrix = WeightMatrix(helper.make_node(operator, ["x", "w"], ["y"], **attributes), shape)
    x = normal(*sides, seed=2)
    everything = {row.tobytes() for row in matrix.rows(x, 10**6, seed=0)[0]}
    some = matrix.rows(x, 7, seed=4)[0]
    assert len(some) == 7
    assert {row.tobytes() for row in some} <= everything
    np.testing.assert_array_equal(some, matrix.rows(x, 7, seed=4)[0])
