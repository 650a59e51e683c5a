"""The benchmark against NNCF: the layers that it finds in INT8. Runs where NNCF is installed."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from lowered_models import prepared, residual_generator

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_layers_that_nncf_quantized_are_told_by_their_names(monkeypatch):
    nncf = pytest.importorskip("nncf")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    control = importlib.import_module("nncf_control")
    setup = prepared(residual_generator())
    feeds = [{"image": np.random.default_rng(seed).random((1, 3, 8, 8), np.float32)} for seed in range(4)]
    model = control.openvino_model(setup.graph, feeds[0])
    assert control.int8_layers(model, setup.graph) == frozenset()

    node = next(layer.node for layer in setup.graph.layers if layer.name == "middle")
    left_out = nncf.IgnoredScope(names=[node, f"{node}/WithoutBiases"], validate=False)
    quantized = nncf.quantize(model, nncf.Dataset(feeds, dict), ignored_scope=left_out)
    assert control.int8_layers(quantized, setup.graph) == set(setup.names) - {"middle"}
