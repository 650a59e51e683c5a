"""A sweep scored with the features of an ONNX file that the user brings."""

import json

from extractor_files import network
from tiny_runs import qsens, sweep

from qsens.run.folder import read_run_spec


def test_a_run_with_a_file_as_its_extractor_resumes_and_ships(generator, photos, tmp_path, no_report):
    file = network(tmp_path / "own" / "features.onnx")
    file.with_suffix(".toml").write_text('name = "mine"\noutput = "features"')
    run = tmp_path / "run"
    scores = ("--metric", "fid-fp32", "--extractor", file, "--budget", "noise:64")
    first = sweep(generator, photos, run, *scores)
    assert first.exit_code == 0, first.stderr
    assert "fid-fp32[mine]" in first.stdout
    assert read_run_spec(run).extractor == (str(file),)
    journal = (run / "journal.jsonl").read_bytes()
    again = sweep(generator, photos, run, *scores)
    assert again.exit_code == 0, again.stderr
    assert (run / "journal.jsonl").read_bytes() == journal
    exported = qsens("export", run, "--for", "onnxruntime", "--float-fallback")
    assert exported.exit_code == 0, exported.stderr
    settings = json.loads((run / "precision_map.json").read_text())["settings"]
    assert settings["extractor"] == "features.onnx"
