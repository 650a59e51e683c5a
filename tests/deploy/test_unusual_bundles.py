"""Bundles of a generator with an input that a rule fixes, and with names that qsens itself would make."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.core.targets import declared_targets
from qsens.deploy.bundle import ExportOptions, export_bundle
from qsens.deploy.chosen_map import map_of_trial
from qsens.device.bundle_model import open_bundle
from qsens.device.goldens import read_goldens
from qsens.run.reopen import reopen_run


def resizing_generator() -> onnx.ModelProto:
    """Inputs say how large its picture is and what turns it; a gain bears the name of the image's scale."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Gelu", ["c1"], ["g1"], "act"),
        helper.make_node("Mul", ["g1", "act/scale"], ["m0"], "mul"),
        helper.make_node("MatMul", ["m0", "turn"], ["m1"], "turning"),
        helper.make_node("Concat", ["sides", "size"], ["sizes"], "concat", axis=0),
        helper.make_node("Resize", ["m1", "", "", "sizes"], ["z"], "resize", mode="linear"),
        helper.make_node("Conv", ["z", "w2"], ["c2"], "last", pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c2", "image:scale"], ["s"], "mul2"),
        helper.make_node("Sigmoid", ["s"], ["picture"], "sigmoid"),
    ]
    weights = {
        "w1": normal(8, 3, 3, 3),
        "w2": normal(3, 8, 3, 3, seed=1),
        "act/scale": np.full((8, 1, 1), 3, np.float32),
        "image:scale": np.float32(1.5),
        "sides": np.array([1, 8], np.int64),
    }
    model = onnx_model(
        nodes, inputs={"image": [1, 3, 8, 8]}, outputs={"picture": None}, weights=weights, opset=20
    )
    model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.INT64, [2]))
    model.graph.input.append(helper.make_tensor_value_info("turn", TensorProto.FLOAT, [8, 8]))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    onnx.save(resizing_generator(), folder / "generator.onnx")
    score_run(
        folder / "generator.onnx",
        out=folder / "run",
        calibration=str(write_photos(folder / "photos")),
        metrics=["psnr"],
        calibration_samples=2,
        evaluation_samples=4,
        threads=1,
        inputs={
            "size": {"source": "constant", "value": [16, 16]},
            "turn": {"source": "constant", "value": np.eye(8).ravel().tolist()},
        },
    )
    return reopen_run(folder / "run")


def exported(run, target, out):
    options = ExportOptions(declared_targets()[target].target, out, takes_back_to_float=True)
    return export_bundle(run, map_of_trial(run, 2), options).folder


def inputs_of(path):
    return [value.name for value in onnx.load(path).graph.input]


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-legacy"])
def test_what_a_rule_fixes_is_a_constant_for_compilers_that_need_it(run, tmp_path, target):
    folder = exported(run, target, tmp_path / "out")
    for name in ("model.onnx", "fp32.onnx") if target == "tensorrt-legacy" else ("model.onnx",):
        assert inputs_of(folder / name) == ["image"]
        known = onnx.shape_inference.infer_shapes(onnx.load(folder / name), data_prop=True)
        shapes = {value.name: value.type.tensor_type.shape.dim for value in known.graph.value_info}
        assert [side.dim_value for side in shapes["z"]] == [1, 8, 16, 16]
    bundle = open_bundle(folder)
    assert [entry.name for entry in bundle.inputs] == ["image"]
    assert bundle.nodes_in_no_layer == {"turning"}
    assert "input `size` is a constant of `model.onnx`: [16, 16]" in (folder / "README.md").read_text()


def test_other_targets_keep_the_input(run, tmp_path):
    folder = exported(run, "onnxruntime", tmp_path / "out")
    assert inputs_of(folder / "model.onnx") == ["image", "size", "turn"]


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-legacy", "onnxruntime"])
def test_a_bundle_computes_what_was_scored_whatever_the_names(run, tmp_path, target):
    folder = exported(run, target, tmp_path / "out")
    goldens = read_goldens(folder / "goldens.npz")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    for place, exact in enumerate(goldens.exact["picture"]):
        feeds = {"image": goldens.inputs["image"][place][None]}
        feeds |= {name: goldens.inputs[name][place] for name in goldens.inputs.keys() - {"image"}}
        (picture,) = session.run(["picture"], feeds)
        assert -10 * np.log10(np.mean((picture[0] - exact) ** 2)) > 40
