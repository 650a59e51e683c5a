"""Names that qsens makes never meet those of the graph: whatever its names are, its numbers are the same."""

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
import onnx
import pytest
from flavours import QDQ_FLAVOURS, lowered, run_plainly
from lowered_models import FP16, FP32, INT8, Prepared
from onnx import TensorProto, helper
from tiny_models import norm_node, norm_weights, normal, onnx_model

from qsens.calibration.measure import extremes_model
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.engines.lowering.plan import LoweringPlan, Placement
from qsens.graph.names import graph_names
from qsens.graph.prepare import prepare_graph

FLAVOURS = ("exact", *QDQ_FLAVOURS)
SIDES = [1, 3, 4, 4]
IMAGE = np.random.default_rng(3).random(SIDES, dtype=np.float32)
# Beyond it, exact sums are split; all weights alike reach their largest code everywhere.
WIDE = 32


def make(operator, inputs, output, name="", **attributes):
    return helper.make_node(operator, inputs.split(), [output], name or f"{output}.node", **attributes)


def core() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """A generator for which every flavour makes names of every kind, ending in the tensor `z`."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [make(operator, "r1", name)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        make("Conv", "image w1", "c1", "first", **pads),
        norm_node("c1", "n1"),
        make("Relu", "n1", "r1"),
        make("Conv", "r1 w2", "c2", "wide", pads=[3, 3, 3, 3]),
        make("If", "yes", "if", **branches),
        make("Add", "c2 if", "s2"),
        make("GroupNormalization", "s2 scales shifts", "g2", num_groups=2),
        make("ConvTranspose", "g2 w3 b3", "c3", "up", **pads),
        make("Gelu", "c3", "g3"),
        make("Conv", "g3 w4 b4", "c4", "last", **pads),
        make("Mish", "c4", "z"),
    ]
    weights = {
        "w1": normal(WIDE, 3, 3, 3),
        **norm_weights(WIDE),
        "w2": np.full((WIDE, WIDE, 7, 7), 1e-3, np.float32),
        "yes": np.array(True),
        "scales": np.linspace(0.5, 1, WIDE, dtype=np.float32),
        "shifts": np.linspace(-0.1, 0.1, WIDE, dtype=np.float32),
        "w3": normal(WIDE, 4, 3, 3, seed=3, scale=0.02),
        "b3": normal(4, seed=4),
        "w4": normal(3, 4, 3, 3, seed=5),
        "b4": normal(3, seed=6),
    }
    return nodes, weights


FACTOR = np.float32(1.001)


def generator(role: str, names: Iterable[str]) -> onnx.ModelProto:
    """The core, and behind it a product for each of `names`, which `role` of it bears."""
    nodes, weights = core()
    inputs: dict[str, list[int]] = {"image": SIDES}
    outputs: dict[str, list[int] | None] = {}
    inner: list[onnx.NodeProto] = []
    tensor = "z"
    for index, name in enumerate(names):
        is_factor = role in ("constant", "input")
        factor = name if is_factor else f"factor{index}"
        result = f"product{index}" if is_factor else name
        node = helper.make_node(
            "Mul", [tensor, factor], [result], name if role in ("result", "body") else f"multiply{index}"
        )
        (inner if role == "body" else nodes).append(node)
        if role == "input":
            inputs[factor] = []
        else:
            weights[factor] = FACTOR
        if role == "output":
            outputs[result] = SIDES
        tensor = result
    if role == "body":
        branches = [
            helper.make_graph(
                chain, "chain", [], [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)]
            )
            for chain, last in ((inner, tensor), ([make("Neg", "z", "less")], "less"))
        ]
        nodes.append(make("If", "yes", "chained", then_branch=branches[0], else_branch=branches[1]))
        tensor = "chained"
    nodes.append(make("Sigmoid", tensor, "picture"))
    return onnx_model(nodes, inputs=inputs, outputs={**outputs, "picture": SIDES}, weights=weights, opset=21)


def placed(model: onnx.ModelProto) -> Prepared:
    """With ranges that make all kinds of names: tensors are clipped, and come near FP16's limit."""
    graph = prepare_graph(model)
    plan = LoweringPlan.of(graph)
    names = plan.calibrated_tensors(Placement.DENSE)
    entries = tuple(TensorRange(name, -9e3, 9e3, np.float32(4)) for name in names)
    return Prepared(graph, plan, Ranges("minmax", 1, "test", entries))


def lowerings(setup: Prepared, flavour: str) -> list[onnx.ModelProto]:
    mixed = dict(zip(setup.names, (FP16, INT8, FP32, FP16), strict=True))
    return [
        lowered(setup, INT8, flavour, placement=Placement.DENSE).model,
        lowered(setup, mixed, flavour, placement=Placement.RESIDUAL).model,
    ]


@cache
def names_made() -> tuple[str, ...]:
    """Every name that is in a lowered graph and not in the generator, and what would follow it."""
    model = generator("none", ())
    setup = placed(model)
    observed = extremes_model(setup.graph, setup.plan.calibrated_tensors(Placement.DENSE))
    made = set(graph_names(setup.graph.model.graph)).union(graph_names(observed.graph))
    for flavour in FLAVOURS:
        made.update(*(graph_names(model.graph) for model in lowerings(setup, flavour)))
    new = sorted(made - graph_names(model.graph))
    return (*new, *(f"{name}@2" for name in new[::9]))


def pictures(setup: Prepared, flavour: str) -> list[np.ndarray]:
    feeds = {name: np.full((), FACTOR) for name, shape in setup.graph.example_shapes if not shape}
    feeds["image"] = IMAGE
    return [run_plainly(model, feeds)["picture"] for model in lowerings(setup, flavour)]


@cache
def plain_names() -> Prepared:
    return placed(generator("constant", [f"spare{index}" for index in range(len(names_made()))]))


@cache
def clashing_names(role: str) -> Prepared:
    return placed(generator(role, names_made()))


@cache
def expected_pictures(flavour: str) -> list[np.ndarray]:
    return pictures(plain_names(), flavour)


def test_the_generator_has_names_of_every_kind_made():
    parts = {name.replace("/", ":").split(":")[-1].rstrip("0123456789") for name in names_made()}
    exact = {"axis", "code_values", "codes", "fp", "half", "is_inf", "overflows", "scaled", "sum", "total"}
    others = {"float", "int", "scale", "weight", "wide", "wide_codes", "zero", "uint8_largest"}
    older = {"curve", "grouped_shape", "normal", "softplus"}
    assert parts >= exact | others | older | {"bias", "extremes", "output_scale", "Cast"}


@pytest.mark.parametrize("role", ["constant", "result", "input", "output", "body"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_name_that_is_made_meets_one_of_the_graph(flavour, role):
    actual = pictures(clashing_names(role), flavour)
    np.testing.assert_array_equal(actual, expected_pictures(flavour))


# Each pair led to one name, or to one place in what is remembered between maps.
PAIRS = [
    {"w1": "w", "w2": "w:axis0"},  # codes of both were `w:axis0:int8`
    {"w2": "w", "first": "w:int8"},  # codes of a weight, and the parts of a layer's
    {"c1": "image:int8", "w2": "image"},
    {"c1": "a", "r1": "a:wide", "picture": "a:wide:codes"},
]


def two_layers(renamed: Mapping[str, str]) -> onnx.ModelProto:
    def named(*names: str) -> list[str]:
        return [renamed.get(name, name) for name in names]

    operators = [
        ("Conv", ["picture_in", "w1"], "c1", "first"),
        ("Relu", ["c1"], "r1", "relu"),
        ("ConvTranspose", ["r1", "w2"], "picture", "second"),
    ]
    nodes = [
        helper.make_node(operator, named(*inputs), named(output), *named(name))
        for operator, inputs, output, name in operators
    ]
    return onnx_model(
        nodes,
        inputs={renamed.get("picture_in", "picture_in"): SIDES},
        outputs={renamed.get("picture", "picture"): None},
        weights={
            renamed.get("w1", "w1"): normal(4, 3, 1, 1),
            renamed.get("w2", "w2"): normal(4, 3, 1, 1, seed=1),
        },
    )


@pytest.mark.parametrize("renamed", PAIRS, ids=lambda renamed: " and ".join(renamed.values()))
def test_no_two_names_that_are_made_meet(renamed):
    results = []
    for names in ({}, renamed):
        setup = placed(two_layers(names))
        models = [lowered(setup, INT8, flavour, placement=Placement.DENSE).model for flavour in FLAVOURS]
        feeds = {setup.graph.inputs[0].name: IMAGE}
        results.append([next(iter(run_plainly(model, feeds).values())) for model in models])
    np.testing.assert_array_equal(*results)
