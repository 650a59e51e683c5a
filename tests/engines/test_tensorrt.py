"""The backend against modules that have exactly the names of a version: a removed name fails here."""

import sys

import numpy as np
import pytest
from fake_cuda import FakeCudaLibrary
from fake_tensorrt import VERSIONS, fake_tensorrt
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from tiny_models import run_model

from qsens.core.errors import BuildError, PluginError, ScoreError, SpecError
from qsens.core.precision import PrecisionMap
from qsens.device.audit import mismatches
from qsens.device.cuda_memory import Cuda
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.tensorrt import TensorRtBackend, problem

MIXED = (INT8, FP16, FP32, INT8, FP16)
# (class, name): what the path of a version must have used, or must have kept away from.
WEAK_ONLY = ("ILayer.precision=", "ILayer.set_output_type")
EVERYWHERE = (
    "Builder.build_serialized_network",
    "EngineInspector.get_engine_information",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.set_timing_cache",
    "ICudaEngine.get_tensor_profile_shape",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_tensor_address",
)


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Makes a fake module and a fake GPU what the backend finds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def use(version, *, library=None, removed=(), **behaviour):
        module = fake_tensorrt(version, removed=removed, **behaviour)
        cuda_library = library or FakeCudaLibrary()
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr("qsens.engines.tensorrt.Cuda", lambda: Cuda(cuda_library))
        monkeypatch.setattr("qsens.engines.tensorrt.driver_problem", lambda: None)
        return module

    return use


def run_whole():
    backend = TensorRtBackend()
    with backend.build(lowered(backend.flavour)) as engine:
        engine.run(images())


def lowered(flavour, precisions=MIXED):
    setup = prepared(residual_generator(16))
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    return lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), flavour=flavour)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_that_is_used_exists_in_the_version(use, version):
    module = use(version)
    backend = TensorRtBackend(optimisation_level=None if version == "8.5.3" else 2)
    assert backend.flavour == ("weak" if version.startswith("8.") else "strong")
    graph = lowered(backend.flavour)
    with backend.build(graph) as engine:
        outputs = engine.run(images())
        times = engine.device_engine.step_times_ms(images(), 3)
        assert engine.applied == graph.requested
        assert not mismatches(engine.audit)
    np.testing.assert_allclose(outputs["picture"], run_model(graph.model, images())[0], atol=1e-3)
    assert times == dict.fromkeys(["first", "middle", "inner", "up", "last"], 0.25)
    assert module.used >= set(EVERYWHERE)
    for name in WEAK_ONLY:
        assert (name in module.used) == (backend.flavour == "weak")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_name_that_a_version_lost_fails_the_path(use, version, name):
    use(version, removed=[name])
    with pytest.raises((AttributeError, PluginError)):
        run_whole()


@pytest.mark.parametrize("version", ["8.5.3", "8.6.0"])
def test_weak_pins_every_float_layer_and_allows_int8_only_where_the_graph_has_it(use, version):
    module = use(version)
    with TensorRtBackend().build(lowered("weak")):
        network, config = module.builds[-1]
    precisions = {
        layer._node.name: getattr(layer._precision, "name", None)
        for layer in network._layers
        if layer._kind in ("CONVOLUTION", "DECONVOLUTION")
    }
    assert precisions == {"first": None, "middle": "HALF", "inner": "FLOAT", "up": None, "last": "HALF"}
    assert set(config._flags) == {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"}
    sigmoid = next(layer for layer in network._layers if layer._node.name == "sigmoid")
    assert sigmoid._types == {}, "the network's output stays float32"


def test_weak_all_float_maps_set_no_int8_flag(use):
    module = use("8.6.0")
    for precision, flags in ((FP32, set()), (FP16, {"FP16"})):
        with TensorRtBackend(must_obey=False).build(lowered("weak", [precision] * 5)):
            assert set(module.builds[-1][1]._flags) == {"PREFER_PRECISION_CONSTRAINTS"} | flags


def test_options_reach_the_builder(use, tmp_path):
    module = use("10.16.1")
    backend = TensorRtBackend(workspace_mib=512, optimisation_level=4, max_batch=6)
    with backend.build(lowered("strong")):
        _, config = module.builds[-1]
    assert config._workspace == ("WORKSPACE", 512 * 2**20)
    assert config._level == 4
    assert config._verbosity.name == "DETAILED"
    assert config._cleared == ["TF32"]
    assert config._profiles[0]._shapes == {"image": [[1, 3, 8, 8], [3, 3, 8, 8], [6, 3, 8, 8]]}
    caches = [path.name for path in (tmp_path / "qsens").iterdir()]
    assert caches == ["tensorrt-10.16.1.11-Orin.timing"]
    with TensorRtBackend(tf32=True).build(lowered("strong")):
        assert module.builds[-1][1]._cleared == []


def test_the_timing_cache_is_shared_and_begun_anew_for_another_version(use, tmp_path):
    module = use("10.3.0")
    path = tmp_path / "shared.timing"
    for _ in range(2):
        TensorRtBackend(timing_cache=str(path)).build(lowered("strong")).close()
    assert path.read_bytes() == b"10.3.0+timed+timed"
    module = use("11.4.0")
    TensorRtBackend(timing_cache=str(path)).build(lowered("strong")).close()
    assert path.read_bytes() == module.__version__.encode() + b"+timed"


def test_a_flavour_that_a_version_has_not_is_refused(use):
    use("11.4.0")
    with pytest.raises(SpecError, match=r"11\.4.* cannot build flavour 'weak'"):
        TensorRtBackend(flavour="weak")
    use("8.6.0")
    with pytest.raises(SpecError, match=r"8\.6\.0 cannot build flavour 'strong'"):
        TensorRtBackend(flavour="strong")
    with pytest.raises(SpecError, match="no flavour of TensorRT named 'fast'"):
        TensorRtBackend(flavour="fast")
    use("10.3.0")
    assert TensorRtBackend(flavour="weak").flavour == "weak"
    with pytest.raises(BuildError, match="cannot build flavour 'weak'"):
        TensorRtBackend(flavour="strong").build(lowered("weak"))


def test_an_optimisation_level_needs_a_version_that_has_them(use):
    use("8.5.3")
    with pytest.raises(BuildError, match=r"8\.5\.3 has no optimisation levels"):
        TensorRtBackend(optimisation_level=3).build(lowered("weak"))


def test_a_failed_build_tells_the_builders_own_words(use):
    use("10.3.0", build_error="Could not find any implementation for node up")
    for flavour, tip in (("strong", "backend.flavour=weak"), ("weak", "must_obey=false")):
        with pytest.raises(BuildError, match="built no engine: Could not find any implementation") as caught:
            TensorRtBackend(flavour=flavour).build(lowered(flavour))
        assert tip in caught.value.hint


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_a_refused_node_is_named_with_old_and_new_parsers(use, version):
    use(version, refused_operator="ConvTranspose")
    backend = TensorRtBackend()
    with pytest.raises(BuildError, match=r"node up.*: no importer registered"):
        backend.build(lowered(backend.flavour))


def test_an_engine_that_does_not_fit_is_built_for_half_the_batch(use):
    module = use("10.3.0", context_error="out of memory")
    backend = TensorRtBackend(max_batch=4)
    with pytest.warns(RuntimeWarning) as said, pytest.raises(BuildError, match="out of memory") as caught:
        backend.build(lowered("strong"))
    assert "single sample" in caught.value.hint
    assert [str(warning.message) for warning in said] == [
        "out of GPU memory with batches up to 4: building for up to 2",
        "out of GPU memory with batches up to 2: building for up to 1",
    ]
    largest = [config._profiles[0]._shapes["image"][2][0] for _, config in module.builds]
    assert largest == [4, 2, 1]


def test_a_batch_that_does_not_fit_is_halved_and_said(use):
    one_sample = 4 * (3 * 8 * 8 + 3 * 16 * 16)
    use("10.3.0", library=FakeCudaLibrary(limit_bytes=2 * one_sample))
    batch = images(4)
    graph = lowered("strong")
    with TensorRtBackend().build(graph) as engine:
        with pytest.warns(RuntimeWarning, match="batch of 4: going on with 2"):
            outputs = engine.run(batch)
        assert engine.notices == ["out of GPU memory with a batch of 4: going on with 2"]
    np.testing.assert_allclose(outputs["picture"], run_model(graph.model, batch)[0], atol=1e-3)


def test_a_single_sample_that_does_not_fit_cannot_be_scored(use):
    use("10.3.0", library=FakeCudaLibrary(limit_bytes=100))
    with (
        TensorRtBackend().build(lowered("strong")) as engine,
        pytest.raises(ScoreError, match="single sample"),
    ):
        engine.run(images(1))


def test_without_tensorrt_or_gpu_the_reason_is_said(use, monkeypatch):
    use("10.3.0")
    assert problem() is None
    monkeypatch.setattr("qsens.engines.tensorrt.driver_problem", lambda: "no NVIDIA driver on this machine")
    assert problem() == "no NVIDIA driver on this machine"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert problem().startswith("TensorRT is not installed (on a Jetson it comes with JetPack")
    with pytest.raises(PluginError, match="TensorRT is not installed"):
        TensorRtBackend()


def test_a_tensorrt_that_is_too_old_is_named(use):
    use("8.5.3", removed=["IExecutionContext.execute_async_v3"])
    assert "TensorRT 8.5.3 is too old" in problem()


def test_a_machine_without_a_gpu_is_refused_before_anything_is_built(use):
    use("10.3.0", library=FakeCudaLibrary(devices=0))
    with pytest.raises(PluginError, match="no CUDA-capable device"):
        TensorRtBackend()
