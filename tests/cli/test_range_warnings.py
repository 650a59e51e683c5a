"""A sweep whose calibration says nothing of what it scores warns in words, JSON and findings."""

import json

import onnx
from lowered_models import residual_generator
from PIL import Image
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.api import FinishedRun
from qsens.calibration.range_check import read_range_check
from qsens.cli.sweep import _json_of, text_of
from qsens.core.spec import SweepSpec
from qsens.report.findings import Severity, findings_of

SPEC = {
    "checkpoint": "generator.onnx",
    "calibration": "black",
    "evaluation": "photos",
    "metrics": ["psnr"],
    "threads": 1,
    "range_method": "minmax",
    "strategy": "ends",
}


def test_a_calibration_unlike_the_evaluation_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(residual_generator(), "generator.onnx")
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "black").mkdir()
    Image.new("RGB", (8, 8)).save("black/black.png")
    study = score_run(out="run", **SPEC)
    finished = FinishedRun(study, SweepSpec(), tmp_path / "run", tmp_path / "report.html", None, None)
    printed = text_of(finished)
    assert "Warning: Calibration never moved 1 of 6 tensors" in printed
    assert "'image' (of first: stayed at 0)" in printed
    assert "Warning: On 3 evaluation samples" in printed
    warned = json.loads(json.dumps(_json_of(finished)["range_warnings"]))
    assert warned[0]["tensor"] == "image"
    assert [entry["is_made_up"] for entry in warned] == [True] + [False] * (len(warned) - 1)
    path = tmp_path / "run" / "range-check.json"
    told = {
        finding.title: finding.severity
        for finding in findings_of(study, None, None, (), read_range_check(path))
    }
    assert told["Made-up ranges"] is told["Values beyond the calibrated ranges"] is Severity.WARNING
    before = path.stat().st_mtime_ns
    score_run(out="run", **SPEC)
    assert path.stat().st_mtime_ns == before
