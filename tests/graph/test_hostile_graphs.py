"""Graphs that were made to hang, to fill the memory or to end in a traceback are refused in words."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import conv_model, norm_node

from qsens.core.errors import LoadError
from qsens.graph import limits
from qsens.graph.editable_graph import Draft
from qsens.graph.prepare import prepare_graph
from qsens.graph.shapes import graph_inputs

ONE = np.ones(1, np.float32)


def opened(model):
    graph_inputs(model)
    return prepare_graph(model)


def refused(model, message):
    with pytest.raises(LoadError) as raised:
        opened(model)
    assert message in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.hint


def also(nodes, **weights):
    """The small generator with the sum of the tensor `extra` added to its picture."""
    model = conv_model()
    graph = model.graph
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    )
    graph.node.append(helper.make_node("ReduceSum", ["extra"], ["sum"], keepdims=0))
    graph.node.append(helper.make_node("Add", [graph.output[0].name, "sum"], ["final"]))
    graph.output[0].name = "final"
    return model


def with_input_side(side):
    model = conv_model()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = side
    return model


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (-5, "input 'image' is ?x3x-5x8 in the graph"),
        (0, "input 'image' is ?x3x0x8 in the graph"),
        (2**24, "input 'image' is 1x3x16777216x8: 402,653,184 values a sample"),
        (2**60, "values a sample"),
    ],
)
def test_input_sides_that_no_picture_has(side, message):
    refused(with_input_side(side), message)


def test_a_given_shape_may_be_no_larger_than_one_in_the_graph():
    model = conv_model(side="any")
    with pytest.raises(LoadError, match="values a sample"):
        prepare_graph(model, input_shapes={"image": (1, 3, 100_000, 100_000)})


def test_sparse_weights_are_named():
    model = conv_model()
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "w2"]
    places = numpy_helper.from_array(np.arange(12), "w2:places")
    dense = numpy_helper.from_array(numpy_helper.to_array(weights).ravel(), "w2")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(dense, places, [3, 4, 1, 1]))
    model.graph.initializer.remove(weights)
    refused(model, "the graph holds the weights 'w2' in sparse form")


@pytest.mark.parametrize("dims", [[-4, 3, 3, 3], [2**60, 3, 3, 3], [2**32, 2**32], [1] * 100, [5, 3, 3, 3]])
def test_weights_whose_shape_does_not_suit_their_data(dims):
    model = conv_model()
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(432))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["extra"], value=tensor))
    refused(model, "constant 'extra' cannot be read")


def test_a_constant_that_makes_nothing():
    model = conv_model()
    model.graph.node.insert(0, helper.make_node("Constant", [], [], value_int=1))
    refused(model, "is not valid ONNX")


@pytest.mark.parametrize("field", ["operator set", "format version"])
@pytest.mark.parametrize("version", [2**31, 2**62])
def test_versions_that_no_file_has(field, version):
    model = conv_model()
    if field == "operator set":
        model.opset_import[0].version = version
    else:
        model.ir_version = version
    refused(model, f"the graph states {field} {version}")


def test_a_tensor_that_two_nodes_make():
    model = conv_model()
    twin = model.graph.node.add()
    twin.CopyFrom(model.graph.node[0])
    refused(model, f"makes tensor {twin.output[0]!r}, which is there already")


def test_an_output_that_is_text():
    texts = numpy_helper.from_array(np.array(["a"], object), "texts")
    model = conv_model()
    model.graph.initializer.append(texts)
    model.graph.node.append(helper.make_node("Identity", ["texts"], ["copy"]))
    model.graph.output.append(helper.make_tensor_value_info("copy", TensorProto.STRING, [1]))
    refused(model, "output 'copy' is tensor(string), not a tensor of numbers")


def function(name, nodes):
    return helper.make_function(
        "own", name, ["a"], ["z"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )


def call(name, source="a", target="z"):
    return helper.make_node(name, [source], [target], domain="own")


def branch(nodes, output):
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(output, 1, None)])


SELF_IN_BRANCH = helper.make_node(
    "If",
    ["t"],
    ["z"],
    then_branch=branch([call("f0", "a", "q")], "q"),
    else_branch=branch([call("f0", "a", "r")], "r"),
)
TRUE = helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(np.bool_(True)))
LEAF = [helper.make_node("Identity", ["a"], ["z"])]
FUNCTIONS = {
    "itself": ([("f0", [call("f0")])], "the local function 'f0' calls itself"),
    "each other": ([("f0", [call("f1")]), ("f1", [call("f0")])], "calls itself"),
    "itself in a branch": ([("f0", [TRUE, SELF_IN_BRANCH])], "the local function 'f0' calls itself"),
    "twice the next": (
        [(f"f{k}", [call(f"f{k + 1}", "a", "b"), call(f"f{k + 1}", "b")]) for k in range(30)]
        + [("f30", LEAF)],
        "expand to 1,073,741,829 nodes",
    ),
    "ever deeper": ([(f"f{k}", [call(f"f{k + 1}")]) for k in range(3000)] + [("f3000", LEAF)], "64 deep"),
    "one name twice": ([("f0", LEAF), ("f0", LEAF)], "local functions cannot be expanded"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_call(name):
    functions, message = FUNCTIONS[name]
    model = also([call("f0", "one", "extra")], one=ONE)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend(function(*entry) for entry in functions)
    with pytest.raises(LoadError, match=message):
        prepare_graph(model)


def test_plain_functions_are_expanded():
    model = also([call("f0", "one", "extra")], one=ONE)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend([function("f0", [call("f1")]), function("f1", LEAF)])
    assert len(prepare_graph(model).layers) == 2


HUGE = {
    "ConstantOfShape": ([("ConstantOfShape", ["size"])], {"size": np.array([2**40])}),
    "Range": (
        [("Range", ["zero", "end", "step"])],
        {"zero": np.float32(0), "end": np.float32(1e15), "step": np.float32(1)},
    ),
    "Expand": ([("Expand", ["one", "sides"])], {"one": ONE, "sides": np.array([2**20, 2**20])}),
    "Tile": ([("Tile", ["one", "times"])], {"one": ONE, "times": np.array([2**31])}),
    "Pad": ([("Pad", ["one", "ends"])], {"one": ONE, "ends": np.array([2**40, 0])}),
    "OneHot": (
        [("OneHot", ["at", "depth", "values"])],
        {"at": np.array([1]), "depth": np.int64(2**40), "values": np.float32([0, 1])},
    ),
}


@pytest.mark.parametrize("operator", HUGE)
def test_tensors_of_terabytes_are_never_made(operator):
    nodes, weights = HUGE[operator]
    model = also([helper.make_node(kind, inputs, ["extra"]) for kind, inputs in nodes], **weights)
    with pytest.raises(LoadError, match=r"needs more than [0-9.]+ GiB for image 1x3x8x8|cannot run on image"):
        prepare_graph(model)


def test_a_size_that_only_a_run_tells_is_bounded_too():
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "factor"], ["end"]),
        helper.make_node("Range", ["zero", "end", "step"], ["extra"]),
    ]
    model = also(nodes, factor=np.float32(1e12), zero=np.float32(0), step=np.float32(1))
    refused(model, "GiB for image 1x3x8x8")


COSTLY = {
    "MaxPool": (
        helper.make_node("MaxPool", ["x"], ["extra"], kernel_shape=[20001] * 2, pads=[10000] * 4),
        np.ones((1, 1, 64, 64), np.float32),
    ),
    "Einsum": (
        helper.make_node("Einsum", ["x"] * 6, ["extra"], equation="a,b,c,d,e,f->"),
        np.ones(64, np.float32),
    ),
}


@pytest.mark.parametrize("operator", COSTLY)
def test_constants_that_take_long_to_compute_stay_nodes(operator):
    node, value = COSTLY[operator]
    prepared = prepare_graph(also([node], x=value))
    assert operator in [node.op_type for node in prepared.model.graph.node]


def test_a_pattern_on_constant_text_stays_a_node():
    node = helper.make_node("RegexFullMatch", ["x"], ["fits"], pattern="(a+)+")
    model = also([node, helper.make_node("Cast", ["fits"], ["extra"], to=TensorProto.FLOAT)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a" * 64 + "!"], object), "x"))
    model.opset_import[0].version = 20
    assert "RegexFullMatch" in [node.op_type for node in prepare_graph(model).model.graph.node]


@pytest.mark.parametrize("trips", [None, 2**62])
def test_a_loop_without_end_is_given_up(trips, monkeypatch):
    monkeypatch.setattr(limits, "LONGEST_SAMPLE_S", 0.2)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "one"], ["w"])],
        "body",
        [helper.make_tensor_value_info(*entry) for entry in (("i", 7, []), ("go", 9, []), ("v", 1, [1]))],
        [helper.make_tensor_value_info(*entry) for entry in (("on", 9, []), ("w", 1, [1]))],
    )
    loop = helper.make_node("Loop", ["" if trips is None else "trips", "true", "one"], ["extra"], body=body)
    model = also([loop], trips=np.int64(trips or 0), true=np.bool_(True), one=ONE)
    refused(model, "did not finish image 1x3x8x8 within 0.2 s")


def chain(length, names):
    sources = ["one", *(f"t{k}" for k in range(length - 1))]
    targets = [*sources[1:], "extra"]
    return [
        helper.make_node("Abs", [a], [b], names(k))
        for k, (a, b) in enumerate(zip(sources, targets, strict=True))
    ]


# Both took long where each node looked at all others.
def test_many_nodes_in_reverse_order_are_put_in_order():
    draft = Draft.take_apart(also(chain(6_000, str)[::-1], one=ONE))
    draft.sort_nodes()
    made = [node.output[0] for node in draft.nodes if node.op_type == "Abs"]
    assert made == [*(f"t{k}" for k in range(5_999)), "extra"]


def test_many_nodes_of_one_name_get_names_of_their_own():
    draft = Draft.take_apart(also(chain(6_000, lambda _: "same"), one=ONE))
    draft.name_nodes()
    names = [node.name for node in draft.nodes if node.op_type == "Abs"]
    assert names == ["same", *(f"same@{count}" for count in range(2, 6_001))]


def test_nodes_out_of_order_keep_the_order_of_passes():
    """The order decides the digest of a graph, so that runs of before must find the same."""
    model = also(
        [helper.make_node("Abs", [a], [b]) for a, b in (("p", "q"), ("one", "p"), ("q", "extra"))], one=ONE
    )
    model.graph.node.insert(0, helper.make_node("Abs", ["image"], ["unused"]))
    draft = Draft.take_apart(model)
    draft.sort_nodes()
    made = [node.output[0] for node in draft.nodes]
    assert made == ["unused", "c1", "r1", "picture", "p", "q", "extra", "sum", "final"]


def changed(change):
    model = conv_model()
    change(model.graph)
    return model


def name_of_another_set(graph):
    graph.node[0].domain = "own"


def attribute_of_a_function(graph):
    graph.node[0].attribute[0].ref_attr_name = "pads"


def subgraph_as_a_number(graph):
    graph.node[0].attribute.append(helper.make_attribute("group", branch([], "image")))


def input_without_a_type(graph):
    graph.input[0].type.tensor_type.elem_type = 0


def branch_of_an_unknown_type(graph):
    sides = [branch([helper.make_node("Neg", ["picture"], [name])], name) for name in "ab"]
    sides[0].output[0].type.tensor_type.elem_type = 99
    choice = dict(zip(("then_branch", "else_branch"), sides, strict=True))
    graph.initializer.append(numpy_helper.from_array(np.bool_(True), "t"))
    graph.node.append(helper.make_node("If", ["t"], ["final"], **choice))
    graph.output[0].name = "final"


def norm_of_other_channels(graph):
    graph.node.append(norm_node("picture", "final"))
    graph.initializer.extend(
        numpy_helper.from_array(np.ones(7, np.float32), name) for name in graph.node[-1].input[1:]
    )
    graph.output[0].name = "final"


def text_that_is_none(graph):
    graph.initializer.append(
        TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff"])
    )
    graph.node.append(helper.make_node("Cast", ["text"], ["final"], to=TensorProto.FLOAT))
    graph.output[0].name = "final"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (name_of_another_set, "node 'first' is a Conv of the operator set 'own', not of ONNX"),
        (attribute_of_a_function, "takes an attribute from a function, but is in none"),
        (subgraph_as_a_number, "node 'first' is not valid ONNX"),
        (input_without_a_type, "input 'image' has the unknown type 0"),
        (branch_of_an_unknown_type, "shapes contradict each other"),
        (norm_of_other_channels, "ONNX Runtime cannot load the graph"),
        (text_that_is_none, ""),
    ],
)
def test_structures_that_no_exporter_writes(change, message, capfd):
    refused(changed(change), message)
    assert capfd.readouterr().out == ""
