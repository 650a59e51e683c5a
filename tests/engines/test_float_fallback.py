"""Layers without an INT8 kernel go back to float, in rounds, and never silently."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest

from qsens.core.errors import BuildError, VerificationError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.targets import target_named
from qsens.deploy.golden_samples import golden_samples
from qsens.device.audit import ExecutedLayer
from qsens.engines import float_fallback
from qsens.engines.float_fallback import MODEL, WEIGHTS_FILE, Drafting, agreed_graph, write_model
from qsens.engines.lowering.plan import LoweringPlan
from qsens.graph.graph import Graph

INT8 = PrecisionMap(Precision.INT8)
NODES = ("first", "middle", "inner", "up", "last")


@dataclass
class Engine:
    """Runs INT8 where the graph quantizes a node's weights, except the nodes in `refused`."""

    quantized: set
    refused: dict
    runtime: str = "pretended"
    version: str = "1"
    size_bytes: int = 10

    def run(self, feeds):
        return {}

    def executed_layers(self):
        return tuple(
            ExecutedLayer(
                node, (node,), self.refused.get(node, "int8" if node in self.quantized else "fp32"), ""
            )
            for node in NODES
        )

    def close(self):
        pass


@pytest.fixture
def drafting(reopened, tmp_path):
    return Drafting(
        reopened,
        target_named("onnxruntime").target,
        tmp_path,
        1,
        golden_samples(reopened, 2).inputs,
        "picture",
    )


@pytest.fixture
def pretend(monkeypatch):
    """Engines that refuse nodes, one dictionary a round; returns the sets of nodes that were quantized."""
    built = []

    def pretend(*rounds):
        def open_engine(bundle):
            graph = onnx.load(bundle.model_path).graph
            makers = {name: node.op_type for node in graph.node for name in node.output}
            weighted = [node for node in graph.node if node.name in NODES]
            built.append({node.name for node in weighted if makers.get(node.input[1]) == "DequantizeLinear"})
            return Engine(built[-1], rounds[min(len(built), len(rounds)) - 1])

        monkeypatch.setattr(float_fallback, "open_engine", open_engine)
        return built

    return pretend


@pytest.mark.parametrize("crashes", [False, True])
def test_a_graph_that_may_crash_is_tried_apart_before_it_is_built_here(
    crashes, drafting, pretend, monkeypatch
):
    def refuse_crash(bundle, feed):
        assert set(feed) == {entry.name for entry in bundle.inputs}
        raise BuildError("acme crashed", "")

    built = pretend({})
    monkeypatch.setattr(float_fallback, "may_crash", lambda _: crashes)
    monkeypatch.setattr(float_fallback, "refuse_crash", refuse_crash)
    if crashes:
        with pytest.raises(BuildError, match="acme crashed"):
            agreed_graph(drafting, INT8, builds=True)
    else:
        agreed_graph(drafting, INT8, builds=True)
    assert len(built) == (0 if crashes else 1)


def test_an_engine_that_agrees_takes_the_map_as_it_is(drafting, pretend):
    built = pretend({})
    agreed = agreed_graph(drafting, INT8, builds=True)
    assert agreed.deployed == INT8
    assert agreed.returned == ()
    assert built == [set(NODES)]
    assert {row.actual for row in agreed.engine.audit} == {"int8"}


def test_refused_layers_go_back_and_what_that_uncovers_too(drafting, pretend):
    built = pretend({"up": "fp32"}, {"up": "fp32", "inner": "fp32"})
    agreed = agreed_graph(drafting, INT8, builds=True)
    assert built == [set(NODES), set(NODES) - {"up"}, set(NODES) - {"up", "inner"}]
    assert [entry.layer for entry in agreed.returned] == ["inner", "up"]
    assert "no INT8 kernel for this ConvTranspose here: it ran in fp32" in agreed.returned[1].reason
    assert "no INT8 kernel for this Conv with the Add and Relu behind it: it ran" in agreed.returned[0].reason
    assert agreed.deployed.assignment(NODES)["up"] is Precision.FP16
    audit = {row.layer: row for row in agreed.engine.audit}
    assert (audit["up"].requested, audit["up"].expected, audit["up"].actual) == ("int8", "fp32", "fp32")
    assert (audit["last"].requested, audit["last"].expected) == ("int8", "int8")


def test_strict_refuses_and_names_the_layers(drafting, pretend):
    pretend({"up": "fp32"})
    with pytest.raises(VerificationError, match=r"up \(fp32, expected int8\)") as caught:
        agreed_graph(drafting, INT8, builds=True, strict=True)
    assert caught.value.exit_code == 4


def test_a_float_layer_that_runs_in_int8_is_refused(drafting, pretend):
    pretend({"first": "int8"})
    with pytest.raises(VerificationError, match=r"first \(int8, expected fp32\)"):
        agreed_graph(drafting, PrecisionMap(Precision.FP16), builds=True)


def with_int8_only(run, name):
    layers = tuple(
        replace(layer, allowed=frozenset({Precision.INT8})) if layer.name == name else layer
        for layer in run.graph.layers
    )
    graph = Graph(**{**vars(run.graph), "layers": layers})
    return replace(run, plan=LoweringPlan.of(graph))


def test_a_layer_pinned_to_int8_is_not_taken_back(drafting, pretend, reopened):
    pretend({"up": "fp32"})
    pinned = replace(drafting, run=with_int8_only(reopened, "up"))
    with pytest.raises(VerificationError, match="'up' may only run in INT8"):
        agreed_graph(pinned, INT8, builds=True)


def test_without_the_runtime_nothing_is_built(drafting, pretend):
    built = pretend({})
    agreed = agreed_graph(drafting, INT8, builds=False)
    assert (agreed.engine, built) == (None, [])
    assert onnx.load(drafting.folder / MODEL).graph.output[0].name == "picture"


def test_large_weights_lie_beside_the_graph(reopened, tmp_path, monkeypatch):
    lowered = reopened.lower(INT8, "u8")
    monkeypatch.setattr(float_fallback, "LARGEST_MESSAGE", 1000)
    # onnx itself keeps small tensors inside
    monkeypatch.setattr(onnx, "save", lambda model, path, **more: SAVE(model, path, size_threshold=0, **more))
    write_model(lowered, tmp_path / MODEL, target_named("openvino").target)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size > 1000
    inside = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in lowered.model.graph.initializer}
    for tensor in onnx.load(tmp_path / MODEL).graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), inside[tensor.name])
    with pytest.raises(BuildError, match="more than the parser of TensorRT 10 or 11 takes"):
        write_model(lowered, tmp_path / MODEL, target_named("tensorrt").target)


SAVE = onnx.save
