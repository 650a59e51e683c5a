"""`qsens bench` on a real run with the runtime that is always there; no time is ever compared."""

import json
import shutil

import pytest
from tiny_runs import qsens

from qsens.run.folder import read_provenance, read_study
from qsens.selection.timings import check_table, read_latency_table, timings_of

QUICK = ("--backend", "onnxruntime", "--repeats", "3", "--threads", "1")


def test_the_front_is_measured_written_twice_and_can_be_chosen_from(run, tmp_path):
    target = tmp_path / "times.json"
    result = qsens("bench", run, *QUICK, "--batch", "1,2", "--latency-json", target)
    assert result.exit_code == 0, result.stderr
    for text in ("FP32", "FP16", "INT8", "trial", "speed-up", "mismatches"):
        assert text in result.stdout
    own = next((run / "latency").glob("*-onnxruntime.json"))
    assert result.stdout.endswith(f"Next: qsens select {run} --latency {own} chooses by these times.\n")
    assert own.read_bytes() == target.read_bytes()
    table, study = read_latency_table(target), read_study(run)
    check_table(table, study, read_provenance(run).contents["graph"])
    assert table.batches == (1, 2)
    assert table.runtime["inputs"] == "evaluation samples"
    assert {0, 1, 2} <= timings_of(study, table).by_trial.keys()
    chosen = qsens("select", run, "--latency", target, "--latency-limit", "1e9", "--json")
    assert json.loads(chosen.stdout)["latency"]["file"] == "times.json"


def test_a_generator_is_told_to_be_swept_first(generator):
    result = qsens("bench", generator)
    assert result.exit_code == 1
    assert f"{generator} is a file, and a run is a folder" in result.stderr
    assert f"qsens sweep {generator} --calibration IMAGES --out RUN" in result.stderr


def test_the_times_of_an_earlier_bench_are_kept(run):
    for _ in range(3):
        result = qsens("bench", run, *QUICK, "--maps", "anchors")
        assert result.exit_code == 0, result.stderr
    assert "the times of an earlier bench are now" in result.stderr
    assert len(list((run / "latency").glob("*.json"))) == 1
    assert len(list((run / "latency" / "earlier").glob("*.json"))) == 2


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_measuring(run, tmp_path):
    result = qsens("bench", run, *QUICK, "--latency-json", tmp_path / "absent" / "times.json")
    assert result.exit_code == 2
    assert "absent to write to" in result.stderr
    assert not (tmp_path / "absent").exists()


def test_single_trials_are_measured_beside_fp32_with_their_layers(run):
    result = qsens("bench", run, *QUICK, "--trial", "3", "--layers")
    assert result.exit_code == 0, result.stderr
    table = read_latency_table(next((run / "latency").glob("*.json")))
    assert len(table.measurements) == 2
    rows = table.measurements[1].layers
    assert [row["layer"] for row in rows] == [layer.name for layer in read_study(run).layers]
    assert "ONNX node" in result.stdout


def test_without_the_evaluation_set_seeded_noise_is_run(run, photos, tmp_path):
    spec = run / "spec.toml"
    shutil.copytree(photos, tmp_path / "photos")
    spec.write_text(spec.read_text().replace(str(photos), str(tmp_path / "gone")))
    result = qsens("bench", run, *QUICK, "--maps", "anchors")
    assert result.exit_code == 0, result.stderr
    assert "seeded noise" in result.stdout


def interrupted(rounds):
    def interleaved(runs, **_):
        for _ in range(rounds):
            yield dict.fromkeys(runs, 1.0)
        raise KeyboardInterrupt

    return interleaved


def test_ctrl_c_keeps_what_was_measured_and_exits_130(run, monkeypatch):
    monkeypatch.setattr("qsens.device.bench.interleaved_rounds", interrupted(4))
    result = qsens("bench", run, *QUICK, "--maps", "anchors")
    assert result.exit_code == 130
    assert "measurements were done and are kept" in result.stderr
    table = read_latency_table(next((run / "latency").glob("*.json")))
    assert [entry.latency.runs for entry in table.measurements] == [4, 4, 4]


def test_ctrl_c_before_anything_leaves_an_earlier_file_alone(run, monkeypatch):
    (run / "latency").mkdir()
    monkeypatch.setattr("qsens.device.bench.interleaved_rounds", interrupted(0))
    result = qsens("bench", run, *QUICK, "--maps", "anchors")
    assert result.exit_code == 130
    assert "before anything was measured" in result.stderr
    assert not list((run / "latency").iterdir())


WRONG = [
    (("--batch", "0"), 2, "are no batch sizes"),
    (("--trial", "999"), 2, "no scored trial has the number 999"),
    (("--backend", "tensort"), 2, "no backend named 'tensort'"),
    (("--maps", "chosen"), 2, "no map has been chosen"),
    (("--option", "model.width=3"), 2, "no model options"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), WRONG)
def test_a_wrong_flag_is_one_clear_error(run, arguments, code, text):
    (run / "precision_map.json").unlink()
    result = qsens("bench", run, *QUICK[2:], *arguments)
    assert result.exit_code == code
    assert text in result.stderr


def test_one_json_file_holds_one_folder(run, tmp_path):
    result = qsens("bench", run, run, "--latency-json", tmp_path / "t.json")
    assert result.exit_code == 2
    assert "one folder" in result.stderr


def test_a_folder_that_is_no_run_is_one_clear_error(tmp_path):
    result = qsens("bench", tmp_path)
    assert result.exit_code == 1
    assert "not a run folder" in result.stderr


def test_json_prints_the_latency_file(run):
    result = qsens("bench", run, *QUICK, "--maps", "anchors", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(next((run / "latency").glob("*.json")).read_text())
