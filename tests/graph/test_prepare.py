import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_models import conv_model, normal, onnx_model, run_model

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import InputSpec
from qsens.graph.prepare import prepare_graph


def kinds(graph):
    return [node.op_type for node in graph.model.graph.node]


def conv_then(*nodes, outputs=("z",), weights=None, inputs=None):
    """A 1x1 convolution `x` to `y`, then the given nodes."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    return onnx_model(
        [conv, *nodes],
        inputs={"x": ["n", 3, 4, 4], **(inputs or {})},
        outputs=dict.fromkeys(outputs),
        weights={"w": normal(3, 3, 1, 1), **(weights or {})},
    )


def test_graph_describes_inputs_outputs_and_batch():
    graph = prepare_graph(conv_model())
    assert graph.inputs == (InputSpec("image", (3, 8, 8), "float32", is_batched=True),)
    assert graph.outputs == ("picture",)
    assert graph.example_shapes == (("image", (1, 3, 8, 8)),)
    assert graph.can_batch
    assert {value.name for value in graph.model.graph.value_info} == {"c1", "r1"}


def test_outputs_do_not_change():
    model = conv_model()
    values = {"image": normal(2, 3, 8, 8, seed=7)}
    np.testing.assert_array_equal(
        run_model(prepare_graph(model).model, values)[0], run_model(model, values)[0]
    )


def test_digest_follows_weights_and_nothing_else():
    first, again, other = conv_model(), conv_model(), conv_model()
    again.graph.node[0].doc_string = "a note"
    other.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(normal(4, 3, 3, 3, seed=99), other.graph.initializer[0].name)
    )
    assert prepare_graph(first).digest == prepare_graph(again).digest != prepare_graph(other).digest


def test_free_sides_need_a_size_and_the_hint_says_how():
    with pytest.raises(LoadError) as caught:
        prepare_graph(conv_model(side="h"))
    assert "batchx3x?x?" in caught.value.message
    assert "--input-shape image=1x3x96x96" in caught.value.hint


def test_given_shape_is_used_and_its_batch_is_one():
    graph = prepare_graph(conv_model(side="h"), input_shapes={"image": (4, 3, 6, 10)})
    assert graph.inputs[0].shape == (3, None, None)
    assert graph.layers[0].output_shape == (1, 4, 6, 10)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"picture": (1, 3, 8, 8)}, "no graph input named 'picture'"),
        ({"image": (1, 3, 8)}, "cannot be 1x3x8"),
        ({"image": (1, 4, 8, 8)}, "the graph says batchx3x8x8"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(SpecError, match=message):
        prepare_graph(conv_model(), input_shapes=shapes)


def test_old_operator_set_is_refused():
    model = conv_model()
    model.opset_import[0].version = 12
    with pytest.raises(LoadError, match="operator set 12") as caught:
        prepare_graph(model)
    assert "opset_version=17" in caught.value.hint


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("DynamicQuantizeLinear", ["y"], ["z", "s", "p"]),
        helper.make_node("QLinearConv", list("yspwspsp"), ["z"]),
        helper.make_node("MatMulNBits", ["y", "w"], ["z"], domain="com.microsoft"),
    ],
)
def test_quantized_graphs_are_recognised(node):
    with pytest.raises(LoadError, match=f"already quantized: it holds 1 {node.op_type}"):
        prepare_graph(conv_then(node))


def test_runtime_fused_graphs_are_recognised():
    node = helper.make_node("FusedConv", ["y", "w"], ["z"], domain="com.microsoft", name="f")
    with pytest.raises(LoadError, match="already optimised"):
        prepare_graph(conv_then(node))


def test_half_weights_are_refused():
    model = conv_model()
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(normal(4, 3, 3, 3).astype(np.float16), "w1")
    )
    with pytest.raises(LoadError, match="'first' are float16"):
        prepare_graph(model)


def test_damaged_weights_are_refused():
    model = conv_model()
    broken = normal(4, 3, 3, 3)
    broken[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(broken, "w1"))
    with pytest.raises(LoadError, match="'first' has weights that are NaN"):
        prepare_graph(model)


def test_random_numbers_inside_the_graph_are_refused():
    noise = helper.make_node("RandomNormalLike", ["y"], ["r"], name="noise")
    with pytest.raises(LoadError, match="'noise' draws random numbers"):
        prepare_graph(conv_then(noise, helper.make_node("Add", ["y", "r"], ["z"])))


def test_values_that_are_dropped_at_random_are_refused():
    dropout = helper.make_node("Dropout", ["y", "ratio", "trains"], ["z"], name="drop")
    weights = {"ratio": np.float32(0.5), "trains": np.array(True)}
    with pytest.raises(LoadError, match="'drop' drops values at random") as caught:
        prepare_graph(conv_then(dropout, weights=weights))
    assert "module.eval()" in caught.value.hint
    still = prepare_graph(conv_then(dropout, weights={**weights, "trains": np.array(False)}))
    assert kinds(still) == ["Conv"]


def test_an_output_that_is_listed_twice_is_one_output():
    model = conv_model()
    model.graph.output.append(model.graph.output[0])
    graph = prepare_graph(model)
    assert graph.outputs == ("picture",)
    assert [value.name for value in graph.model.graph.output] == ["picture"]


def test_random_numbers_inside_a_body_are_refused():
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["y"], [name], name=f"{name}/node")],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "RandomNormalLike"), ("else", "Neg"))
    }
    model = conv_then(helper.make_node("If", ["yes"], ["z"], **branches), weights={"yes": np.array(True)})
    with pytest.raises(LoadError, match="'then/node' draws random numbers"):
        prepare_graph(model)


def test_no_layer_is_refused_with_what_there_is():
    model = onnx_model(
        [helper.make_node("Relu", ["x"], ["z"])], inputs={"x": ["n", 3, 4, 4]}, outputs={"z": None}
    )
    with pytest.raises(LoadError, match="no layer to quantize") as caught:
        prepare_graph(model)
    assert "Relu" in caught.value.hint


def test_empty_model_is_refused():
    with pytest.raises(LoadError, match="no nodes"):
        prepare_graph(onnx.ModelProto())


def test_missing_tensor_is_refused():
    with pytest.raises(LoadError, match="'nothing', which nothing makes"):
        prepare_graph(conv_then(helper.make_node("Add", ["y", "nothing"], ["z"])))


def test_computed_weights_are_listed_and_are_no_layer():
    style = helper.make_node("Mul", ["w", "style"], ["m"])
    modulated = helper.make_node("Conv", ["y", "m"], ["z"], name="modulated")
    graph = prepare_graph(conv_then(style, modulated, inputs={"style": [3, 1, 1, 1]}))
    assert graph.dynamic_weight_nodes == ("modulated",)
    assert [layer.name for layer in graph.layers] == ["conv"]


def test_invalid_nodes_are_refused_in_the_words_of_the_checker():
    with pytest.raises(LoadError, match=r"'two' is not valid ONNX: .*Relu"):
        prepare_graph(conv_then(helper.make_node("Relu", ["y", "x"], ["z"], name="two")))


def test_copies_and_dead_nodes_disappear():
    nodes = [
        helper.make_node("Identity", ["y"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Sigmoid", ["b"], ["unused"]),
        helper.make_node("Identity", ["c"], ["z"]),
    ]
    graph = prepare_graph(conv_then(*nodes))
    assert kinds(graph) == ["Conv", "Relu"]
    assert graph.outputs == ("z",)


def test_an_input_copied_to_an_output_stays():
    graph = prepare_graph(conv_then(helper.make_node("Identity", ["x"], ["copy"]), outputs=("y", "copy")))
    assert kinds(graph) == ["Conv", "Identity"]


def test_weights_computed_from_constants_are_layers():
    nodes = [
        helper.make_node("Constant", [], ["g"], value_float=2.0),
        helper.make_node("Mul", ["w", "g"], ["scaled"]),
        helper.make_node("Conv", ["y", "scaled"], ["z"], name="second"),
    ]
    graph = prepare_graph(conv_then(*nodes))
    assert kinds(graph) == ["Conv", "Conv"]
    assert len(graph.layers) == 2


def test_bias_zeros_made_up_by_the_exporter_disappear():
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
        helper.make_node("Conv", ["y", "w", "zeros"], ["z"], name="second"),
    ]
    graph = prepare_graph(conv_then(*nodes, weights={"count": np.array([3], np.int64)}))
    assert [len(node.input) for node in graph.model.graph.node] == [2, 2]
    assert graph.layers[1].parameters == 9


def test_large_expanded_constants_are_not_folded():
    nodes = [
        helper.make_node("Expand", ["one", "shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["y", "sum"], ["z"]),
    ]
    weights = {"one": np.ones(1, np.float32), "shape": np.array([2000, 2000], np.int64)}
    graph = prepare_graph(conv_then(*nodes, weights=weights))
    assert "Expand" in kinds(graph)


def test_functions_are_inlined():
    body = [
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "k"], ["b"], name="inner"),
    ]
    function = helper.make_function("local", "Block", ["a", "k"], ["b"], body, [helper.make_opsetid("", 17)])
    model = conv_then(helper.make_node("Block", ["y", "w"], ["z"], domain="local"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    graph = prepare_graph(model)
    assert kinds(graph) == ["Conv", "Relu", "Conv"]
    assert not graph.model.functions


def test_nodes_are_sorted_and_named():
    model = conv_then(
        helper.make_node("Relu", ["y"], ["z"]), helper.make_node("Relu", ["y"], ["q"]), outputs="zq"
    )
    nodes = [model.graph.node[2], model.graph.node[1], model.graph.node[0]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph = prepare_graph(model)
    assert [node.name for node in graph.model.graph.node] == ["conv", "Relu_0", "Relu_1"]


def test_a_subgraph_keeps_the_tensors_it_captures():
    branch = helper.make_graph(
        [helper.make_node("Add", ["copied", "copied"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["copied"], ["negated"])],
        "else",
        [],
        [helper.make_tensor_value_info("negated", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Identity", ["y"], ["copied"]),
        helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["condition"]),
        helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=other),
    ]
    graph = prepare_graph(conv_then(*nodes, weights={"zero": np.zeros((), np.float32)}))
    assert "If" in kinds(graph)


def test_initializers_that_are_also_inputs_are_no_inputs():
    model = conv_model()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert [spec.name for spec in prepare_graph(model).inputs] == ["image"]


def test_gemm_factors_are_baked_into_the_weights():
    gemm = helper.make_node("Gemm", ["v", "k", "c"], ["z"], name="fc", alpha=0.5, beta=3.0, transB=1)
    model = onnx_model(
        [gemm],
        inputs={"v": ["n", 4]},
        outputs={"z": None},
        weights={"k": normal(5, 4), "c": normal(5, seed=1)},
    )
    graph = prepare_graph(model)
    assert {attribute.name for attribute in graph.model.graph.node[0].attribute} == {"transB"}
    values = {"v": normal(2, 4, seed=3)}
    np.testing.assert_allclose(run_model(graph.model, values)[0], run_model(model, values)[0], rtol=1e-5)


class TestBatch:
    def test_a_fixed_batch_of_one_cannot_batch(self):
        graph = prepare_graph(conv_model(batch=1))
        assert not graph.can_batch
        assert graph.inputs[0].is_batched

    def test_a_reshape_to_one_sample_cannot_batch(self):
        reshape = helper.make_node("Reshape", ["y", "shape"], ["z"])
        graph = prepare_graph(conv_then(reshape, weights={"shape": np.array([1, 3, 16], np.int64)}))
        assert not graph.can_batch

    def test_mixing_samples_cannot_batch(self):
        nodes = [
            helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["y", "mean"], ["z"]),
        ]
        assert not prepare_graph(conv_then(*nodes)).can_batch

    def test_an_output_without_a_batch_axis_cannot_batch(self):
        node = helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0)
        assert not prepare_graph(conv_then(node, outputs=("y", "mean"))).can_batch

    def test_an_input_without_a_batch_axis_is_shared_by_the_batch(self):
        node = helper.make_node("Mul", ["y", "gain"], ["z"])
        graph = prepare_graph(conv_then(node, inputs={"gain": [4]}))
        assert graph.can_batch
        assert [spec.is_batched for spec in graph.inputs] == [True, False]
        assert graph.inputs[1].shape == (4,)

    def test_a_batch_fixed_above_one_is_refused(self):
        with pytest.raises(LoadError, match="fixes its batch at 4"):
            prepare_graph(conv_model(batch=4))


def test_sizes_that_the_generator_cannot_take_are_one_clear_error():
    pool = helper.make_node("Conv", ["y", "k"], ["z"], name="wide")
    model = conv_then(pool, weights={"k": normal(3, 3, 3, 3)})
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_param = "side"
    with pytest.raises(LoadError):
        prepare_graph(model, input_shapes={"x": (1, 3, 2, 2)})
