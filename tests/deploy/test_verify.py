"""Checking bundles: with qsens, and with the bundle's own script in a Python that has no qsens."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qsens.core.errors import BuildError, RunFolderError, SpecError
from qsens.deploy.verify import (
    ComparedScore,
    _compared_score,
    checked_files,
    compile_only,
    run_of_bundle,
    score_again,
    verify_engine,
)
from qsens.device import check
from qsens.device.bundle_files import write_checksums
from qsens.device.goldens import Goldens, read_goldens, write_goldens


def silent(done, total, label):
    pass


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """A folder with everything that is installed here but qsens."""
    folder = tmp_path_factory.mktemp("libraries")
    for path in Path(np.__file__).parents[1].iterdir():
        if "qsens" not in path.name and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def script(libraries):
    """Runs a bundle's `verify.py` away from it, isolated from the environment and the site's folders."""

    def script(folder, *arguments):
        code = (
            "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv = sys.argv[2:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-I", "-S", "-c", code, libraries, folder / "verify.py", *arguments]
        return subprocess.run(
            [str(part) for part in command], cwd=libraries, capture_output=True, text=True, check=False
        )

    return script


def change(folder, key, changed):
    """Edit `bundle.json` and make the checksums fit again."""
    path = folder / "bundle.json"
    document = json.loads(path.read_text())
    document[key] = changed(document[key])
    path.write_text(json.dumps(document))
    write_checksums(folder)


def expect_int8_of_up(layers):
    return [{**layer, "expected": "int8"} if layer["layer"] == "up" else layer for layer in layers]


def test_the_script_checks_the_bundle_without_qsens(bundle, script, tmp_path):
    done = script(bundle, "--json", "--latency-json", tmp_path / "latency.json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["mismatches"] == []
    assert {row["layer"] for row in report["layers"]} == {"first", "middle", "inner", "up", "last"}
    assert report["goldens"]["fp32_psnr_db"] >= report["goldens"]["fp32_bound_db"]
    assert report["latency"]["runs"] > 1
    measured = json.loads((tmp_path / "latency.json").read_text())
    assert measured["measurements"][0]["batch"] == 3
    assert measured["layers"] == ["first", "middle", "inner", "up", "last"]
    # It ran its own copy, and left nothing behind.
    assert not list(bundle.rglob("__pycache__"))


def test_the_script_prints_a_table_with_three_names(ort_bundle, script_here):
    done = script_here(ort_bundle.folder, "--no-latency")
    assert done.returncode == 0, done.stderr
    assert "engine layer" in done.stdout
    assert "Latency" not in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("Fine: all 5 layers")


def test_the_script_refuses_a_tampered_model_and_names_it(bundle, script):
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    done = script(bundle)
    assert done.returncode == 1
    assert "Error: damaged: model.onnx" in done.stderr


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("qsens/device/check.py", "damaged"),
        ("qsens/__init__.py", "damaged"),
        ("qsens/device/planted.py", "not part of the bundle"),
    ],
)
def test_the_script_does_not_run_code_that_changed(bundle, script, name, what):
    (bundle / name).write_text("raise SystemExit(0)\n")
    done = script(bundle)
    assert done.returncode == 1
    assert f"Error: {what}: {name}" in done.stderr


def test_the_script_without_its_folder_of_code_says_so_in_one_sentence(bundle, script):
    shutil.rmtree(bundle / "qsens")
    done = script(bundle)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: the folder qsens is missing, which holds the checks",
        "Hint: copy the whole bundle again",
    ]


def test_the_script_ends_with_4_where_a_layer_runs_in_something_else(bundle, script_here):
    change(bundle, "layers", expect_int8_of_up)
    done = script_here(bundle, "--no-latency")
    assert done.returncode == 4
    assert "MISMATCH: up runs in fp32, int8 was expected" in done.stdout
    assert any(line.startswith("!  up") for line in done.stdout.splitlines())


def test_the_script_says_which_runtime_is_missing(bundle, script_here):
    change(bundle, "runtime", lambda _: "tensorrt")
    change(bundle, "flavour", lambda _: "strong")
    done = script_here(bundle)
    assert done.returncode == 1
    assert "tensorrt is not installed" in done.stderr
    assert "Hint: " in done.stderr


def test_the_same_report_comes_from_qsens(bundle):
    report = verify_engine(checked_files(bundle), repeats=0)
    assert report.exit_code == 0
    assert report.latency is None
    assert report.latency_json() is None


def test_pictures_beyond_the_bounds_are_a_mismatch(bundle):
    goldens = read_goldens(bundle / "goldens.npz")
    noise = np.random.default_rng(0).normal(0, 0.1, goldens.fp32["picture"].shape).astype(np.float32)
    fp32 = {"picture": goldens.fp32["picture"] + noise}
    write_goldens(bundle / "goldens.npz", Goldens(goldens.inputs, fp32, goldens.exact))
    write_checksums(bundle)
    report = verify_engine(checked_files(bundle), repeats=0)
    assert report.exit_code == 4
    assert report.goldens.problems[0].startswith("PSNR against the FP32 pictures is 2")


def test_a_file_that_changes_while_it_is_checked_is_found(bundle, monkeypatch):
    def open_engine(opened):
        engine = onnxruntime_engine(opened)
        (bundle / "model.onnx").write_bytes(b"another graph")
        return engine

    onnxruntime_engine = check.open_engine
    checked = checked_files(bundle)
    monkeypatch.setattr(check, "open_engine", open_engine)
    with pytest.raises(RunFolderError, match=r"damaged: model\.onnx"):
        verify_engine(checked, repeats=0)


def test_a_damaged_bundle_is_refused(bundle):
    (bundle / "ranges.json").unlink()
    with pytest.raises(RunFolderError, match=r"missing: ranges\.json"):
        checked_files(bundle)


def test_an_unknown_key_is_refused_though_the_checksums_fit(bundle):
    document = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**document, "bach": 1}))
    write_checksums(bundle)
    with pytest.raises(SpecError, match="no key named 'bach'") as caught:
        checked_files(bundle)
    assert "batch" in caught.value.hint


def test_a_folder_that_is_no_bundle_is_refused_and_the_bundle_in_it_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="is not a bundle") as caught:
        checked_files(tmp_path)
    assert "qsens export" in caught.value.hint
    (tmp_path / "bundle-openvino").mkdir()
    (tmp_path / "bundle-openvino" / "bundle.json").touch()
    with pytest.raises(RunFolderError, match="is not a bundle") as caught:
        checked_files(tmp_path)
    assert caught.value.hint == f"give the bundle in it: {tmp_path / 'bundle-openvino'}"
    with pytest.raises(RunFolderError, match="no folder"):
        checked_files(tmp_path / "bundle-openvinn")


def test_the_engine_is_scored_as_the_run_was(bundle, finished_run):
    opened = checked_files(bundle).bundle
    run = run_of_bundle(opened, finished_run / "run", None, trust_checkpoint=False)
    (score,) = score_again(opened, run, silent)
    assert score.metric == "psnr"
    # Every layer went back to float, so that the engine is better than what was scored.
    assert score.found > score.expected
    assert not score.is_worse
    assert not list((finished_run / "run" / "evidence").glob("*00001-*"))


def test_scoring_needs_the_run(bundle):
    opened = checked_files(bundle).bundle
    with pytest.raises(RunFolderError, match="does not say where its run lies"):
        run_of_bundle(opened, None, None, trust_checkpoint=False)


def test_scoring_finds_a_set_that_moved(bundle, project):
    (project / "photos").rename(project / "moved")
    opened = checked_files(bundle).bundle
    run = run_of_bundle(opened, project / "run", project / "moved", trust_checkpoint=False)
    assert score_again(opened, run, silent)[0].found > 30


def test_another_run_is_refused(bundle, project):
    change(bundle, "run", lambda run: {**run, "spec_digest": "0" * 16})
    opened = checked_files(bundle).bundle
    with pytest.raises(RunFolderError, match="is not of the run"):
        run_of_bundle(opened, project / "run", None, trust_checkpoint=False)


@pytest.mark.parametrize(
    ("expected", "found", "lower_is_better", "is_worse"),
    [
        (30.0, 29.5, False, False),
        (30.0, 28.9, False, True),
        (30.0, 50.0, False, False),
        (5.0, 5.9, True, False),
        (5.0, 6.1, True, True),
        (5.0, float("nan"), True, True),
    ],
)
def test_only_worse_scores_beyond_the_allowance_count(expected, found, lower_is_better, is_worse):
    assert ComparedScore("score", expected, found, 1.0, lower_is_better).is_worse is is_worse


def test_only_strongly_typed_bundles_compile_without_a_device(bundle):
    with pytest.raises(SpecError, match="bundle for onnxruntime cannot be compiled"):
        compile_only(checked_files(bundle))


def test_a_missing_runtime_is_an_error_with_advice(bundle, monkeypatch):
    monkeypatch.setattr("qsens.device.open_engine.is_installed", lambda runtime: False)
    with pytest.raises(BuildError, match="onnxruntime is not installed here"):
        verify_engine(checked_files(bundle), repeats=0)


def test_a_bundle_whose_checks_have_the_name_of_an_older_version_is_checked_by_this_one(bundle, script):
    (bundle / "qsens" / "device" / "check.py").rename(bundle / "qsens" / "device" / "checking.py")
    write_checksums(bundle)
    assert verify_engine(checked_files(bundle), repeats=0).exit_code == 0
    # Its own script knows the older name; this version's would have nothing to check with.
    result = script(bundle, "--no-latency")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: missing: qsens/device/check.py\nHint: ")


@pytest.mark.parametrize(("metric", "allowance"), [("psnr", 0.5), ("ssim", 38 * 0.02 + 1.96 * 2.8)])
def test_decibels_of_the_same_samples_may_not_be_worse_by_what_samples_differ(metric, allowance):
    row = {"metric": metric, "value": 38.0, "standard_error": 2.8, "lower_is_better": False}
    compared = _compared_score(row, 35.0)
    assert compared.allowance == pytest.approx(allowance, abs=0.01)
    assert compared.is_worse == (metric == "psnr")
