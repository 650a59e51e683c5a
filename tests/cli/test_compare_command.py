"""`qsens compare` on real run folders: text, JSON, files and exit codes."""

import json

import pytest
from click.testing import CliRunner
from compared_runs import CONTENTS, fid_against, write_compared_run

from qsens.cli.main import main
from qsens.core.spec import SweepSpec


@pytest.fixture
def runs(tmp_path):
    dense = SweepSpec(placement="dense", strategy="boundary")
    return [
        write_compared_run(tmp_path / "run-residual"),
        write_compared_run(tmp_path / "run-dense", damage=1.5, spec=dense),
    ]


def compare(runs, *arguments):
    return CliRunner().invoke(main, ["compare", *map(str, runs), *arguments])


def line(text, *begin):
    return next(row for row in text.splitlines() if row.split()[: len(begin)] == list(begin))


def test_a_table_of_the_runs_and_their_differences(runs):
    result = compare(runs, "--budget", "3")
    assert result.exit_code == 0, result.stderr
    assert line(result.stdout, "placement").split() == ["placement", "residual", "dense"]
    assert "first 3 INT8, last 1 FP16 (trial 5)" in line(result.stdout, "residual")
    assert "60.0%" in line(result.stdout, "residual")
    assert "30.0%" in line(result.stdout, "dense")
    worse = line(result.stdout, "dense", "psnr", "all", "INT8")
    assert worse.endswith("worse")
    assert "-10.00 ± 0.28*" in worse
    assert "The same in dense as in residual: FP32." in result.stdout
    assert "Budget on fid[lite0], of each run's own FP32." in result.stdout


def test_labels_and_metric_can_be_given(runs):
    result = compare(runs, "--labels", "mine, theirs", "--metric", "psnr")
    assert result.exit_code == 0, result.stderr
    assert line(result.stdout, "theirs", "psnr")
    assert "fid[lite0]" not in result.stdout


def test_json_holds_the_differences(runs):
    document = json.loads(compare(runs, "--json").stdout)
    found = next(entry for entry in document["differences"] if entry["subject"] == "all INT8")
    assert (found["metric"], found["value"], found["is_paired"]) == ("fid[lite0]", 2.0, True)
    assert [run["label"] for run in document["runs"]] == ["residual", "dense"]


def test_out_says_what_is_written_there(runs, tmp_path, monkeypatch):
    asked = []

    def write(comparison, out):
        asked.append((len(comparison.runs), out))
        return [out / "compare-boundary.png", out / "compare.html"]

    monkeypatch.setattr("qsens.report.compare.write.write_comparison", write)
    result = compare(runs, "--out", str(tmp_path / "out"))
    assert asked == [(len(runs), tmp_path / "out")]
    assert f"Written to {tmp_path / 'out'}: compare-boundary.png, compare.html" in result.stdout
    assert result.stdout.endswith(f"Next: open {tmp_path / 'out' / 'compare.html'}\n")


def test_the_gate_ends_with_3_after_the_table(runs):
    result = compare(runs, "--budget", "3", "--gate")
    assert result.exit_code == 3
    assert "LOST: the map of residual (60.0% INT8) is beyond the budget on dense" in result.stdout
    assert "Error: the INT8 of residual is lost in dense" in result.stderr
    document = json.loads(compare(runs, "--budget", "3", "--gate", "--json").stdout)
    assert [entry["is_kept"] for entry in document["gate"]] == [False]
    assert compare(reversed(runs), "--budget", "3", "--gate").exit_code == 0


def test_what_is_not_compared_is_named(tmp_path, runs):
    other = write_compared_run(tmp_path / "other", against=fid_against(reference="9" * 64))
    result = compare([runs[0], other])
    assert result.exit_code == 0
    assert "Not compared:\n  fid[lite0]: reference ffffffffffff in run-residual" in result.stdout


def test_an_unfinished_run_is_compared_with_a_warning(tmp_path, runs):
    some = write_compared_run(
        tmp_path / "some", count=4, spec=SweepSpec(placement="inputs", strategy="boundary")
    )
    result = compare([runs[0], some])
    assert result.exit_code == 0
    assert "Warning: inputs is not finished, 5 maps have no score yet" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "one run, "),
        (("nowhere",), 1, "no folder nowhere"),
    ],
)
def test_bad_folders_end_with_a_message_and_a_hint(runs, arguments, code, message):
    result = compare([runs[0]], *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Hint: " in result.stderr


def test_other_checkpoints_are_called_damage_where_each_has_its_own_fp32(tmp_path, runs):
    contents = {**CONTENTS, "graph": "9" * 64}
    other = write_compared_run(tmp_path / "other", contents=contents)
    captions = [row for row in compare([runs[0], other]).stdout.splitlines() if row.endswith(":")]
    assert [row.partition(" ")[0] for row in captions if "damage, not quality" in row] == ["PSNR"]


def test_a_folder_of_runs_stands_for_the_runs_in_it(tmp_path, runs):
    alone, together = compare(runs), compare([runs[0].parent])
    assert together.exit_code == 0, together.stderr
    assert sorted(together.stdout.splitlines()[0].split()) == sorted(alone.stdout.splitlines()[0].split())
