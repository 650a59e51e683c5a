import sys

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCudaLibrary
from fake_tensorrt import fake_tensorrt, table
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from tiny_models import run_model

from qsens.core.errors import BuildError, PluginError, ScoreError
from qsens.core.precision import PrecisionMap
from qsens.device.audit import mismatches
from qsens.device.tensorrt_build import BuiltPlan, ParsedLayer
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.lowered_graph import DetachedModel, LoweredGraph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.tensorrt_rtx import TensorRtRtxBackend, executed_in, problem


def lowered(precisions, flavour="strong", channels=16):
    setup = prepared(residual_generator(channels))
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    return lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), flavour=flavour)


@pytest.fixture
def backend():
    if problem() is not None:
        pytest.skip(f"needs the extra rtx: {problem()}")
    return TensorRtRtxBackend()


def test_the_compiler_says_what_it_makes_of_every_layer(backend):
    with backend.build(lowered([INT8, FP16, FP32, INT8, FP16])) as engine:
        told = {row.layer: row.actual for row in engine.audit}
        assert engine.size_bytes == len(engine.plan) > 10_000
    # It has no INT8 kernel for transposed convolutions, and the audit says so.
    assert told == {"first": "int8", "middle": "fp16", "inner": "fp32", "up": "fp16", "last": "fp16"}
    assert [row.layer for row in mismatches(engine.audit)] == ["up"]
    assert engine.applied["first"] is INT8
    assert engine.applied["up"] is FP16


def test_all_float_maps_build_as_asked(backend):
    for precision in (FP32, FP16):
        with backend.build(lowered([precision] * 5)) as engine:
            assert engine.applied == PrecisionMap(precision)
            assert not mismatches(engine.audit)
            assert engine.fp16_overflows() == {}


def test_an_engine_says_plainly_that_it_cannot_run_here(backend, monkeypatch):
    monkeypatch.setattr("qsens.device.cuda_memory._load_library", _no_gpu)
    with backend.build(lowered([FP16] * 5)) as engine, pytest.raises(ScoreError) as caught:
        engine.run(images())
    assert caught.value.message == "TensorRT-RTX engines cannot run here: no supported GPU"
    assert "onnxruntime" in caught.value.hint


def test_a_node_that_the_parser_refuses_is_named(backend):
    good = lowered([FP16] * 5)
    model = onnx.ModelProto()
    model.CopyFrom(good.model)
    next(node for node in model.graph.node if node.name == "relu1").op_type = "NoSuchOperator"
    broken = LoweredGraph(DetachedModel(model), "strong", good.requested, good.graph)
    with pytest.raises(BuildError, match=r"relu1 \(NoSuchOperator\)"):
        backend.build(broken)


def test_another_flavour_is_refused(backend):
    with pytest.raises(BuildError, match="cannot build flavour 'weak'"):
        backend.build(lowered([FP16] * 5, flavour="weak"))


def test_without_the_wheels_the_backend_says_what_to_install(monkeypatch):
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "qsens[rtx]" in problem()
    with pytest.raises(PluginError, match="TensorRT-RTX is not installed") as caught:
        TensorRtRtxBackend()
    assert "qsens[rtx]" in caught.value.hint


def test_a_layer_that_the_compiler_does_not_list_has_no_precision():
    parsed = ParsedLayer("conv", "CONVOLUTION", ("conv",), (("x", "HALF"), ("w", "HALF")), (("y", "HALF"),))
    (layer,) = executed_in(BuiltPlan(b"", (parsed,), (), ()))
    assert layer.precision is None
    assert "parsed as half" in layer.note


def test_every_name_that_is_used_exists_in_the_binding(monkeypatch):
    module = fake_tensorrt("rtx-1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr("qsens.device.cuda_memory._load_library", FakeCudaLibrary)
    graph = lowered([INT8, FP16, FP32, FP16, FP16])
    with TensorRtRtxBackend().build(graph) as engine:
        outputs = engine.run(images())
    np.testing.assert_allclose(outputs["picture"], run_model(graph.model, images())[0], atol=1e-3)
    assert "ITimingCache.serialize" not in module.used
    assert "IBuilderConfig.create_timing_cache" not in module.used, "it would look for a GPU"
    broken = fake_tensorrt("rtx-1.7.1", removed=["Builder.create_optimization_profile"])
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", broken)
    with pytest.raises(PluginError, match="too old"):
        TensorRtRtxBackend()


def test_the_table_of_names_is_the_installed_bindings():
    binding = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    known = table("rtx-1.7.1")
    if binding.__version__ != known["version"]:
        pytest.skip(f"the table is of {known['version']}, {binding.__version__} is installed")
    assert set(known["module"]) <= set(dir(binding))
    for owner, names in known["classes"].items():
        assert {name.rstrip("=") for name in names} <= set(dir(getattr(binding, owner)))


def _no_gpu():
    return FakeCudaLibrary(devices=0)
