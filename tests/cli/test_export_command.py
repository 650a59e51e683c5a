"""`qsens export` and `qsens verify` as typed: a sweep, a choice, a bundle, a check."""

import json
import shutil

import onnx
import pytest
from click.testing import CliRunner
from lowered_models import residual_generator
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.cli.main import main
from qsens.device.bundle_files import write_checksums


def qsens(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A run with the default placement of a generator with five layers, its trial 2 INT8 everywhere."""
    project = tmp_path_factory.mktemp("swept")
    onnx.save(residual_generator(), project / "generator.onnx")
    score_run(
        project / "generator.onnx",
        out=project / "run",
        calibration=str(write_photos(project / "photos")),
        metrics=["psnr"],
        calibration_samples=2,
        evaluation_samples=4,
        batch_size=4,
        threads=1,
        range_method="minmax",
    )
    return project / "run"


@pytest.fixture
def run(swept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(swept, tmp_path / "run")


def test_sweep_select_export_verify_for_onnx_runtime(run):
    assert qsens("select", run, "--budget", "20", "--write").exit_code == 0
    exported = qsens("export", run, "--for", "onnxruntime", "--float-fallback")
    assert exported.exit_code == 0, exported.stderr
    assert "Warning: " in exported.stderr
    assert (
        "up (up): onnxruntime has no INT8 kernel for this ConvTranspose here: it ran in fp32"
        in exported.stderr
    )
    assert "INT8 share of the multiply-accumulates: 100.0% asked" in exported.stderr
    assert f"Check it: qsens verify {run / 'bundle-onnxruntime'}" in exported.stdout
    verified = qsens("verify", run / "bundle-onnxruntime", "--no-latency", "--score")
    assert verified.exit_code == 0, verified.stderr
    assert "the run" in verified.stdout
    assert "psnr" in verified.stdout


def test_sweep_select_export_verify_for_openvino(run):
    pytest.importorskip("openvino")
    exported = qsens("export", run, "--for", "openvino", "--trial", "2", "--batch", "2", "--json")
    assert exported.exit_code == 0, exported.stderr
    document = json.loads(exported.stdout)
    assert document["map"]["int8_macs_share_deployed"] == 1.0
    assert {row["actual"] for row in document["export_audit"]["layers"]} == {"int8"}
    flags = ("--repeats", "2", "--latency-json", run / "latency.json")
    verified = qsens("verify", run / "bundle-openvino", *flags)
    assert verified.exit_code == 0, verified.stderr
    assert "Fine: all 5 layers" in verified.stdout
    assert json.loads((run / "latency.json").read_text())["measurements"][0]["flavour"] == "u8"


def test_without_a_selection_the_next_step_is_named(run):
    result = qsens("export", run, "--for", "onnxruntime")
    assert result.exit_code == 2
    assert "no map of" in result.stderr
    assert "qsens select" in result.stderr


def test_several_trials_get_a_folder_each(run):
    trials = ("--trial", "1", "--trial", "2")
    result = qsens("export", run, "--for", "onnxruntime", *trials, "--goldens", "1", "--float-fallback")
    assert result.exit_code == 0, result.stderr
    out = run / "bundle-onnxruntime"
    assert sorted(path.name for path in out.iterdir()) == ["trial-0001", "trial-0002"]
    assert qsens("verify", out / "trial-0001", "--no-latency").exit_code == 0
    again = qsens("export", run, "--for", "onnxruntime", "--trial", "1")
    assert again.exit_code == 1
    assert "exists and is not a bundle" in again.stderr


def test_strict_ends_with_4(run):
    result = qsens("export", run, "--for", "onnxruntime", "--trial", "2", "--strict")
    assert result.exit_code == 4
    assert "up (fp32, expected int8)" in result.stderr
    assert not (run / "bundle-onnxruntime").exists()


WRONG = [
    (["--for", "onnxruntime", "--trial", "77"], 2, "has no trial 77"),
    (["--for", "onnxruntime", "--trial", "1", "--trial", "1"], 2, "named twice"),
    (["--for", "tflite"], 2, "no target named 'tflite'"),
    (["--for", "openvin"], 2, "did you mean 'openvino'?"),
    ([], 2, "was swept for no target"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), WRONG)
def test_a_wrong_export_is_one_clear_error(run, arguments, code, text):
    result = qsens("export", run, *arguments)
    assert result.exit_code == code
    assert text in result.stderr


@pytest.fixture
def bundle(run):
    assert qsens("export", run, "--for", "onnxruntime", "--trial", "1").exit_code == 0
    return run / "bundle-onnxruntime"


def test_a_tampered_bundle_ends_with_1(bundle):
    (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:-1])
    result = qsens("verify", bundle)
    assert result.exit_code == 1
    assert "Error: damaged: model.onnx" in result.stderr
    assert "Hint: " in result.stderr


def test_a_mismatch_ends_with_4_and_is_in_the_table(bundle):
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    document["layers"][0]["expected"] = "int8"
    path.write_text(json.dumps(document))
    write_checksums(bundle)
    result = qsens("verify", bundle, "--no-latency")
    assert result.exit_code == 4
    assert "MISMATCH: first runs in fp32, int8 was expected" in result.stdout
    as_json = qsens("verify", bundle, "--no-latency", "--json")
    assert as_json.exit_code == 4
    assert json.loads(as_json.stdout)["mismatches"] == ["first"]


def test_a_score_worse_than_the_runs_ends_with_4(bundle):
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    document["scores"]["chosen"][0]["value"] = 500.0
    path.write_text(json.dumps(document))
    write_checksums(bundle)
    result = qsens("verify", bundle, "--no-latency", "--score")
    assert result.exit_code == 4
    assert "the run scored 500" in result.stderr


def test_the_digest_that_export_prints_is_what_verify_holds_against(run):
    exported = qsens("export", run, "--for", "onnxruntime", "--trial", "1")
    out = run / "bundle-onnxruntime"
    digest = exported.stdout.split("Digest: ")[1].split()[0]
    assert qsens("verify", out, "--no-latency", "--digest", digest).exit_code == 0
    as_json = qsens("export", run, "--for", "onnxruntime", "--trial", "2", "--json", "--float-fallback")
    other = json.loads(as_json.stdout)["digest"]
    result = qsens("verify", out, "--no-latency", "--digest", digest)
    assert result.exit_code == 1
    assert f"Error: the bundle's digest is {other}, not {digest}" in result.stderr
    assert qsens("verify", out, "--digest", digest[1:]).exit_code == 2


def test_flags_that_exclude_each_other_are_refused(bundle):
    assert qsens("verify", bundle, "--no-latency", "--latency-json", "x.json").exit_code == 2
    assert qsens("verify", bundle, "--compile-only", "--score").exit_code == 2


def test_a_bundle_for_tensorrt_compiles_without_a_gpu(run):
    pytest.importorskip("tensorrt_rtx_bindings")
    exported = qsens("export", run, "--for", "tensorrt", "--trial", "2", "--batch", "2")
    assert exported.exit_code == 0, exported.stderr
    assert "not audited" in exported.stderr
    compiled = qsens("verify", run / "bundle-tensorrt", "--compile-only")
    assert compiled.exit_code == 0, compiled.stderr
    assert "compiled the graph" in compiled.stdout
    assert "It does not prove" in compiled.stdout
