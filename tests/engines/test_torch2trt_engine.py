"""The backend as a whole: against modules with the names of a version, and on a GPU where there is one."""

import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from fake_cuda import FakeCudaLibrary
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from tiny_models import run_model

from qsens.core import plugins
from qsens.core.errors import BuildError, PluginError
from qsens.core.precision import PrecisionMap
from qsens.device.audit import mismatches
from qsens.device.cuda_memory import Cuda, driver_problem
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.torch2trt import engine as torch2trt_engine
from qsens.engines.torch2trt import libraries as torch2trt_libraries
from qsens.engines.torch2trt.engine import Torch2TrtBackend, problem

MIXED = (INT8, FP16, FP32, INT8, FP16)
LEGACY = ("8.5.3", "8.6.0", "10.3.0", "10.16.1")


def lowered(precisions=MIXED, flavour="weak"):
    setup = prepared(residual_generator(16))
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    return lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), flavour=flavour)


@pytest.fixture
def use(monkeypatch):
    """Makes a fake TensorRT, a fake torch2trt and a fake GPU what the backend finds."""
    pytest.importorskip("torch", reason="needs the extra torch")
    from fake_torch2trt import fake_tensorrt_with_networks, fake_torch2trt

    def use(version, *, torch2trt=None, **behaviour):
        trt = fake_tensorrt_with_networks(version, graph=lowered().graph.model, **behaviour)
        modules = {"tensorrt": trt, "torch2trt": torch2trt or fake_torch2trt(trt)}
        for name, module in modules.items():
            module.__spec__ = ModuleSpec(name, None)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(torch2trt_engine, "Cuda", lambda: Cuda(FakeCudaLibrary()))
        monkeypatch.setattr(torch2trt_libraries, "driver_problem", lambda: None)
        return trt

    return use


@pytest.mark.parametrize("version", LEGACY)
def test_an_engine_is_built_run_and_audited(use, version):
    trt = use(version)
    graph = lowered()
    with Torch2TrtBackend(max_batch=8).build(graph) as engine:
        outputs = engine.run(images())
        assert not mismatches(engine.audit)
        assert engine.applied == graph.requested
        assert [row.actual for row in engine.audit] == ["int8", "fp16", "fp32", "int8", "fp16"]
        assert [row.node for row in engine.audit] == ["first", "middle", "inner", "up", "last"]
        assert engine.size_bytes > 0
    expected = run_model(graph.graph.model, images())[0]
    np.testing.assert_allclose(outputs["picture"], expected, rtol=1e-5, atol=1e-6)
    (network, config) = trt.builds[0]
    assert config._profiles[0]._shapes == {"image": [[1, 3, 8, 8], [4, 3, 8, 8], [8, 3, 8, 8]]}
    assert network._flags == 1, "no implicit batch"
    used = {"ITensor.set_dynamic_range", "ILayer.precision=", "ILayer.set_output_type"}
    assert trt.used >= used | {"Builder.build_serialized_network", "IBuilderConfig.set_memory_pool_limit"}


def test_the_audits_engine_layer_is_torch2trts_name_where_layers_carry_metadata(use):
    use("10.3.0")
    with Torch2TrtBackend().build(lowered()) as engine:
        assert engine.audit[3].engine_layer == "up:0:DECONVOLUTION:GPU"
    use("8.5.3")
    with Torch2TrtBackend().build(lowered()) as engine:
        assert engine.audit[3].engine_layer == "up"


FLAGS = {
    "mixed": (MIXED, ["INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"]),
    "int8": ((INT8,) * 5, ["INT8", "OBEY_PRECISION_CONSTRAINTS"]),
    "fp16": ((FP16,) * 5, ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
    "fp32": ((FP32,) * 5, ["OBEY_PRECISION_CONSTRAINTS"]),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_allow_what_the_map_uses_and_no_more(use, name):
    precisions, flags = FLAGS[name]
    trt = use("10.3.0")
    Torch2TrtBackend(workspace_mib=3072, optimisation_level=4).build(lowered(precisions)).close()
    config = trt.builds[0][1]
    assert config._flags == flags
    assert config._cleared == ["TF32"]
    assert config._workspace == ("WORKSPACE", 3 << 30)
    assert config._level == 4
    assert config._verbosity.name == "DETAILED"


def test_the_default_workspace_does_not_starve_tactics(use):
    trt = use("8.6.0")
    Torch2TrtBackend(tf32=True).build(lowered()).close()
    config = trt.builds[0][1]
    assert config._workspace[1] >= 1 << 30
    assert config._cleared == []


def test_precisions_are_wishes_where_they_need_not_be_obeyed(use):
    trt = use("8.6.0")
    Torch2TrtBackend(must_obey=False).build(lowered()).close()
    assert "PREFER_PRECISION_CONSTRAINTS" in trt.builds[0][1]._flags


def test_a_build_that_ends_in_nothing_is_an_error_with_tensorrts_words(use):
    use("8.6.0", build_error="could not find any implementation for node up")
    with pytest.raises(BuildError, match="could not find any implementation for node up") as caught:
        Torch2TrtBackend().build(lowered())
    assert "must_obey" in caught.value.hint


def test_a_graph_of_another_flavour_is_refused(use):
    use("8.6.0")
    with pytest.raises(BuildError, match="flavour 'strong'"):
        Torch2TrtBackend().build(lowered(flavour="strong"))


def test_an_optimisation_level_that_this_tensorrt_lacks_is_refused(use):
    use("8.5.3")
    with pytest.raises(BuildError, match=r"8\.5\.3 has no optimisation levels"):
        Torch2TrtBackend(optimisation_level=2).build(lowered())


def test_torch2trt_ends_at_tensorrt_10(use):
    use("11.4.0")
    with pytest.raises(PluginError, match=r"ends at TensorRT 10, this is 11\.4\.0") as caught:
        Torch2TrtBackend()
    assert caught.value.hint == "use backend tensorrt"
    assert "use backend tensorrt" in problem()


def test_an_old_torch2trt_is_refused(use):
    class OldContext:
        def __init__(self, network, converters=None): ...

    from types import ModuleType

    old = ModuleType("torch2trt")
    old.ConversionContext, old.tensorrt_converter, old.get_arg = OldContext, print, print
    use("8.6.0", torch2trt=old)
    with pytest.raises(PluginError, match="too old: it has no builder_config, torch2trt_kwargs") as caught:
        Torch2TrtBackend()
    assert "git checkout" in caught.value.hint
    del old.get_arg
    with pytest.raises(PluginError, match="it has no get_arg"):
        Torch2TrtBackend()


def test_what_is_missing_is_said_with_what_to_do(monkeypatch, use):
    assert plugins.load_plugin("backends", "torch2trt") is Torch2TrtBackend
    use("8.6.0")
    assert problem() is None
    monkeypatch.setattr(torch2trt_libraries, "driver_problem", lambda: "no NVIDIA driver on this machine")
    assert problem() == "no NVIDIA driver on this machine"
    known = torch2trt_libraries.find_spec
    monkeypatch.setattr(
        torch2trt_libraries, "find_spec", lambda name: None if name == "torch2trt" else known(name)
    )
    assert problem().startswith("torch2trt is not installed (install torch2trt from its git checkout")
    with pytest.raises(PluginError, match="torch2trt is not installed"):
        Torch2TrtBackend()
    monkeypatch.setattr(torch2trt_libraries, "find_spec", lambda name: None)
    assert problem() == "tensorrt is not installed"
    with pytest.raises(PluginError, match="needs torch"):
        Torch2TrtBackend()


def test_a_torch2trt_that_breaks_while_it_is_imported_is_named(use, monkeypatch, tmp_path):
    use("8.6.0")
    monkeypatch.delitem(sys.modules, "torch2trt")
    (tmp_path / "torch2trt.py").write_text("import tensorrt\ntensorrt.CalibrationAlgoType\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="installed but cannot be imported: AttributeError"):
        Torch2TrtBackend()


def test_the_backend_is_imported_without_torch_tensorrt_or_torch2trt():
    code = (
        "import sys; import qsens.engines.torch2trt.engine; "
        "print(sorted({'torch', 'tensorrt', 'torch2trt'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.gpu
def test_a_real_engine_on_a_gpu_agrees_with_fp32():
    reason = driver_problem() or problem()
    if reason:
        pytest.skip(f"needs TensorRT 8 or 10, torch2trt and an NVIDIA GPU: {reason}")
    graph = lowered()
    with Torch2TrtBackend().build(graph) as engine:
        picture = engine.run(images())["picture"]
        assert not mismatches(engine.audit)
    expected = run_model(graph.graph.model, images())[0]
    error = np.sqrt(np.mean((picture - expected) ** 2))
    assert 20 * np.log10(1 / error) > 30, "dB, in the range of a picture"
