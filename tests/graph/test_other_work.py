"""Work that is in no layer: its nodes, its multiply-accumulates, and why."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

from qsens.graph.other_work import other_work, tensors_of_work
from qsens.graph.prepare import prepare_graph

LAYER = helper.make_node("Conv", ["image", "w"], ["x"], "layer")
SIDES = {"image": [1, 4, 6, 6]}


def found(*nodes, weights=None, opset=19, domains=()):
    """The other work of a 1x1 convolution and these nodes, which read its result `x` (1, 4, 6, 6)."""
    outputs = {nodes[-1].output[0]: None}
    constants = {"w": normal(4, 4, 1, 1), **(weights or {})}
    model = onnx_model([LAYER, *nodes], inputs=SIDES, outputs=outputs, weights=constants, opset=opset)
    model.ir_version = 9
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    return {work.name: work for work in prepare_graph(model).other_work}


def node(kind, inputs, outputs, **more):
    return helper.make_node(kind, inputs.split(), outputs.split(), **{"name": "it", **more})


RESHAPED = node("Reshape", "x sides", "r", name="reshape")
TURNED = node("Transpose", "r", "t", name="turn", perm=[0, 2, 1])
AS_ROWS = {"sides": np.array([1, 4, 36])}
AS_TOKENS = {"sides": np.array([36, 1, 4])}
POOLED = node("GlobalAveragePool", "x", "p", name="pool")
MADE_WEIGHT = [POOLED, node("Mul", "kernel p", "k", name="modulate")]

CASES = {
    "modulated convolution": (
        [*MADE_WEIGHT, node("Conv", "x k", "y")],
        {"kernel": normal(5, 4, 3, 3)},
        4 * 4 * 5 * 36,
    ),
    "modulated transposed convolution": (
        [*MADE_WEIGHT, node("ConvTranspose", "x k", "y")],
        {"kernel": normal(4, 4, 3, 3)},
        36 * 4 * 4 * 9,
    ),
    "deformable convolution": (
        [node("DeformConv", "x kernel offsets", "y", kernel_shape=[3, 3])],
        {"kernel": normal(5, 4, 3, 3), "offsets": np.zeros((1, 18, 4, 4), np.float32)},
        5 * 16 * 4 * 9,
    ),
    "attention's product": ([RESHAPED, TURNED, node("MatMul", "t r", "y")], AS_ROWS, 36 * 36 * 4),
    "matrix on the left": (
        [RESHAPED, node("MatMul", "left r", "y")],
        {**AS_ROWS, "left": normal(7, 4)},
        7 * 4 * 36,
    ),
    "batched matrices": ([node("MatMul", "x many", "y")], {"many": normal(1, 4, 6, 5)}, 4 * 6 * 6 * 5),
    "sum of products": (
        [RESHAPED, node("Einsum", "r r", "y", equation="bci,bcj->bij")],
        AS_ROWS,
        4 * 36 * 36,
    ),
    "sum with dots": ([node("Einsum", "x x", "y", equation="...ij,...jk->...ik")], {}, 4 * 6 * 6 * 6),
    "computed Gemm": (
        [
            node("Reshape", "x sides", "r", name="reshape"),
            node("Gemm", "r r", "y", transA=1),
        ],
        {"sides": np.array([4, 36])},
        36 * 36 * 4,
    ),
    "GRU": (
        [RESHAPED, node("GRU", "r gates back", "y", hidden_size=5)],
        {**AS_TOKENS, "gates": normal(1, 15, 4), "back": normal(1, 15, 5)},
        36 * 15 * (4 + 5),
    ),
    "LSTM in two directions": (
        [RESHAPED, node("LSTM", "r gates back", "y", hidden_size=3, direction="bidirectional")],
        {**AS_TOKENS, "gates": normal(2, 12, 4), "back": normal(2, 12, 3)},
        36 * 2 * 12 * (4 + 3),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_work_that_is_no_layer_is_counted(kind):
    nodes, weights, macs = CASES[kind]
    works = found(*nodes, weights=weights)
    assert {name: work.macs for name, work in works.items()} == {"it": macs}
    assert works["it"].kind == nodes[-1].op_type
    assert works["it"].reason


def test_a_graph_whose_work_is_in_layers_has_no_other():
    assert found(node("Relu", "x", "y")) == {}


def body(*nodes, result="y", inputs=()):
    return helper.make_graph(nodes, "body", list(inputs), [helper.make_tensor_value_info(result, 1, None)])


def test_the_larger_branch_of_an_if_counts_once():
    flag = [node("ReduceSum", "x", "s", name="sum", keepdims=0), node("Greater", "s zero", "f", name="is")]
    small, large = (
        body(node("Conv", f"x {kernel}", "z", name="inner"), node("ReduceSum", "z", "y", name="all"))
        for kernel in ("small", "large")
    )
    branch = helper.make_node("If", ["f"], ["picture"], "choice", then_branch=small, else_branch=large)
    weights = {"small": normal(2, 4, 1, 1), "large": normal(3, 4, 3, 3), "zero": np.float32(0)}
    works = found(*flag, branch, weights=weights)
    assert {name: work.macs for name, work in works.items()} == {"choice/inner": 3 * 16 * 4 * 9}
    assert "counted once" in works["choice/inner"].reason


def again(*nodes):
    """Two rounds of nodes that make `y` from `state`, which begins as `x`."""
    loop = body(
        node("Identity", "go", "on", name="same"),
        *nodes,
        inputs=[
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
    )
    loop.output.insert(0, helper.make_tensor_value_info("on", TensorProto.BOOL, []))
    return helper.make_node("Loop", ["count", "", "x"], ["picture"], "again", body=loop)


def test_a_loop_counts_as_in_its_first_round():
    works = found(again(node("MatMul", "state state", "y", name="square")), weights={"count": np.int64(2)})
    assert works["again/square"].macs == 4 * 6 * 6 * 6
    assert "counted once" in works["again/square"].reason


def test_a_loop_whose_sizes_are_open_is_named_without_a_number():
    works = found(
        again(
            node("NonZero", "state", "places", name="where"),
            node("Cast", "places", "wide", name="widen", to=TensorProto.FLOAT),
            node("Transpose", "wide", "turned", name="turn"),
            node("MatMul", "wide turned", "square", name="square"),
            node("ReduceSum", "square", "sum", name="all", keepdims=0),
            node("Add", "state sum", "y", name="add"),
        ),
        weights={"count": np.int64(2)},
    )
    assert works["again/square"].macs == 0
    assert works["again/square"].reason.endswith("its sizes are not known")


@pytest.mark.parametrize(
    ("made", "shapes", "macs"),
    [
        (
            node("Attention", "q k v", "y"),
            {"q": (1, 2, 5, 8), "k": (1, 2, 7, 8), "v": (1, 2, 7, 6)},
            2 * 5 * 7 * 14,
        ),
        (
            node("Attention", "q k v", "y", q_num_heads=4, kv_num_heads=2),
            {"q": (1, 5, 32), "k": (1, 7, 16), "v": (1, 7, 12)},
            4 * 5 * 7 * (8 + 6),
        ),
        (
            node("MultiHeadAttention", "q k v", "y", num_heads=4, domain="com.microsoft"),
            {"q": (1, 5, 32), "k": (1, 7, 32), "v": (1, 7, 24)},
            4 * 5 * 7 * (8 + 6),
        ),
        (
            node("Attention", "q k", "y", num_heads=2, domain="com.microsoft"),
            {"q": (1, 5, 8), "k": (8, 24)},
            5 * 8 * 24 + 2 * 5 * 5 * 8,
        ),
        (
            node("MMCVModulatedDeformConv2d", "x offset mask kernel bias", "y", domain="mmdeploy"),
            {
                "x": (1, 4, 6, 6),
                "offset": (1, 18, 6, 6),
                "mask": (1, 9, 6, 6),
                "kernel": (5, 4, 3, 3),
                "bias": (5,),
                "y": (1, 5, 6, 6),
            },
            5 * 36 * 4 * 9,
        ),
        (
            node("FusedMatMul", "a b", "y", domain="com.microsoft"),
            {"a": (3, 4), "b": (4, 5), "y": (3, 5)},
            60,
        ),
    ],
)
def test_operators_that_only_some_engines_run(made, shapes, macs):
    draft = DraftOf(made)
    assert [work.macs for work in other_work(draft, shapes, None)] == [macs]
    assert tensors_of_work(draft)["it"] >= set(made.input)


class DraftOf:
    """As much of a draft as the work of one node asks for."""

    def __init__(self, made):
        self.nodes = [made]
        self.initializers = {}


def test_sizes_that_only_a_run_tells_are_those_of_the_run():
    sides = [node("Shape", "x", "s", name="shape"), node("Slice", "s start end", "two", name="cut")]
    shaped = node("Reshape", "x two_sides", "r", name="reshape")
    joined = node("Concat", "one two one_more", "two_sides", name="join", axis=0)
    weights = {
        "start": np.array([2]), "end": np.array([4]), "one": np.array([1]), "one_more": np.array([4]),
        "many": normal(1, 6, 4, 3),
    }  # fmt: skip
    model = onnx_model(
        [LAYER, *sides, joined, shaped, node("MatMul", "r many", "y")],
        inputs={"image": ["n", 4, "h", "w"]},
        outputs={"y": None},
        weights={"w": normal(4, 4, 1, 1), **weights},
        opset=19,
    )
    graph = prepare_graph(model, input_shapes={"image": (1, 4, 6, 6)})
    assert [work.macs for work in graph.other_work] == [6 * 6 * 4 * 3]
