"""Which runtime a bundle is opened with, and what it is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from qsens.device.bundle_files import Bounds, Bundle, BundleInput
from qsens.device.errors import DeviceError
from qsens.device.open_engine import open_engine

BUNDLE = Bundle(
    folder=Path("bundle"),
    runtime="tensorrt",
    flavour="weak",
    batch=4,
    inputs=(BundleInput("image", "float32", (3, 8, 8), True), BundleInput("style", "float32", (5,), False)),
    outputs=("picture",),
    picture="picture",
    value_range=(0.0, 1.0),
    asked=(),
    float_pins=(("/enc/Conv", "fp16"),),
    bounds=Bounds(30.0, 30.0),
    document={},
)


def test_tensorrt_builds_for_the_bundles_batch_shapes_and_pins(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    built = []

    def build_plan(model, options):
        built.append((model, options))
        return b"a plan"

    monkeypatch.setattr("qsens.device.open_engine.is_installed", lambda runtime: True)
    monkeypatch.setattr("qsens.device.tensorrt_runtime.build_plan", build_plan)
    monkeypatch.setattr("qsens.device.tensorrt_runtime.TensorRtRuntime", lambda plan: plan)
    assert open_engine(replace(BUNDLE, folder=tmp_path)) == b"a plan"
    ((model, options),) = built
    assert model == b"a graph"
    assert options.flavour == "weak"
    assert options.batches == (4, 4, 4)
    assert options.input_shapes == {"image": (4, 3, 8, 8), "style": (5,)}
    assert options.float_pins == (("/enc/Conv", "fp16"),)


@pytest.mark.parametrize("runtime", ["tensorrt", "openvino", "onnxruntime"])
def test_a_missing_runtime_is_named_with_what_to_install(monkeypatch, runtime):
    monkeypatch.setattr("qsens.device.open_engine.is_installed", lambda name: False)
    with pytest.raises(DeviceError, match=f"{runtime} is not installed here") as caught:
        open_engine(replace(BUNDLE, runtime=runtime))
    assert "pip install" in caught.value.hint


def test_an_unknown_runtime_is_refused():
    with pytest.raises(DeviceError, match="no runtime named 'tflite'") as caught:
        open_engine(replace(BUNDLE, runtime="tflite"))
    assert caught.value.hint == "known: onnxruntime, openvino, tensorrt"


def test_a_graph_of_a_form_that_the_runtime_does_not_take_is_refused():
    with pytest.raises(DeviceError, match="onnxruntime takes graphs of flavour u8, not weak"):
        open_engine(replace(BUNDLE, runtime="onnxruntime"))
