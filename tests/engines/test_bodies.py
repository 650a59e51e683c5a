"""If, Loop and Scan: what their bodies read from around them is read, and their results are tensors."""

import numpy as np
import pytest
from flavours import QDQ_FLAVOURS, lowered, run_plainly
from lowered_models import FP16, FP32, INT8, prepared
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model, run_model

from qsens.device.onnx_nodes import read_onnx_graph
from qsens.engines.lowering.plan import Placement
from qsens.engines.lowering.qdq import without_tail_clips
from qsens.engines.lowering.tensor_graph import TensorGraph

IMAGE = {"image": np.random.default_rng(3).random((1, 3, 8, 8), dtype=np.float32)}


def value(name, kind=TensorProto.FLOAT, sides=None):
    return helper.make_tensor_value_info(name, kind, sides)


def make(operator, inputs, output, name="", **attributes):
    return helper.make_node(operator, inputs.split(), [output], name or output, **attributes)


def choice(output, then, otherwise, condition="yes"):
    """An If; its branches are nodes of one output each."""
    branches = [
        helper.make_graph(nodes, name, [], [value(nodes[-1].output[0])])
        for name, nodes in (("then", then), ("otherwise", otherwise))
    ]
    return make("If", condition, output, then_branch=branches[0], else_branch=branches[1])


def repeated(source, output, nodes, state="state"):
    """A Loop of three rounds over nodes that turn `state` into the last one's output."""
    body = helper.make_graph(
        [make("Identity", "go", "goes"), *nodes],
        "body",
        [value("round", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value(state)],
        [value("goes", TensorProto.BOOL, []), value(nodes[-1].output[0])],
    )
    return make("Loop", f"times yes {source}", output, body=body)


def scanned(source, output):
    """A Scan over the rows of a plane that reads `step` from around it."""
    body = helper.make_graph([make("Mul", "row step", "moved")], "body", [value("row")], [value("moved")])
    return make("Scan", source, output, body=body, num_scan_inputs=1)


def passed(name, source):
    return [make("Identity", source, name)]


MIDDLES = {
    "constant in a Loop": [
        repeated("c1", "z", [make("Mul", "state step", "d"), make("Add", "state d", "y")])
    ],
    "constant in a Scan": [scanned("c1", "z")],
    "weight of a layer": [
        choice("z", [make("Conv", "c1 w3", "y", pads=[1, 1, 1, 1])], passed("n", "c1")),
    ],
    "only reader of a layer": [choice("z", [make("Tanh", "c1", "y")], passed("n", "c1"))],
    "one of two readers": [
        make("Relu", "c1", "r1"),
        choice("y", [make("Neg", "c1", "m")], passed("n", "c1")),
        make("Add", "r1 y", "z"),
    ],
    "body in a body": [
        repeated(
            "c1",
            "z",
            [
                choice("moved", [make("Mul", "state gains", "m")], passed("n", "c1")),
                make("Add", "moved step", "y"),
            ],
        )
    ],
}


def generator(middle, opset=17):
    nodes = [
        make("Conv", "image w1", "c1", "first", pads=[1, 1, 1, 1]),
        *MIDDLES[middle],
        make("Conv", "z w3", "c3", "middle", pads=[1, 1, 1, 1]),
        make("Relu", "c3", "r3"),
        make("Conv", "r3 w2", "c2", "last", pads=[1, 1, 1, 1]),
        make("Sigmoid", "c2", "picture"),
    ]
    weights = {
        "w1": normal(16, 3, 3, 3),
        "w2": normal(3, 16, 3, 3, seed=1),
        "w3": normal(16, 16, 3, 3, seed=2, scale=0.1),
        "gains": np.linspace(0.5, 1.5, 16 * 64, dtype=np.float32).reshape(16, 8, 8),
        "step": np.float32(0.1),
        "times": np.int64(3),
        "yes": np.array(True),
    }
    sides = [1, 3, 8, 8]
    return onnx_model(
        nodes, inputs={"image": sides}, outputs={"picture": sides}, weights=weights, opset=opset
    )


def signal_to_noise(expected, actual):
    return 10 * np.log10(np.mean(np.square(expected)) / (np.mean(np.square(expected - actual)) + 1e-30))


@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize("flavour", ["exact", *QDQ_FLAVOURS])
def test_bodies_read_what_is_around_them(flavour, middle):
    model = generator(middle)
    expected = run_model(model, IMAGE)[0]
    setup = prepared(model)
    assert "z" in setup.plan.calibrated_tensors(Placement.INPUTS)
    for precisions in (FP32, FP16, INT8):
        built = lowered(setup, precisions, flavour, placement=Placement.DENSE)
        actual = run_plainly(without_tail_clips(built).model, IMAGE)["picture"]
        assert signal_to_noise(expected, actual) > (25 if precisions is INT8 else 55)


def test_bodies_of_a_newer_operator_set_are_lowered():
    model = generator("body in a body", opset=21)
    for flavour in ("strong", "weak"):
        actual = run_plainly(lowered(prepared(model), FP16, flavour).model, IMAGE)["picture"]
        assert signal_to_noise(run_model(model, IMAGE)[0], actual) > 55


def test_a_tensor_that_a_body_reads_is_not_fused_away():
    plan = prepared(generator("one of two readers")).plan
    assert plan.operations["first"].result == "c1"
    assert plan.sources["z"] == {"first"}


def test_results_of_a_body_differ_where_what_it_reads_differs():
    setup = prepared(generator("only reader of a layer"), amaxes={"image": 1.0})
    maps = [{"first": precision, "middle": FP32, "last": FP32} for precision in (FP32, INT8)]
    digests = [TensorGraph.of(lowered(setup, chosen, "exact")).digests["z"] for chosen in maps]
    assert digests[0] != digests[1]


def test_a_device_sees_what_bodies_read():
    graph = read_onnx_graph(generator("body in a body").SerializeToString())
    loop = next(node for node in graph.nodes if node.operator == "Loop")
    assert set(loop.captured) == {"gains", "c1", "step", "yes"}
    one_of_two = read_onnx_graph(generator("one of two readers").SerializeToString())
    assert one_of_two.names_behind(one_of_two.nodes[0]) == ()
