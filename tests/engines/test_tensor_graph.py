"""Digests of tensors and graphs, and where a graph begins when some tensors are known."""

from dataclasses import replace

import numpy as np
import onnx
from lowered_models import FP16, FP32, INT8, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.lowered_graph import DetachedModel, Flavour
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.lowering.tensor_graph import TensorGraph, can_be_cut, graph_identity

LAYERS = ("first", "middle", "inner", "up", "last")


def graph_of(network, *precisions, placement=Placement.RESIDUAL):
    return TensorGraph.of(network.lower(dict(zip(LAYERS, precisions, strict=True)), placement=placement))


def frontier_after(before, later):
    return later.frontier({before.digests[name] for name in before.producers})


def test_maps_share_what_lies_in_front_of_the_first_layer_that_differs():
    network = prepared(residual_generator())
    one = graph_of(network, INT8, INT8, FP16, FP16, FP16)
    other = graph_of(network, INT8, INT8, FP16, INT8, FP16)
    assert one.digests["r2"] == other.digests["r2"]
    assert one.digests["picture"] != other.digests["picture"]
    assert one.digests["c3"] != other.digests["c3"]


def test_layers_with_equal_shapes_and_other_weights_differ():
    network = prepared(residual_generator())
    graph = graph_of(network, FP32, FP32, FP32, FP32, FP32)
    assert len(set(graph.digests.values())) == len(graph.digests)


def test_names_do_not_matter():
    def conv(prefix):
        return onnx_model(
            [helper.make_node("Conv", [f"{prefix}x", f"{prefix}w"], [f"{prefix}y"], name=f"{prefix}n")],
            inputs={f"{prefix}x": ["n", 3, 4, 4]},
            outputs={f"{prefix}y": None},
            weights={f"{prefix}w": normal(2, 3, 1, 1)},
        )

    graphs = [TensorGraph.of(prepared(conv(prefix)).lower(FP32)) for prefix in ("a", "a", "b")]
    same, again, other = [graph.digests[graph.outputs[0]] for graph in graphs]
    assert same == again
    assert same != other  # inputs are told apart by name: they are fed by name
    inner = [graph.nodes[0].operator for graph in graphs]
    assert inner == ["Conv"] * 3


def test_the_frontier_is_what_crosses_the_cut_in_its_narrowest_form():
    network = prepared(residual_generator())
    before = graph_of(network, FP16, FP16, FP16, FP16, FP16)
    at_up = graph_of(network, FP16, FP16, FP16, INT8, FP16)
    found = frontier_after(before, at_up)
    # `up` now reads codes of r2, whose values came from FP16.
    assert found.tensors == ("r2:half",)
    macs = {layer.name: layer.macs for layer in network.graph.layers}
    assert found.macs == macs["up"] + macs["last"]


def test_a_skip_crosses_the_cut_too():
    network = prepared(residual_generator())
    before = graph_of(network, FP32, FP32, FP32, FP32, FP32)
    found = frontier_after(before, graph_of(network, FP32, FP32, INT8, FP32, FP32))
    assert set(found.tensors) == {"r1", "r0"}


def test_nothing_is_left_of_a_map_that_is_known():
    network = prepared(residual_generator())
    graph = graph_of(network, INT8, FP16, INT8, FP16, INT8)
    found = frontier_after(graph, graph)
    assert found.nodes == ()
    assert found.macs == 0
    assert graph.frontier(()).macs == graph.macs == sum(layer.macs for layer in network.graph.layers)


def test_equal_engine_graphs_are_one_identity_and_others_are_not():
    network = prepared(residual_generator())

    def identity(flavour, precision):
        asked = dict.fromkeys(LAYERS, INT8) | {"up": precision}
        lowered = lower_graph(
            network.plan, PrecisionMap.over(asked), network.ranges, LoweringOptions(), flavour
        )
        return graph_identity(lowered)

    # u8 has no FP16: both run in FP32.
    assert identity(Flavour.U8, FP16) == identity(Flavour.U8, FP32)
    assert identity(Flavour.U8, FP16) != identity(Flavour.U8, INT8)
    exact = {identity(Flavour.EXACT, precision) for precision in (FP32, FP16, INT8)}
    assert len(exact) == 3
    assert identity(Flavour.EXACT, FP16) == identity(Flavour.EXACT, FP16)
    assert identity(Flavour.EXACT, FP16) != identity(Flavour.U8, FP16)


def test_a_changed_constant_changes_the_identity():
    identities = set()
    for amax in (4.0, 5.0):
        identities.add(graph_identity(prepared(residual_generator(), amax=amax).lower(INT8)))
    assert len(identities) == 2


def test_foreign_operators_are_not_cut():
    lowered = prepared(residual_generator()).lower(FP32)
    assert can_be_cut(lowered)
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(lowered.detached.skeleton)
    skeleton.graph.node[0].domain = "com.microsoft"
    foreign = replace(lowered, detached=DetachedModel(skeleton, lowered.detached.weights))
    assert not can_be_cut(foreign)


def test_an_output_that_is_an_input_is_not_cut():
    lowered = prepared(residual_generator()).lower(FP32)
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(lowered.detached.skeleton)
    skeleton.graph.output.append(skeleton.graph.input[0])
    assert not can_be_cut(replace(lowered, detached=DetachedModel(skeleton)))


def test_large_weights_count_by_name_and_small_ones_by_content():
    def digests(channels, seed):
        model = onnx_model(
            [helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm")],
            inputs={"x": ["n", channels]},
            outputs={"y": ["n", channels]},
            weights={"w": normal(channels, channels, seed=seed)},
        )
        graph = TensorGraph.of(prepared(model).lower(FP32))
        return graph.digests[graph.outputs[0]]

    assert digests(40, 1) != digests(40, 2)
    # One plan has one weight of a name; hashing hundreds of megabytes for every map would cost more.
    assert digests(600, 1) == digests(600, 2)
    assert np.float32().nbytes * 600**2 > 2**20
