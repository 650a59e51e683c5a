"""Sweeps of every kind of generator: what goes in, what comes out as a picture."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tiny_models import normal, onnx_model
from tiny_runs import chain, qsens, study_of, sweep, write_arrays, write_generator, write_images

from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome
from qsens.run.folder import read_run_spec
from qsens.run.paths import RunPaths

pytestmark = pytest.mark.usefixtures("no_report")


def talker():
    """Image and sound in, one picture out."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["look"], "/look/Conv", pads=[1] * 4),
        helper.make_node("Gemm", ["sound", "v"], ["words"], "/listen/Gemm"),
        helper.make_node("Reshape", ["words", "sides"], ["bias"], "/reshape"),
        helper.make_node("Add", ["look", "bias"], ["both"], "/add"),
        helper.make_node("Relu", ["both"], ["active"], "/relu"),
        helper.make_node("Conv", ["active", "u"], ["raw"], "/speak/Conv"),
        helper.make_node("Sigmoid", ["raw"], ["picture"], "/squash"),
    ]
    weights = {
        "w": normal(4, 3, 3, 3),
        "v": normal(8, 4, seed=1),
        "sides": np.array([-1, 4, 1, 1], np.int64),
        "u": normal(3, 4, 1, 1, seed=2),
    }
    inputs = {"image": ["n", 3, 16, 16], "sound": ["n", 8]}
    return onnx_model(nodes, inputs=inputs, outputs={"picture": ["n", 3, 16, 16]}, weights=weights)


def from_noise():
    """A vector in, a picture out."""
    nodes = [
        helper.make_node("Gemm", ["z", "w"], ["flat"], "/map/Gemm"),
        helper.make_node("Reshape", ["flat", "sides"], ["small"], "/reshape"),
        helper.make_node("ConvTranspose", ["small", "v"], ["raw"], "/grow/ConvTranspose", strides=[2, 2]),
        helper.make_node("Sigmoid", ["raw"], ["picture"], "/squash"),
    ]
    weights = {
        "w": normal(6, 4 * 64),
        "sides": np.array([-1, 4, 8, 8], np.int64),
        "v": normal(4, 3, 2, 2, seed=1),
    }
    return onnx_model(nodes, inputs={"z": ["n", 6]}, outputs={"picture": ["n", 3, 16, 16]}, weights=weights)


def two_pictures():
    """The picture and a second output that looks like one."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["raw"], "/draw/Conv"),
        helper.make_node("Sigmoid", ["raw"], ["picture"], "/squash"),
    ]
    shape = ["n", 3, 16, 16]
    outputs = {"raw": shape, "picture": shape}
    return onnx_model(nodes, inputs={"image": shape}, outputs=outputs, weights={"w": normal(3, 3, 1, 1)})


def colour_mixer():
    """First output channel minus the first input channel, second zero, third half the first input channel."""
    weights = np.zeros((3, 3, 1, 1), np.float32)
    weights[0, 0], weights[2, 0] = -1.0, 0.5
    node = helper.make_node("Conv", ["image", "w"], ["picture"], "/mix/Conv")
    shape = ["n", 3, 16, 16]
    return onnx_model([node], inputs={"image": shape}, outputs={"picture": shape}, weights={"w": weights})


def pixels_of(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def shown_images(run, trial=0):
    with np.load(RunPaths(run).samples / f"trial-{trial:04d}.npz") as file:
        return file["images"]


def test_images_in_pictures_out(generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", "--budget", "30")
    assert result.exit_code == 0, result.stderr
    study = study_of(tmp_path / "run")
    fp32, fp16, int8 = (
        next(trial for trial in study.trials if trial.requested == requested)
        for requested in anchor_maps(study.layers).values()
    )
    values = [trial.score("psnr").value for trial in (fp32, fp16, int8)]
    assert values[0] == 100
    assert 100 > values[1] > values[2] > 20
    assert all(trial.applied == trial.requested for trial in study.trials)
    path = RunPaths(tmp_path / "run").precision_map_path
    assert f"Precision map: {path}\n" in result.stdout
    chosen = json.loads(path.read_text())
    assert PrecisionMap.from_json(chosen["precision_map"]) == PrecisionMap(Precision.INT8)


def test_two_inputs_from_arrays_keep_clips_apart(tmp_path):
    samples = [
        {
            "image": np.abs(normal(3, 16, 16, seed=index)),
            "sound": normal(8, seed=50 + index),
            "clip": np.array(f"clip-{index // 3}"),
        }
        for index in range(12)
    ]
    arrays = write_arrays(tmp_path / "arrays", samples)
    model = write_generator(tmp_path / "talker.onnx", talker())
    counts = ("--calibration-samples", "3", "--evaluation-samples", "9")
    assert sweep(model, arrays, tmp_path / "run", *counts).exit_code == 0
    study = study_of(tmp_path / "run")
    assert [layer.name for layer in study.layers] == ["look", "listen", "speak"]
    assert len(study.scored()) == 3 + 2 * 2
    assert all(score.images == 9 for trial in study.scored() for score in trial.scores)

    planned = qsens("plan", model, "--calibration", arrays, "--metric", "psnr", *counts, "--json")
    sets = json.loads(planned.stdout)
    assert sets["calibration"]["clips"] == "1"
    assert sets["evaluation"]["clips"] == "3"


def test_a_vector_of_noise_is_drawn_from_the_seed(tmp_path):
    model = write_generator(tmp_path / "gan.onnx", from_noise())
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        assert sweep(model, "noise", tmp_path / name, "--seed", seed).exit_code == 0
    first, again, other = (shown_images(tmp_path / name) for name in ("first", "again", "other"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(len(first), -1), axis=0)) == len(first), "samples are alike"


@pytest.mark.parametrize("how", ["flag", "spec"])
def test_of_several_outputs_one_is_named(how, photos, tmp_path):
    model = write_generator(tmp_path / "two.onnx", two_pictures())
    unnamed = sweep(model, photos, tmp_path / "unnamed")
    assert unnamed.exit_code == 2
    assert "2 outputs look like an image (N, 1 or 3, H, W): raw (1, 3, 16, 16)" in unnamed.stderr
    assert "--output NAME" in unnamed.stderr

    (tmp_path / "sweep.toml").write_text('[output]\nname = "picture"\n')
    flags = ("--output", "picture") if how == "flag" else ("--spec", tmp_path / "sweep.toml")
    assert sweep(model, photos, tmp_path / "run", *flags).exit_code == 0
    assert read_run_spec(tmp_path / "run").output.name == "picture"
    # A sigmoid of values around zero: mid-grey, where the raw output would be cut off at black.
    assert 64 < shown_images(tmp_path / "run").mean() < 192


def test_a_graph_that_takes_one_sample_at_a_time_scores_the_same(photos, tmp_path):
    scores = {}
    for batch in (1, "n"):
        model = write_generator(tmp_path / f"batch-{batch}.onnx", chain(batch=batch))
        assert sweep(model, photos, tmp_path / f"run-{batch}").exit_code == 0
        trials = study_of(tmp_path / f"run-{batch}").trials
        scores[batch] = [trial.score("psnr").value for trial in trials]
    assert scores[1] == pytest.approx(scores["n"], rel=1e-3)
    assert scores[1][2] == scores["n"][2], "INT8 everywhere is exact whatever the batch"


def test_ranges_and_colour_orders_give_the_picture_worked_out_by_hand(tmp_path):
    photos = write_images(tmp_path / "photos", 4)
    model = write_generator(tmp_path / "mixer.onnx", colour_mixer())
    bgr = ("--value-range", "-1..1", "--colour-order", "bgr", "--output-range", "-1..1")
    sets = ("--evaluation", photos)
    for order in ("rgb", "bgr"):
        out = tmp_path / order
        assert sweep(model, photos, out, *sets, *bgr, "--output-colour-order", order).exit_code == 0
    blue = pixels_of(photos)[..., 2].astype(float)
    # In BGR the first input channel is blue, at 2 b/255 - 1; the output goes back the same way.
    red_out, green_out, blue_out = 255 - blue, np.full_like(blue, 128), np.rint(blue / 2 + 63.75)
    expected = np.stack([red_out, green_out, blue_out], axis=1).astype(np.uint8)
    assert np.array_equal(shown_images(tmp_path / "rgb"), expected)
    assert np.array_equal(shown_images(tmp_path / "bgr"), expected[:, ::-1])


def test_other_sizes_are_resized_when_told_to(generator, tmp_path):
    large = write_images(tmp_path / "large", 6, side=40)
    assert sweep(generator, large, tmp_path / "run", "--resize", "16x16", "--crop", "center").exit_code == 0
    assert shown_images(tmp_path / "run").shape == (4, 3, 16, 16)


def test_two_checkpoints_make_two_runs_and_one_without_a_map_stops_neither(generator, photos, tmp_path):
    flat = write_generator(tmp_path / "flat.onnx", chain(1))
    arguments = ("--budget", "99.5", "--json")
    result = sweep(generator, photos, tmp_path / "runs", flat, *arguments)
    assert result.exit_code == 3
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["run"], second["run"]) == (str(tmp_path / "runs/generator"), str(tmp_path / "runs/flat"))
    assert first["chosen"] is None
    assert "no map meets the budget" in first["failure"]
    assert len(first["trials"]) == 9
    assert len(second["trials"]) == 3
    # The same again prints a table of both, and how to compare them.
    result = sweep(generator, photos, tmp_path / "runs", flat, "--budget", "10")
    assert f"qsens compare {tmp_path / 'runs'} --out" in result.stdout
    rows = [line.split()[:3] for line in result.stdout.splitlines()]
    assert ["flat", "100.0%", "psnr"] in rows
    assert "The one layer runs in INT8: 100 % of the MACs." in result.stdout
    assert f"Ship it: qsens export {tmp_path / 'runs/flat'} --for openvino" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_torch_module_and_its_weights(prefix, photos, tmp_path):
    import torch
    from tiny_torch import small

    torch.manual_seed(9)
    module = small(6)
    weights = {prefix + name: value for name, value in module.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "weights.pth")
    result = sweep(
        *(tmp_path / "weights.pth", photos, tmp_path / "run", "--model", "tiny_torch:small"),
        *("--option", 'model.arguments={"width": 6}', "--input-shape", "image=1x3x16x16"),
        *("--output-range", "-4..4"),
    )
    assert result.exit_code == 0, result.stderr
    study = study_of(tmp_path / "run")
    assert [layer.name for layer in study.layers] == ["body.0", "out"]
    assert all(trial.outcome is Outcome.SCORED for trial in study.trials)
    spec = read_run_spec(tmp_path / "run")
    assert spec.model == "tiny_torch:small"

    inputs = pixels_of(photos).transpose(0, 3, 1, 2).astype(np.float32) / 255
    with torch.no_grad():
        outputs = module(torch.from_numpy(inputs)).numpy()
    expected = np.clip(np.rint((outputs + 4) * (255 / 8)), 0, 255)
    shown = shown_images(tmp_path / "run").astype(float)
    nearest = [np.abs(expected - image).max(axis=(1, 2, 3)).min() for image in shown]
    assert max(nearest) <= 1, "the pictures are not those of the module"


@pytest.mark.slow
def test_an_exported_program(photos, tmp_path):
    import torch
    from tiny_torch import small

    program = torch.export.export(
        small(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "generator.pt2")
    result = sweep(tmp_path / "generator.pt2", photos, tmp_path / "run", "--output-range", "-4..4")
    assert result.exit_code == 0, result.stderr
    study = study_of(tmp_path / "run")
    assert [layer.name for layer in study.layers] == ["body.0", "out"]
    assert len(study.scored()) == 3 + 2


def test_a_stated_size_that_the_images_do_not_have_is_refused(tmp_path):
    nodes = [helper.make_node("Conv", ["image", "w"], ["picture"], "/conv", pads=[1] * 4)]
    free = onnx_model(
        nodes,
        inputs={"image": ["n", 3, "height", "width"]},
        outputs={"picture": ["n", 3, "height", "width"]},
        weights={"w": normal(3, 3, 3, 3)},
    )
    generator, photos = write_generator(tmp_path / "free.onnx", free), write_images(tmp_path / "photos")
    result = sweep(generator, photos, tmp_path / "run", "--input-shape", "image=1x3x8x8")
    assert result.exit_code == 2
    assert "'image' is stated as 1x3x8x8, but its samples are 1x3x16x16" in result.stderr
    assert not (tmp_path / "run").exists()
    assert sweep(generator, photos, tmp_path / "run", "--input-shape", "image=1x3x16x16").exit_code == 0


def layouts(*, is_input_last, is_output_last, side=16):
    """A picture in and out, its channels first or last at either end."""
    sides = (["n", 3, side, side], ["n", side, side, 3])
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], "/in/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["raw"], "/draw/Conv"),
        helper.make_node("Transpose", ["raw"], ["picture"], "/out/Transpose", perm=[0, 2, 3, 1]),
    ]
    nodes[1].input[0] = "first" if is_input_last else "image"
    nodes[1].output[0] = "raw" if is_output_last else "picture"
    return onnx_model(
        nodes[0 if is_input_last else 1 : 3 if is_output_last else 2],
        inputs={"image": sides[is_input_last]},
        outputs={"picture": sides[is_output_last]},
        weights={"w": normal(3, 3, 1, 1)},
    )


@pytest.mark.parametrize(("is_input_last", "is_output_last"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize(
    ("named", "side"), [((), 16), (("--output", "picture"), 16), (("--resize", "16x16"), "free")]
)
def test_channels_last_is_named_by_plan(named, side, is_input_last, is_output_last, photos, tmp_path):
    model = layouts(is_input_last=is_input_last, is_output_last=is_output_last, side=side)
    path = write_generator(tmp_path / "last.onnx", model)
    planned = qsens("plan", path, "--calibration", photos, "--metric", "psnr", *named)
    assert planned.exit_code == 2
    end = "input 'image'" if is_input_last else "output 'picture'"
    assert end in planned.stderr
    assert "its channels are the last axis (N, H, W, C)" in planned.stderr
    assert "Transpose" in planned.stderr


@pytest.mark.parametrize(("named", "is_warned"), [((), True), (("--output-range", "-1..1"), False)])
def test_plan_sees_the_tanh_of_a_generator_whose_values_are_bright(named, is_warned, photos, tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="last"),
        helper.make_node("Tanh", ["c"], ["t"], name="tanh"),
        helper.make_node("Identity", ["t"], ["picture"], name="named"),
    ]
    sides = ["n", 3, 16, 16]
    brightening = np.abs(normal(3, 3, 1, 1))
    model = onnx_model(nodes, inputs={"image": sides}, outputs={"picture": sides}, weights={"w": brightening})
    path = write_generator(tmp_path / "bright.onnx", model)
    planned = qsens("plan", path, "--calibration", photos, "--metric", "psnr", *named)
    assert planned.exit_code == 0
    assert ("'picture' is made by a tanh" in planned.stdout) == is_warned
    assert ("add --output-range -1..1" in planned.stdout) == is_warned


def test_plan_says_that_pictures_are_too_small_for_a_metric(tmp_path):
    photos = write_images(tmp_path / "photos", 4, side=8)
    model = write_generator(
        tmp_path / "small.onnx", layouts(is_input_last=False, is_output_last=False, side=8)
    )
    planned = qsens("plan", model, "--calibration", photos, "--metric", "ssim")
    assert planned.exit_code == 1
    assert "SSIM needs images of at least 11 by 11 pixels" in planned.stderr


def bytes_to_bytes():
    """uint8 pictures in and out, as a graph with its own pre- and post-processing has them."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "unit"], ["scaled"], "/scale"),
        helper.make_node("Conv", ["scaled", "w"], ["raw"], "/draw/Conv"),
        helper.make_node("Sigmoid", ["raw"], ["squashed"], "/squash"),
        helper.make_node("Mul", ["squashed", "full"], ["levels"], "/levels"),
        helper.make_node("Cast", ["levels"], ["picture"], "/back", to=TensorProto.UINT8),
    ]
    sides = ["n", 3, 16, 16]
    weights = {"w": normal(3, 3, 1, 1), "unit": np.float32(1 / 255), "full": np.float32(255)}
    model = onnx_model(nodes, inputs={"image": sides}, outputs={"picture": sides}, weights=weights)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    return model


def test_pictures_of_bytes_are_scored_as_bytes(photos, tmp_path):
    model = write_generator(tmp_path / "bytes.onnx", bytes_to_bytes())
    assert sweep(model, photos, tmp_path / "run").exit_code == 0
    assert read_run_spec(tmp_path / "run").output.value_range == (0.0, 255.0)
    fp32, int8 = (study_of(tmp_path / "run").trials[number].score("psnr").value for number in (0, 2))
    assert 20 < int8 < fp32
    assert 64 < shown_images(tmp_path / "run").mean() < 192

    contradicted = sweep(model, photos, tmp_path / "unit", "--output-range", "0..1")
    assert contradicted.exit_code == 2
    assert "contradicts the range 0..1" in contradicted.stderr


def test_pictures_that_are_white_throughout_are_refused_before_any_other_map(photos, tmp_path):
    model = write_generator(tmp_path / "chain.onnx", chain())
    white = sweep(model, photos, tmp_path / "run", "--output-range=-9..-8")
    assert white.exit_code == 1
    assert "pictures of FP32 have the one value 255 (white)" in white.stderr
    assert not study_of(tmp_path / "run").scored()
