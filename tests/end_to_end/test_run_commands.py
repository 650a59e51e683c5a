"""The commands around a sweep, on a run that a sweep made: plan, layers, select, report and Python."""

import csv
import json

import pytest
from tiny_runs import (
    SMALL,
    end_with_the_choice,
    keep_trials,
    loud,
    qsens,
    study_of,
    sweep,
    without_durations,
    write_generator,
    write_images,
)

import qsens as package
from qsens.core.precision import Precision
from qsens.run.paths import RunPaths
from qsens.selection.precision_map_file import read_precision_map

MAPS = 9


def psnr_of(study, number):
    return study.trials[number].score("psnr").value


def test_a_plan_says_maps_images_and_minutes_and_writes_nothing(generator, photos, here):
    result = qsens("plan", generator, "--calibration", photos, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "9 maps, 4 images each, 2 to calibrate." in result.stdout
    assert "in all on this machine" in result.stdout
    for fact in ("generator, 4 layers", "boundary", "psnr", "16x16", "0..1", "rgb", "4 of 6"):
        assert fact in result.stdout
    values = json.loads(qsens("plan", generator, "--calibration", photos, *SMALL, "--json").stdout)
    assert values["plan"]["maps"] == MAPS
    assert values["plan"]["is_complete"] is True
    assert values["plan"]["evaluation_samples"] == 4
    cost = values["plan"]["once_s"] + MAPS * values["plan"]["map_s"]
    assert values["plan"]["total_s"] == pytest.approx(cost)
    assert values["sweep"]["picture"] == "0..1, rgb"
    assert list(here.iterdir()) == []


def test_a_sweep_without_a_budget_takes_what_nobody_sees(run, generator, photos):
    result = sweep(generator, photos, run)
    assert result.exit_code == 0
    assert "No budget was given: what JPEG 95 costs FP32's pictures is the default." in result.stdout
    assert "allowed (JPEG 95)" in result.stdout
    assert json.loads(RunPaths(run).precision_map_path.read_text())["budget"]["text"] == "jpeg:95"


def test_delivery_takes_the_place_of_the_default(run, generator, photos):
    result = sweep(generator, photos, run, "--delivery", "jpeg:60")
    assert "No budget was given: what JPEG 60 costs FP32's pictures is what delivery costs" in result.stdout
    assert "allowed (JPEG 60)" in qsens("select", run).stdout


def test_a_run_without_yardsticks_lists_its_maps_and_says_how_to_have_them(run):
    RunPaths(run).yardsticks_path.unlink()
    listed = qsens("select", run)
    assert listed.exit_code == 0
    assert "Choose one with a budget: --budget 35 (at least 35 dB)" in listed.stdout
    assert f"qsens sweep --spec {RunPaths(run).spec_path} --out {run}" in listed.stderr


def test_the_layers_of_the_run_are_those_of_the_file(generator, run):
    listed = json.loads(qsens("layers", generator, "--json").stdout)
    with RunPaths(run).layers_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [layer["name"] for layer in listed["layers"]]
    assert sum(int(row["macs"]) for row in rows) == listed["totals"]["macs"]
    # 3x3 convolutions of 16x16 outputs: 3 to 4, 4 to 4, 4 to 4 and 4 to 3 channels.
    assert listed["totals"]["macs"] == 9 * 256 * (12 + 16 + 16 + 12)


def test_select_takes_the_cheapest_map_that_is_good_enough(run):
    study = study_of(run)
    path = RunPaths(run).precision_map_path
    path.unlink()
    RunPaths(run).yardsticks_path.unlink()
    listed = qsens("select", run)
    assert listed.exit_code == 0
    assert not path.exists()
    numbers = [line.split()[0] for line in listed.stdout.splitlines() if ", last " in line]
    assert "0.0%" in next(line for line in listed.stdout.splitlines() if "all FP16" in line)

    best_with_int8 = max(psnr_of(study, int(number)) for number in numbers)
    result = qsens("select", run, "--budget", f"{best_with_int8 - 0.01:.4f}", "--write")
    assert result.exit_code == 0, result.stderr
    chosen = read_precision_map(path)
    starred = next(line for line in result.stdout.splitlines() if line.startswith("*"))
    assert f"{best_with_int8:.4g}" in starred
    assert Precision.INT8 in chosen.precision_map.assignment(chosen.layers).values()

    fp16 = psnr_of(study, 1)
    narrow = qsens("select", run, "--budget", f"{(fp16 + best_with_int8) / 2:.3f}", "--write")
    assert narrow.exit_code == 0
    assert "This map saves next to nothing: 0.0% of the MACs are in INT8. --strategy guided" in narrow.stdout
    assert set(read_precision_map(path).precision_map.assignment(chosen.layers).values()) == {Precision.FP16}

    nothing = qsens("select", run, "--budget", "99.9")
    assert nothing.exit_code == 3
    assert "no map meets the budget; the nearest is trial 1 (0% INT8)" in nothing.stderr
    assert "Hint: " in nothing.stderr


def test_a_budget_that_nothing_meets_ends_the_sweep_with_3_and_no_map(run, generator, photos):
    assert sweep(generator, photos, run, "--budget", "40").exit_code == 0
    assert RunPaths(run).precision_map_path.exists()
    result = sweep(generator, photos, run, "--budget", "99.9")
    assert result.exit_code == 3
    assert "Report: " in result.stdout
    assert not RunPaths(run).precision_map_path.exists(), "it is that of another budget"


def test_choosing_from_an_unfinished_run_says_so(run):
    keep_trials(run, 5)
    result = qsens("select", run, "--budget", "40")
    assert result.exit_code == 0
    assert f"Warning: the sweep is not finished, {MAPS - 5} maps have no score yet" in result.stderr
    assert "Warning" not in result.stdout


def test_json_holds_the_choice_and_every_trial(run, generator, photos):
    result = sweep(generator, photos, run, "--budget", "40", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["run"] == str(run)
    assert values["failure"] is None
    assert values["chosen"] == json.loads(RunPaths(run).precision_map_path.read_text())
    assert [trial["number"] for trial in values["trials"]] == list(range(MAPS))


def test_python_and_the_command_line_share_their_runs(run, generator, photos, tmp_path, monkeypatch):
    end_with_the_choice(monkeypatch)
    values = {
        "strategy": "boundary",
        "progress": False,
        "calibration": str(photos),
        "metrics": ["psnr"],
        "calibration_samples": 2,
        "evaluation_samples": 4,
        "batch_size": 4,
        "range_method": "minmax",
    }
    same = package.sweep(generator, out=run, **values).study
    assert same == study_of(run)
    package.sweep(generator, out=tmp_path / "other", threads=1, **values)
    assert without_durations(tmp_path / "other") == without_durations(run)
    assert sweep(generator, photos, tmp_path / "other").exit_code == 0
    assert [layer.name for layer in package.layers(generator).layers] == [layer.name for layer in same.layers]
    assert package.select(run, budget="40").int8_macs_share == 1.0


def test_doctor_and_plugins_know_what_a_sweep_uses():
    named = {(entry["topic"], entry["name"]): entry for entry in json.loads(qsens("doctor", "--json").stdout)}
    for entry in (("backends", "onnxruntime"), ("metrics", "psnr"), ("strategies", "boundary")):
        assert named[entry]["is_usable"] is True
    assert "CPUExecutionProvider" in qsens("doctor").stdout
    records = json.loads(qsens("plugins", "--json").stdout)
    assert {"group": "generators", "name": "onnx"}.items() <= next(
        record for record in records if record["name"] == "onnx"
    ).items()


@pytest.mark.slow
def test_the_report_of_a_real_run_is_complete(generator, photos, tmp_path):
    out = tmp_path / "run"
    assert sweep(generator, photos, out, "--budget", "40").exit_code == 0
    page = RunPaths(out).report_path
    first = page.stat().st_mtime_ns
    result = qsens("report", out, "--json")
    assert result.exit_code == 0, result.stderr
    paths = json.loads(result.stdout)
    assert paths["page"] == str(page)
    assert page.stat().st_mtime_ns > first
    assert "<img" in page.read_text() or "<svg" in page.read_text()
    with (out / "trials.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == MAPS
    names = {path.name for path in RunPaths(out).figures.iterdir()}
    assert {"boundary.png", "boundary.svg", "sensitivity-psnr.png"} <= names


@pytest.mark.slow
def test_a_run_with_failed_maps_has_a_report_too(photos, tmp_path):
    model = write_generator(tmp_path / "loud.onnx", loud())
    result = sweep(model, photos, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert "3 of 9 maps failed, the first of them trial 1 (all FP16): 4 of 4 images" in result.stdout
    page = RunPaths(tmp_path / "run").report_path.read_text()
    assert "NaN or infinite values" in page


@pytest.mark.slow
def test_the_embedded_extractor_shows_its_name_and_its_errors(generator, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # no Inception weights there
    inputs = write_images(tmp_path / "inputs", 14)
    real = write_images(tmp_path / "real", 10, seed=3)
    out = tmp_path / "run"
    result = qsens(
        *("sweep", generator, "--calibration", inputs, "--reference", real, "--out", out),
        *("--calibration-samples", "2", "--evaluation-samples", "12", "--strategy", "ends"),
    )
    assert result.exit_code in (0, 3), result.stderr
    assert "Warning: 12 images, fewer than the 1280 features of lite0" in result.stderr
    study = study_of(out)
    assert study.metrics == ("fid[lite0]", "fid-fp32[lite0]", "kid[lite0]", "psnr", "ssim")
    fp32, *others = study.scored()
    assert fp32.score("fid[lite0]").difference == 0
    assert fp32.score("fid-fp32[lite0]").value == pytest.approx(0, abs=1e-6)
    for trial in others:
        for score in trial.scores:
            assert score.images == 12
            assert score.standard_error > 0
        to_real = trial.score("fid[lite0]")
        assert to_real.difference == pytest.approx(to_real.value - fp32.score("fid[lite0]").value)
        assert to_real.difference_standard_error > 0
        assert "lite0" in to_real.against
        assert trial.score("fid-fp32[lite0]").value > 0
    assert "fid[lite0]" in result.stdout or "fid[lite0]" in result.stderr
    assert "lite0" in RunPaths(out).report_path.read_text()
    again = sweep(generator, inputs, out, "--reference", real)
    assert again.exit_code == 1
    assert "was made with another spec" in again.stderr
