"""A sweep for a target offers, scores, chooses and exports what that target runs."""

import json
import shutil

import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos
from tiny_runs import qsens, write_no_report
from tiny_sweeps import score_run

from qsens.core.errors import SpecError
from qsens.core.precision import Precision
from qsens.engines.lowering.plan import Grid
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.reopen import reopen_run

SWEEP = (
    *("sweep", "generator.onnx", "--calibration", "photos", "--metric", "psnr", "--ranges", "minmax"),
    *("--calibration-samples", "2", "--evaluation-samples", "4", "--threads", "1", "--strategy", "ends"),
    *("--out", "run"),
)
VALUES = {
    "checkpoint": "generator.onnx",
    "calibration": "photos",
    "metrics": ["psnr"],
    "range_method": "minmax",
    "calibration_samples": 2,
    "evaluation_samples": 4,
    "threads": 1,
    "strategy": "ends",
}


@pytest.fixture(scope="module", autouse=True)
def no_report():
    with pytest.MonkeyPatch.context() as patch:
        write_no_report(patch)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photographs and a generator of five layers, one of them a transposed convolution."""
    project = tmp_path_factory.mktemp("made")
    onnx.save(residual_generator(), project / "generator.onnx")
    write_photos(project / "photos")
    return project


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    copy = shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="module")
def swept(made, tmp_path_factory):
    """The project after a sweep for ONNX Runtime, and what it printed."""
    copy = shutil.copytree(made, tmp_path_factory.mktemp("swept") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        result = qsens(*SWEEP, "--for", "onnxruntime", "--budget", "20")
    assert result.exit_code == 0, result.stderr
    return copy, result


@pytest.fixture
def run(swept, tmp_path, monkeypatch):
    copy = shutil.copytree(swept[0], tmp_path / "project")
    monkeypatch.chdir(copy)
    return copy / "run"


def test_layers_that_the_target_cannot_run_are_not_offered_and_say_why(swept):
    project, result = swept
    study = read_study(project / "run")
    held = {layer.name: layer for layer in study.layers if layer.float_reason}
    assert "up" in held
    assert "first" not in held
    assert "onnxruntime has no INT8 kernel for this ConvTranspose" in held["up"].float_reason
    assert held["up"].float_reason in result.stderr
    assert held["up"].float_reason in result.stdout
    for trial in study.trials:
        assert trial.requested["up"] is not Precision.INT8
        assert trial.applied == trial.requested


def test_placement_target_and_the_version_of_its_runtime_are_written_down(swept):
    run = swept[0] / "run"
    spec, provenance = read_run_spec(run), read_provenance(run)
    assert (spec.target, spec.placement) == ("onnxruntime", "kernels")
    assert provenance.contents["target"] == "onnxruntime"
    assert "onnxruntime" in provenance.versions
    assert json.loads((run / "precision_map.json").read_text())["settings"]["target"] == "onnxruntime"


def test_the_map_that_was_scored_is_the_one_that_ships(run):
    exported = qsens("export", run, "--json")
    assert exported.exit_code == 0, exported.stderr
    document = json.loads(exported.stdout)
    chosen = json.loads((run / "precision_map.json").read_text())
    assert document["target"] == "onnxruntime"
    assert document["map"]["requested"] == document["map"]["deployed"]
    assert document["map"]["int8_macs_share_deployed"] == chosen["int8_macs_share"] > 0
    assert not [layer for layer in document["layers"] if layer["reason"]]
    verified = qsens("verify", run / "bundle-onnxruntime", "--no-latency", "--score")
    assert verified.exit_code == 0, verified.stderr


def test_bench_measures_what_the_run_is_for_and_counts_what_runs_in_int8(run):
    measured = qsens("bench", run, "--maps", "anchors", "--repeats", "3", "--threads", "1")
    assert measured.exit_code == 0, measured.stderr
    chosen = json.loads((run / "precision_map.json").read_text())
    assert "onnxruntime" in measured.stdout.splitlines()[0]
    line = next(line for line in measured.stdout.splitlines() if line.startswith("INT8 "))
    assert f"{100 * chosen['int8_macs_share']:.1f}%" in line


def test_a_resumed_run_keeps_its_layers_and_asks_nothing_again(run, monkeypatch):
    before = (run / "layers.csv").read_bytes(), (run / "journal.jsonl").read_bytes()
    monkeypatch.setattr("qsens.run.target.fitted", None)
    score_run(out=run, target="onnxruntime", **VALUES)
    assert ((run / "layers.csv").read_bytes(), (run / "journal.jsonl").read_bytes()) == before


def test_a_map_of_a_cpus_codes_is_scored_again_for_tensorrt_which_has_others(run):
    assert reopen_run(run).options.grid is Grid.UNSIGNED
    chosen = json.loads((run / "precision_map.json").read_text())
    assert chosen["settings"]["grid"] == "unsigned"
    result = qsens("export", run, "--for", "tensorrt", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["run"]["grid"] == "signed"
    before, after = (psnr_in(scores["chosen"]) for scores in (chosen["scores"], document["scores"]))
    assert after < before - 1
    assert f"psnr {before:.2f} -> {after:.2f}" in result.stderr
    shipped = json.loads((run / "bundle-tensorrt" / "precision_map.json").read_text())
    assert (shipped["settings"]["grid"], psnr_in(shipped["scores"]["chosen"])) == ("signed", after)


def test_a_map_that_is_beyond_its_budget_on_another_grid_is_not_exported(run):
    psnr = psnr_in(json.loads((run / "precision_map.json").read_text())["scores"]["chosen"])
    assert qsens("select", run, "--budget", f"{psnr - 0.5:.2f}", "--write").exit_code == 0
    result = qsens("export", run, "--for", "tensorrt")
    assert result.exit_code == 1
    assert (
        f"instead of {psnr:.2f}, beyond the limit of {psnr - 0.5:.2f}; nothing was written" in result.stderr
    )
    assert "qsens sweep --for tensorrt --out NEW" in result.stderr
    assert not (run / "bundle-tensorrt").exists()


def psnr_in(scores):
    return next(score["value"] for score in scores if score["metric"] == "psnr")


def test_another_target_is_another_run(run):
    result = qsens(*SWEEP, "--for", "openvino")
    assert result.exit_code == 1
    assert 'target: "onnxruntime" -> "openvino"' in result.stderr


@pytest.mark.slow
def test_workers_score_the_same_maps(project, swept):
    there = score_run(out="run", target="onnxruntime", workers=1, **VALUES)
    alone = read_study(swept[0] / "run")
    assert alone.layers == there.layers
    assert [trial.scores for trial in alone.trials] == [trial.scores for trial in there.trials]


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (("--for", "tflite"), 2, ["no target named 'tflite'", "openvino"]),
        (("--for", "onnxruntime", "--pin", "up=int8"), 2, ["'up' may only run in INT8", "leave out the pin"]),
        (
            ("--for", "onnxruntime", "--placement", "residual"),
            2,
            ["none of the 5 layers can run in INT8", "--placement kernels keeps more"],
        ),
    ],
)
def test_what_a_target_cannot_do_is_refused_before_anything_is_scored(project, arguments, code, texts):
    result = qsens(*SWEEP, *arguments)
    assert result.exit_code == code
    for text in texts:
        assert text in result.stderr
    journal = project / "run" / "journal.jsonl"
    assert not journal.exists() or len(journal.read_text().splitlines()) == 1


def test_plan_counts_the_maps_of_the_target(project):
    arguments = SWEEP[1:-2]
    whole = json.loads(qsens("plan", *arguments, "--json").stdout)
    planned = json.loads(qsens("plan", *arguments, "--for", "onnxruntime", "--json").stdout)
    assert planned["plan"]["maps"] < whole["plan"]["maps"]
    assert planned["sweep"]["target"] == "onnxruntime"
    assert any("ConvTranspose" in line for line in planned["target"])


def test_a_target_that_is_not_here_is_said_and_only_lowered(project, monkeypatch):
    monkeypatch.setattr("qsens.engines.tensorrt.problem", lambda: "no GPU")
    planned = qsens("plan", *SWEEP[1:-2], "--for", "tensorrt-legacy")
    assert planned.exit_code == 0, planned.stderr
    assert "TensorRT 8.5 to 10 could not be asked which layers it runs in INT8: no GPU" in planned.stdout
    study = score_run(out="run", target="tensorrt-legacy", **VALUES)
    assert all(Precision.INT8 in layer.allowed for layer in study.layers)


def test_a_sweep_for_no_target_says_what_each_would_leave_before_anybody_exports(project):
    result = qsens(*SWEEP, "--budget", "20")
    assert result.exit_code == 0, result.stderr
    last = result.stdout[result.stdout.index("Of the chosen map, 100.0% of the MACs in INT8") :]
    assert "onnxruntime: 0.0%; in float: first" in last
    assert "--for TARGET" in last
    exported = qsens("export", project / "run", "--for", "onnxruntime")
    assert exported.exit_code == 1
    assert "of 100.0% of the multiply-accumulates 0.0% would be left" in exported.stderr
    assert "sweep --for onnxruntime" in exported.stderr
    assert not (project / "run" / "bundle-onnxruntime").exists()


def test_the_python_interface_takes_the_target(project):
    with pytest.raises(SpecError, match="no target named 'tensort'"):
        score_run(out="other", target="tensort", **VALUES)
