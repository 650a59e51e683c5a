import sys

import numpy as np
import pytest
from fake_cuda import FakeCudaLibrary
from fake_tensorrt import fake_tensorrt
from tiny_models import conv_model, run_model

from qsens.device import tensorrt_runtime
from qsens.device.cuda_memory import Cuda
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import PlanOptions
from qsens.device.tensorrt_module import import_tensorrt, unpack_plan
from qsens.device.tensorrt_runtime import TensorRtRuntime, build_plan

BATCHES = (1, 2, 4)


@pytest.fixture
def device(monkeypatch):
    def device(version="10.3.0", name="Orin", **behaviour):
        library = FakeCudaLibrary(name=name)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version, **behaviour))
        monkeypatch.setattr(tensorrt_runtime, "Cuda", lambda: Cuda(library))
        return library

    return device


def plan_of(model, **options):
    return build_plan(model.SerializeToString(), PlanOptions("strong", batches=BATCHES, **options))


def feeds(count):
    return {"image": np.random.default_rng(0).random((count, 3, 8, 8), dtype=np.float32)}


@pytest.mark.parametrize("count", [1, 4, 11])
def test_any_batch_runs_and_larger_ones_in_parts(device, count):
    library = device()
    engine = TensorRtRuntime(plan_of(conv_model()))
    outputs = engine.run(feeds(count))
    np.testing.assert_allclose(outputs["picture"], run_model(conv_model(), feeds(count))[0], atol=1e-6)
    assert engine.notices == []
    engine.close()
    assert not library.allocated
    assert not library.streams


def test_a_runtime_says_what_it_is(device):
    device()
    plan = plan_of(conv_model())
    engine = TensorRtRuntime(plan)
    assert (engine.runtime, engine.version) == ("tensorrt", "10.3.0")
    assert engine.size_bytes == len(unpack_plan(plan)[0])
    layers = engine.executed_layers()
    assert [(layer.name, layer.nodes, layer.precision) for layer in layers] == [
        ("first", ("first",), "fp32"),
        ("second", ("second",), "fp32"),
    ]
    assert engine.engine_information().startswith('{"Layers"')
    assert engine.step_times_ms(feeds(1), 0) == {}


def test_a_plan_of_another_device_or_version_is_refused_with_both_named(device):
    device(name="Orin")
    plan = plan_of(conv_model())
    device(name="Thor")
    with pytest.raises(DeviceError, match=r"built for Orin .*, this GPU is Thor"):
        TensorRtRuntime(plan)
    device(version="11.4.0")
    with pytest.raises(DeviceError, match=r"by tensorrt 10\.3\.0, this is tensorrt 11\.4"):
        TensorRtRuntime(plan)


def test_a_bare_plan_that_tensorrt_refuses_tells_its_own_words(device):
    device()
    with pytest.raises(DeviceError, match=r"cannot load the plan on Orin: .*version tag mismatch"):
        TensorRtRuntime(b"ftrt: not for this version")


def test_a_shape_outside_the_profile_is_named(device):
    device()
    engine = TensorRtRuntime(plan_of(conv_model()))
    with pytest.raises(DeviceError, match=r"input 'image' of shape \[1, 3, 9, 8\] is outside"):
        engine.run({"image": np.zeros((1, 3, 9, 8), np.float32)})
    with pytest.raises(DeviceError, match="no value for input 'image'"):
        engine.run({})


def test_free_sides_need_a_shape(device):
    device()
    model = conv_model(side="s")
    with pytest.raises(DeviceError, match="input 'image' has free sides"):
        plan_of(model)
    plan_of(model, input_shapes={"image": (1, 3, 8, 8)})
    builds = sys.modules["tensorrt"].builds
    assert builds[-1][1]._profiles[0]._shapes["image"] == [[size, 3, 8, 8] for size in BATCHES]


def test_a_builder_without_a_gpu_is_explained(device):
    device(has_gpu=False)
    with pytest.raises(DeviceError, match="cannot make a builder: CUDA initialization failure"):
        plan_of(conv_model())


def test_an_unknown_flavour_is_refused(device):
    device()
    with pytest.raises(DeviceError, match="cannot build flavour 'exact'"):
        build_plan(conv_model().SerializeToString(), PlanOptions("exact"))


def test_a_module_whose_libraries_are_missing_says_which(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libcublas.so.12: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(DeviceError, match=r"tensorrt is installed but .*libcublas\.so\.12"):
        import_tensorrt()
    (tmp_path / "tensorrt.py").write_text("import tensorrt_libraries_that_are_not_here\n")
    with pytest.raises(DeviceError, match="needs the module tensorrt_libraries_that_are_not_here"):
        import_tensorrt()
