from pathlib import Path

import numpy as np
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator

from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime
from qsens.engines.lowering import lowered_graph


def lowered(channels: int):
    setup = prepared(residual_generator(channels))
    return setup.lower(dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True)))


def test_smaller_graphs_are_bytes():
    graph = lowered(48)
    with lowered_graph.model_source(graph.detached) as content:
        assert content == graph.detached.serialized()


def test_what_protobuf_cannot_hold_goes_through_a_file(monkeypatch):
    graph = lowered(48)
    with lowered_graph.model_source(graph.detached) as content:
        expected = OnnxRuntimeRuntime(content, threads=1).run(images())
    monkeypatch.setattr(lowered_graph, "LARGEST_MESSAGE", 0)
    with lowered_graph.model_source(graph.detached) as path:
        runtime = OnnxRuntimeRuntime(path, threads=1)
        assert runtime.size_bytes == sum(file.stat().st_size for file in Path(path).parent.iterdir())
    assert not Path(path).exists()
    np.testing.assert_array_equal(runtime.run(images())["picture"], expected["picture"])
