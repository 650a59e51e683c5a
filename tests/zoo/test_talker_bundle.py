"""The shipped talker from sweep to a checked bundle, for every runtime that is installed here."""

import json

import pytest
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.zoo.talker.demo import demo_set

pytestmark = pytest.mark.slow
LAYERS = 23
TRANSPOSED = 6


def qsens(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """FP32, FP16 and INT8 everywhere, and all but the first block in INT8, placed as in the demo."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("talker")
    swept = qsens(
        *("sweep", "--model", "wav2lip", "--out", folder / "run", "--placement", "dense"),
        *("--calibration", demo_set("calibration", folder), "--evaluation", demo_set("evaluation", folder)),
        *("--calibration-samples", "16", "--evaluation-samples", "8", "--metric", "psnr", "--threads", "1"),
        *("--strategy", "ends", "--option", "strategy.first=1", "--option", "strategy.last=0"),
    )
    assert swept.exit_code == 0, swept.stderr
    assert qsens("select", folder / "run", "--budget", "20", "--write").exit_code == 0
    return folder / "run"


def exported(run, target, *arguments):
    result = qsens("export", run, "--for", target, "--out", run / target, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_openvino_runs_every_layer_as_it_was_chosen(run):
    pytest.importorskip("openvino")
    document = exported(run, "openvino")
    assert document["map"]["deployed"] == document["map"]["requested"]
    assert len(document["export_audit"]["layers"]) == LAYERS
    verified = qsens("verify", run / "openvino", "--repeats", "3", "--score")
    assert verified.exit_code == 0, verified.stderr
    assert f"Fine: all {LAYERS} layers" in verified.stdout


def test_onnx_runtime_runs_all_but_transposed_convolutions_in_int8(run):
    document = exported(run, "onnxruntime", "--float-fallback")
    reasons = {row["layer"]: row["reason"] for row in document["layers"] if row["reason"]}
    assert len(reasons) == TRANSPOSED
    assert all("ConvTranspose" in reason for reason in reasons.values())
    verified = qsens("verify", run / "onnxruntime", "--repeats", "3", "--score")
    assert verified.exit_code == 0, verified.stderr


def test_tensorrt_compiles_as_far_as_a_machine_without_a_gpu_can_tell(run):
    pytest.importorskip("tensorrt_rtx_bindings")
    exported(run, "tensorrt")
    compiled = qsens("verify", run / "tensorrt", "--compile-only", "--json")
    assert compiled.exit_code == 0, compiled.stderr
    found = json.loads(compiled.stdout)
    assert found["plan_bytes"] > 0
    assert len(found["layers"]) == LAYERS


def test_tensorrt_8_gets_a_pin_for_what_must_not_be_int8(run):
    document = exported(run, "tensorrt-legacy", "--trial", "3")
    floats = {row["node"] for row in document["layers"] if row["expected"] != "int8"}
    assert 0 < len(floats) < LAYERS
    assert floats <= {node for node, _ in document["float_pins"]}
    assert not (run / "tensorrt-legacy" / "trial-0003").exists()
