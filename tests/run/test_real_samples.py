"""A sweep measures, batches and reopens what its samples are, not what random inputs would be."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model, run_model
from tiny_photos import write_photos

from qsens.api import score_maps
from qsens.cli.main import main
from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.spec import spec_from_values
from qsens.run.evidence import load_baseline
from qsens.run.folder import read_study
from qsens.run.open import open_sweep
from qsens.run.opening_notes import opening_notes
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run
from qsens.run.stages import refuse_mixing


def generator(*between, inputs=None, types=None, weights=None, outputs=None, side=8):
    """Conv, then the given nodes from `first` to `middle`, then a conv and the picture."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["first"], name="low"),
        *between,
        helper.make_node("Conv", ["middle", "w2"], ["last"], name="high"),
        helper.make_node("Sigmoid", ["last"], ["picture"]),
    ]
    model = onnx_model(
        nodes,
        inputs={"image": ["n", 3, side, side], **(inputs or {})},
        outputs={"picture": None, **(outputs or {})},
        weights={"w1": normal(4, 3, 1, 1), "w2": normal(3, 4, 1, 1, seed=1), **(weights or {})},
    )
    for value in model.graph.input:
        if value.name in (types or {}):
            value.type.tensor_type.elem_type = types[value.name]
    return model


def spec_of(folder, model, **values):
    onnx.save(model, folder / "generator.onnx")
    shared = {
        "checkpoint": str(folder / "generator.onnx"),
        "metrics": ["psnr"],
        "output": {"name": "picture"},
        "batch_size": 4,
        "threads": 1,
        "range_method": "minmax",
        "strategy": "ends",
    }
    return spec_from_values({**shared, **values}, "test")


def write_set(folder, name, values):
    """One `.npz` for each value, each with a picture of its own; returns the samples."""
    folder.mkdir()
    samples = [
        {"image": np.abs(normal(3, 8, 8, seed=place)), name: np.asarray(value)}
        for place, value in enumerate(values)
    ]
    for place, sample in enumerate(samples):
        np.savez(folder / f"{place}.npz", **sample)
    return samples


SCALED = (
    helper.make_node("Cast", ["knob"], ["number"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["first", "number"], ["middle"]),
)


@pytest.mark.parametrize(
    ("shape", "kind", "values"),
    [
        ([1], TensorProto.FLOAT, np.linspace(0, 1, 6, dtype=np.float32)[:, None]),
        ([], TensorProto.FLOAT, np.linspace(0, 1, 6, dtype=np.float32)),
        ([1], TensorProto.INT64, np.array([1, 1, 1, 5, 5, 2])[:, None]),
        ([], TensorProto.BOOL, np.array([True, False] * 3)),
        (["n", 1, 1, 1], TensorProto.FLOAT, np.linspace(0, 1, 6, dtype=np.float32)[:, None, None, None]),
    ],
)
def test_fp32_pictures_are_those_of_one_sample_at_a_time(tmp_path, shape, kind, values):
    model = generator(*SCALED, inputs={"knob": shape}, types={"knob": kind})
    samples = write_set(tmp_path / "set", "knob", values)
    chosen = {"calibration": str(tmp_path / "set"), "evaluation": str(tmp_path / "set")}
    study = score_maps(open_sweep(spec_of(tmp_path, model, **chosen)), tmp_path / "run")
    is_batched = shape[:1] == ["n"]
    expected = [
        run_model(
            model, {"image": one["image"][None], "knob": one["knob"][None] if is_batched else one["knob"]}
        )
        for one in samples
    ]
    pictures = load_baseline(tmp_path / "run" / "evidence", study.trials[0], len(samples)).images
    np.testing.assert_array_equal(pictures, [np.rint(picture[0] * 255) for (picture,) in expected])


MIXED = (
    helper.make_node("ReduceMean", ["first"], ["mean"], axes=[0], keepdims=1),
    helper.make_node("Div", ["first", "mean"], ["middle"]),
)


def test_what_cannot_be_batched_says_so_and_a_wrong_claim_is_noticed(tmp_path):
    photos = str(write_photos(tmp_path / "photos"))
    opened = open_sweep(spec_of(tmp_path, generator(*MIXED), calibration=photos, evaluation=photos))
    (note,) = [line for line in opening_notes(opened) if "one at a time" in line]
    assert "samples run one at a time, not 4: the samples of a batch change each other's output" in note
    wrong = replace(opened, graph=replace(opened.graph, can_batch=True))
    with pytest.raises(ScoreError, match="a picture of a batch is another than alone"):
        score_maps(wrong, tmp_path / "run")


def test_a_picture_without_batch_axis_is_no_batch_of_pictures(tmp_path):
    """Three planes a sample would else be three samples."""
    first = helper.make_node("Relu", ["first"], ["middle"])
    model = generator(first, weights={"planes": np.array([3, 1, 8, 8], np.int64)})
    model.graph.node[-1].output[0] = "whole"
    model.graph.node.append(helper.make_node("Reshape", ["whole", "planes"], ["picture"]))
    photos = str(write_photos(tmp_path / "photos"))
    spec = spec_of(tmp_path, model, calibration=photos, evaluation=photos)
    with pytest.raises(ScoreError, match="4 samples make 12 pictures, not 4"):
        score_maps(open_sweep(spec), tmp_path / "run")


def test_rounding_is_no_mixing():
    picture = np.full((3, 4, 4), 100, np.uint8)
    refuse_mixing(picture, picture + (np.arange(48).reshape(3, 4, 4) % 3 == 0).astype(np.uint8))
    with pytest.raises(ScoreError, match=r"by 1.0 of 255 levels"):
        refuse_mixing(picture, picture + np.uint8(1))
    with pytest.raises(ScoreError, match=r"\(3, 4, 4\) in a batch is \(3, 2, 4\) alone"):
        refuse_mixing(picture, picture[:, :2])


def resizing():
    nodes = [
        helper.make_node("Concat", ["ones", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["first", "", "scales"], ["middle"], mode="nearest"),
    ]
    return generator(*nodes, inputs={"ratio": [2]}, weights={"ones": np.ones(2, np.float32)}, side=32)


@pytest.fixture
def ratio_run(tmp_path):
    """A run of a graph whose sizes follow a constant ratio of 3."""
    photos = write_photos(tmp_path / "photos", side=32)
    rules = {"ratio": {"source": "constant", "value": [3.0]}}
    spec = spec_of(tmp_path, resizing(), calibration=str(photos), inputs=rules)
    score_maps(open_sweep(spec), tmp_path / "run")
    return tmp_path


def test_work_is_counted_at_the_samples_values(ratio_run):
    high = read_study(ratio_run / "run").layers[1]
    assert (high.output_shape, high.macs) == ((1, 3, 96, 96), 96 * 96 * 3 * 4)


@pytest.mark.parametrize(
    ("flags", "macs", "note"),
    [
        ([], None, "'high' are those of a run on made-up inputs"),
        (["--calibration", "photos", "--spec", "spec.toml"], 96 * 96 * 12, None),
        (["--calibration", "noise", "--spec", "spec.toml"], 96 * 96 * 12, None),
    ],
)
def test_layers_counts_on_samples_where_it_is_given_any(tmp_path, monkeypatch, flags, macs, note):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", side=32)
    onnx.save(resizing(), "generator.onnx")
    (tmp_path / "spec.toml").write_text('[inputs.ratio]\nsource = "constant"\nvalue = [3.0]\n')
    result = CliRunner().invoke(main, ["layers", "generator.onnx", "--json", *flags])
    found = json.loads(result.stdout)
    assert macs is None or found["layers"][1]["macs"] == macs
    assert note is None if not found["notes"] else note in found["notes"][0]
    assert found["can_batch"]


def test_a_run_reopens_with_its_own_work_where_the_samples_are_gone(ratio_run):
    (ratio_run / "photos").rename(ratio_run / "elsewhere")
    run = reopen_run(ratio_run / "run")
    assert run.graph.layers == run.study.layers


def test_a_run_of_a_stated_state_reopens_on_its_samples_and_misses_them(tmp_path):
    photos = write_photos(tmp_path / "photos")
    values = {"inputs": {"state": {"source": "normal"}}, "input_shapes": {"state": [1, 4, 1, 1]}}
    score_maps(
        open_sweep(spec_of(tmp_path, recurrent(), calibration=str(photos), **values)), tmp_path / "run"
    )
    example = reopen_run(tmp_path / "run").graph.example
    assert example["state"].shape == (1, 4, 1, 1)
    assert (example["state"] < 0).any()  # made-up inputs are 0 to 1
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="photos"):
        reopen_run(tmp_path / "run")


def test_a_run_whose_work_was_counted_on_random_inputs_still_opens(ratio_run):
    paths = RunPaths(ratio_run / "run")
    text = paths.layers_path.read_text()
    assert f"{96 * 96 * 12}" in text
    paths.layers_path.write_text(text.replace(f"{96 * 96 * 12}", "1200").replace("1x3x96x96", "1x3x10x10"))
    # Such runs kept no digests of their files.
    provenance = json.loads(paths.provenance_path.read_text())
    del provenance["files"]
    paths.provenance_path.write_text(json.dumps(provenance))
    assert reopen_run(ratio_run / "run").graph.layers[1].macs == 1200


def recurrent():
    """A state with free sides that is spread over the picture, as matting networks have it."""
    nodes = [
        helper.make_node("Shape", ["first"], ["sides"]),
        helper.make_node("Expand", ["state", "sides"], ["spread"]),
        helper.make_node("Add", ["first", "spread"], ["middle"]),
        helper.make_node("Identity", ["middle"], ["next"]),
    ]
    inputs = {"image": ["n", 3, "h", "w"], "state": ["n1", "c1", "h1", "w1"]}
    return generator(*nodes, inputs=inputs, outputs={"next": None})


STATE = {"inputs": {"state": {"source": "constant", "value": [0.0]}}}


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (STATE, (1, 1, 1)),
        ({**STATE, "input_shapes": {"state": [1, 1, 1, 1]}}, (1, 1, 1)),
        ({**STATE, "input_shapes": {"state": [1, 4, 8, 8], "image": [1, 3, 8, 8]}}, (4, 8, 8)),
        (
            {"inputs": {"state": {"source": "normal"}}, "input_shapes": {"state": [1, 4, 1, 1]}},
            (4, 1, 1),
        ),
    ],
)
def test_a_state_takes_its_stated_size(tmp_path, values, shape):
    photos = str(write_photos(tmp_path / "photos"))
    opened = open_sweep(spec_of(tmp_path, recurrent(), calibration=photos, **values))
    assert opened.calibration.sample(0)["state"].shape == shape
    assert dict(opened.graph.example_shapes) == {"image": (1, 3, 8, 8), "state": (1, *shape)}
    assert opened.graph.can_batch


def test_the_first_lines_say_how_limits_are_read_and_that_a_tanh_needs_its_range(tmp_path):
    loud = {"w2": 9 * normal(3, 4, 1, 1, seed=1)}
    model = generator(helper.make_node("Relu", ["first"], ["middle"]), weights=loud)
    model.graph.node[-1].op_type = "Tanh"
    values = {
        "calibration": str(write_photos(tmp_path / "photos")),
        "metrics": ["psnr", "ssim"],
        "budget": "psnr=45, ssim=0.01",
    }
    said = opening_notes(open_sweep(spec_of(tmp_path, model, **values)))
    assert {"Limit: psnr at least 45", "Limit: ssim at least 0.99"} <= set(said)
    assert any("--output-range -1..1" in line for line in said)
    ranged = {**values, "output": {"name": "picture", "value_range": [-1.0, 1.0]}}
    said = opening_notes(open_sweep(spec_of(tmp_path, model, **ranged)))
    assert not any("--output-range" in line for line in said)


@pytest.mark.parametrize(
    ("stated", "message", "hint"),
    [
        ({}, "'image' and 'state' could take it", "--input-shape NAME=SHAPE"),
        ({"state": [1, 1, 1, 1]}, r"nothing feeds input 'state' \(1, 1, 1\)", r"[inputs.state]"),
        (
            {"state": [1, 16, 4, 4]},
            r"nothing feeds input 'state' \(16, 4, 4\)",
            "normal, uniform or constant",
        ),
        ({"stat": [1]}, "no graph input named 'stat'", "image, state"),
    ],
)
def test_an_input_that_is_no_picture_is_told_by_its_stated_size(tmp_path, stated, message, hint):
    photos = str(write_photos(tmp_path / "photos"))
    spec = spec_of(tmp_path, recurrent(), calibration=photos, input_shapes=stated)
    with pytest.raises(SpecError, match=message) as caught:
        open_sweep(spec)
    assert hint in caught.value.hint


def test_a_stated_size_that_one_file_does_not_have_is_refused_with_both(tmp_path):
    folder = tmp_path / "set"
    write_set(folder, "state", [np.zeros((1, 1, 1), np.float32)] * 5)
    np.savez(folder / "4.npz", image=np.zeros((3, 8, 8), np.float32), state=np.zeros((4, 8, 8), np.float32))
    spec = spec_of(
        tmp_path,
        recurrent(),
        calibration=str(folder),
        input_shapes={"state": [1, 1, 1, 1], "image": [1, 3, 8, 8]},
    )
    with pytest.raises(
        DataError, match=r"4.npz: array 'state' is \(4, 8, 8\), but --input-shape states \(1, 1"
    ):
        open_sweep(spec)
