"""A generator that calls its network more than once, from the command line: plan, sweep, report, bundle."""

import json

import onnx
import pytest
from click.testing import CliRunner
from tiny_loops import FRAMES, noise_predictor, recurrent_generator, write_clips

from qsens.cli.main import main


def qsens(*arguments):
    found = CliRunner().invoke(main, [str(one) for one in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.slow
def test_a_recurrent_generator_is_swept_and_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(recurrent_generator(), "g.onnx")
    write_clips(tmp_path / "clips")
    counts = ("--calibration-samples", FRAMES, "--evaluation-samples", 2 * FRAMES)
    asked = (
        "--state",
        "h_in=h_out",
        "--output",
        "picture",
        "--calibration",
        "clips",
        "--metric",
        "psnr",
        *counts,
    )
    said = qsens("plan", "g.onnx", *asked)
    assert "loop       recurrent: states {'h_in': 'h_out'}" in said
    assert "frame by frame, clip after clip" in said
    qsens("sweep", "g.onnx", *asked, "--out", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Along the loop" in page
    assert (tmp_path / "run" / "figures" / "loop.png").exists()
    qsens("export", "run", "--for", "openvino")
    assert "Fine: all" in qsens("verify", "run/bundle-openvino", "--no-latency")


def test_a_spec_file_names_a_sampler_and_flags_win_over_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(noise_predictor(), "g.onnx")
    (tmp_path / "s.toml").write_text(
        'calibration = "noise"\nmetrics = ["psnr"]\nevaluation_samples = 4\ncalibration_samples = 2\n'
        "[output]\nvalue_range = [-1.0, 1.0]\n"
        '[loop]\nname = "sampler"\nnoisy = "x"\ntime = "t"\noutput = "eps"\nmethod = "euler"\nsteps = 9\n'
    )
    said = qsens("plan", "g.onnx", "--spec", "s.toml", "--option", "loop.steps=3", "--json")
    assert json.loads(said)["plan"]["calls_per_picture"] == 3
