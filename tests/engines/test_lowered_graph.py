"""Lowered graphs: the layers that are asked for, those that ran, and the model as a session takes it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator

from qsens.core.precision import PrecisionMap
from qsens.device.audit import ExecutedLayer, audit_layers
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime
from qsens.engines.lowering import lowered_graph
from qsens.engines.lowering.lowered_graph import applied_from_audit, asked_layers
from qsens.graph.graph import Graph


@dataclass(frozen=True)
class Lowered:
    """The part of a lowered graph that the audit reads."""

    graph: Graph
    requested: PrecisionMap
    expected: PrecisionMap


def lowered() -> Lowered:
    setup = prepared(residual_generator())
    requested = PrecisionMap.over(dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True)))
    expected = requested.with_layers([setup.names[1], setup.names[4]], FP32)
    return Lowered(setup.graph, requested, expected)


def test_layers_are_asked_under_their_two_names_in_execution_order():
    asked = asked_layers(lowered())
    assert [layer.node for layer in asked] == ["first", "middle", "inner", "up", "last"]
    assert [layer.requested for layer in asked] == ["int8", "fp16", "fp32", "int8", "fp16"]
    assert [layer.expected for layer in asked] == ["int8", "fp32", "fp32", "int8", "fp32"]


def test_applied_is_what_runs_and_what_was_expected_where_nobody_tells():
    graph = lowered()
    executed = (
        ExecutedLayer("step 0", ("first", "relu0"), "fp32", "gemm"),
        ExecutedLayer("step 1", ("up",), None, "mystery"),
    )
    audit = audit_layers(asked_layers(graph), executed)
    applied = applied_from_audit(audit, graph)
    assert [applied[row.layer] for row in audit] == [FP32, FP32, FP32, INT8, FP32]
    assert [row.is_mismatch for row in audit] == [True, False, False, False, False]
    assert audit[0].fused_with == ("relu0",)


def mixed(channels: int):
    setup = prepared(residual_generator(channels))
    return setup.lower(dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True)))


def test_smaller_graphs_are_bytes():
    graph = mixed(48)
    with lowered_graph.model_source(graph.detached) as content:
        assert content == graph.detached.serialized()


def test_what_protobuf_cannot_hold_goes_through_a_file(monkeypatch):
    graph = mixed(48)
    with lowered_graph.model_source(graph.detached) as content:
        expected = OnnxRuntimeRuntime(content, threads=1).run(images())
    monkeypatch.setattr(lowered_graph, "LARGEST_MESSAGE", 0)
    with lowered_graph.model_source(graph.detached) as path:
        runtime = OnnxRuntimeRuntime(path, threads=1)
        assert runtime.size_bytes == sum(file.stat().st_size for file in Path(path).parent.iterdir())
    assert not Path(path).exists()
    np.testing.assert_array_equal(runtime.run(images())["picture"], expected["picture"])
