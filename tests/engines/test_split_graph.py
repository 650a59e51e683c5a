"""The rest of a graph behind known tensors, run by ONNX Runtime."""

import numpy as np
import pytest
from lowered_models import FP16, FP32, INT8, prepared, residual_generator

from qsens.engines.cpu_engines import session_outputs
from qsens.engines.lowering.tensor_graph import TensorGraph, rest_model, with_outputs
from qsens.engines.onnxruntime import OnnxRuntimeBackend


@pytest.mark.parametrize("precision", [FP32, FP16, INT8])
@pytest.mark.parametrize("cut", ["r0", "r1", "r2", "c3"])
def test_the_rest_gives_the_bits_of_the_whole(precision, cut):
    network = prepared(residual_generator())
    lowered = network.lower(precision)
    graph = TensorGraph.of(lowered)
    front = graph.nodes[: graph.producers[cut] + 1]
    frontier = graph.frontier({graph.digests[name] for node in front for name in node.makes})
    backend = OnnxRuntimeBackend(threads=1)
    wide = with_outputs(lowered.detached, frontier.tensors)
    image = np.random.default_rng(3).uniform(-2, 2, (3, 3, 8, 8)).astype(np.float32)
    whole = session_outputs(backend.open_session(wide.skeleton, weights=wide.weights), {"image": image})
    assert set(whole) == {"picture", *frontier.tensors}
    known = {name: whole[name] for name in frontier.tensors}
    rest = rest_model(
        lowered.detached,
        frontier,
        types={name: value.dtype for name, value in known.items()},
        outputs=["picture"],
    )
    assert 0 < len(rest.skeleton.graph.node) < len(lowered.detached.skeleton.graph.node)
    assert {value.name for value in rest.skeleton.graph.input} == set(frontier.tensors)
    found = session_outputs(backend.open_session(rest.skeleton, weights=rest.weights), known)
    assert found["picture"].tobytes() == whole["picture"].tobytes()


def test_the_rest_holds_its_own_weights_only():
    lowered = prepared(residual_generator(channels=16)).lower(FP32)
    graph = TensorGraph.of(lowered)
    frontier = graph.frontier({graph.digests["r2"]})
    rest = rest_model(lowered.detached, frontier, types={"r2": np.dtype(np.float32)}, outputs=["picture"])
    names = {tensor.name for tensor in rest.skeleton.graph.initializer}
    assert names == {name for node in rest.skeleton.graph.node for name in node.input} & {
        tensor.name for tensor in lowered.detached.skeleton.graph.initializer
    }
    assert set(rest.weights) == names & set(lowered.detached.weights)
    assert rest.weights  # `up` is large enough to lie outside the skeleton
