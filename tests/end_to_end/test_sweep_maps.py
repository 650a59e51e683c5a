"""Which maps a sweep scores: strategies, pins, and maps whose outputs are not finite."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_models import onnx_model
from tiny_runs import LOUD_LAYERS, chain, journal_lines, loud, qsens, study_of, sweep, write_generator

from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome
from qsens.run.paths import RunPaths

FP32, FP16, INT8 = Precision

pytestmark = pytest.mark.usefixtures("no_report")

ANCHORS = 3
# Four layers in two blocks; what a strategy shares with the anchors is not scored twice.
COUNTS = {
    ("boundary", "layer"): ANCHORS + 2 * (4 - 1),
    ("boundary", "block"): ANCHORS + 2 * (2 - 1),
    ("ends", "layer"): ANCHORS + (4 * 5) // 2 - 1,
    ("ends", "block"): ANCHORS + 2,
    ("one-at-a-time", "layer"): ANCHORS + 2 * 4,
    ("one-at-a-time", "block"): ANCHORS + 2,
    ("exhaustive", "layer"): 1 + 2**4,
    ("exhaustive", "block"): 1 + 2**2,
}


@pytest.mark.parametrize(("strategy", "by"), COUNTS)
def test_a_strategy_scores_the_maps_it_should(strategy, by, generator, photos, tmp_path):
    options = ("--strategy", strategy, "--by", by)
    result = sweep(generator, photos, tmp_path / "run", *options)
    assert result.exit_code == 0, result.stderr
    study = study_of(tmp_path / "run")
    assert len(study.scored()) == len(study.trials) == COUNTS[strategy, by]
    assert len({trial.requested for trial in study.trials}) == len(study.trials), "a map was scored twice"
    first = [trial.requested for trial in study.trials[:ANCHORS]]
    assert first == list(anchor_maps(study.layers).values())
    if by == "block":
        for trial in study.trials:
            sides = [trial.requested[layer.name] for layer in study.layers]
            assert sides[0] == sides[1]
            assert sides[2] == sides[3]

    planned = qsens("plan", generator, "--calibration", photos, "--metric", "psnr", *options)
    assert f"{len(study.trials)} maps, " in planned.stdout


def test_one_direction_is_half_the_maps(generator, photos, tmp_path):
    out = tmp_path / "run"
    assert sweep(generator, photos, out, "--option", "strategy.direction=int8-first").exit_code == 0
    study = study_of(out)
    assert len(study.trials) == ANCHORS + 3
    assert all(trial.requested["block0.conv0"] is INT8 for trial in study.trials[ANCHORS:])


def test_pinned_layers_stay_in_every_map_but_fp32(generator, photos, tmp_path):
    pins = ("--pin", "block1=fp16", "--pin", "*.conv0=fp32")
    assert sweep(generator, photos, tmp_path / "run", *pins).exit_code == 0
    study = study_of(tmp_path / "run")
    fp32, *others = study.trials
    assert fp32.requested == fp32.applied == PrecisionMap(FP32)
    assert len(others) == 2, "the only free layer has two precisions"
    for trial in others:
        assert trial.applied is not None
        found = trial.applied.assignment(["block0.conv0", "block1.conv0", "block1.conv1"])
        assert list(found.values()) == [FP32, FP32, FP16]


def test_a_map_that_overflows_in_fp16_fails_alone(photos, tmp_path):
    model = write_generator(tmp_path / "loud.onnx", loud())
    result = sweep(model, photos, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    study = study_of(tmp_path / "run")
    assert [layer.name for layer in study.layers] == list(LOUD_LAYERS)
    assert len(study.trials) == 9
    for trial in study.trials:
        # FP16 cannot hold what `shrink` reads, and infinity minus infinity is no number; INT8 codes of
        # that are numbers again.
        is_broken = trial.requested["shrink"] is FP16 and trial.requested["head"] is FP16
        assert trial.outcome is (Outcome.FAILED if is_broken else Outcome.SCORED)
        if is_broken:
            assert "4 of 4 images of a batch hold NaN or infinite values" in trial.error
            layer = "grow" if trial.requested["grow"] is FP16 else "shrink"
            assert f"FP16 overflowed in {layer} " in trial.error
            assert f"--pin {layer}=fp32" in trial.error
    overflowed = [trial for trial in study.scored() if trial.requested["grow"] is FP16]
    assert len(overflowed) == 2
    assert all(dict(trial.fp16_overflows)["grow"] > 0 for trial in overflowed)
    assert "3 of 9 maps failed" in result.stdout
    assert len(journal_lines(tmp_path / "run")) == 10


def test_fp32_for_the_layers_that_overflow_is_the_way_out(photos, tmp_path):
    model = write_generator(tmp_path / "loud.onnx", loud())
    pins = ("--pin", "grow=fp32", "--pin", "shrink=fp32")
    result = sweep(model, photos, tmp_path / "run", *pins, "--budget", "20")
    assert result.exit_code == 0, result.stderr
    assert "failed" not in result.stdout
    study = study_of(tmp_path / "run")
    assert len(study.scored()) == len(study.trials)
    assert all(not trial.fp16_overflows for trial in study.trials)


@pytest.mark.parametrize(
    ("kind", "scale"), [("Log", -1.0), ("Exp", 1e4)], ids=["NaN after the last layer", "infinity"]
)
def test_outputs_that_are_not_finite_in_fp32_end_the_run(kind, scale, photos, tmp_path):
    weights = {"w": np.full((3, 3, 1, 1), scale, np.float32), "b": np.full(3, np.sign(scale), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["raw"], "/draw/Conv"),
        helper.make_node(kind, ["raw"], ["picture"], "/last"),
    ]
    shape = ["n", 3, 16, 16]
    model = onnx_model(nodes, inputs={"image": shape}, outputs={"picture": shape}, weights=weights)
    result = sweep(write_generator(tmp_path / "broken.onnx", model), photos, tmp_path / "run")
    assert result.exit_code == 1
    assert "FP32 itself cannot be scored: 4 of 4 images of a batch hold NaN" in result.stderr
    assert "Hint: check the checkpoint and the value range" in result.stderr
    assert len(journal_lines(tmp_path / "run")) == 1, "nothing but the header"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_end_the_run(value, photos, tmp_path):
    model = chain()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    values = numpy_helper.to_array(weights).copy()
    values[0, 0, 0, 0] = value
    weights.CopyFrom(numpy_helper.from_array(values, "w1"))
    onnx.save(model, tmp_path / "broken.onnx")
    result = sweep(tmp_path / "broken.onnx", photos, tmp_path / "run")
    assert result.exit_code == 1
    assert "block0.conv1" in result.stderr or "/block0/conv1/Conv" in result.stderr
    assert "Hint: " in result.stderr


def test_maps_that_are_as_good_as_fp32_do_not_hide_what_is_cheaper(photos, tmp_path):
    """A generator that paints one colour in every precision: PSNR is capped at 100 dB everywhere."""
    model = chain()
    for tensor in model.graph.initializer:
        values = np.zeros_like(numpy_helper.to_array(tensor))
        if tensor.name == "b3":
            values += np.array([-1, 0, 1], np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = write_generator(tmp_path / "colour.onnx", model)
    result = sweep(path, photos, tmp_path / "run", "--budget", "99")
    assert result.exit_code == 0, result.stderr
    assert all(trial.score("psnr").value == 100 for trial in study_of(tmp_path / "run").trials)
    assert "all INT8" in next(line for line in result.stdout.splitlines() if line.startswith("*"))
    front = qsens("select", tmp_path / "run", "--json", "--budget", "99").stdout
    assert '"default": "int8"' in front
    assert RunPaths(tmp_path / "run").precision_map_path.exists()
