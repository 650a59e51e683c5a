"""`qsens select` on real run folders."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.precision import Precision, PrecisionMap
from qsens.precision_map_file import read_precision_map
from qsens.run_folder import RunFolder, RunPaths
from qsens.spec import SweepSpec
from qsens.testing import example_layers, example_trial
from qsens.trial import Outcome

SPEC = SweepSpec()
LAYERS = example_layers(4)
FIRST_TWO = PrecisionMap(Precision.FP16, tuple((layer.name, Precision.INT8) for layer in LAYERS[:2]))


@pytest.fixture
def make_run(tmp_path):
    def make_run(spec=SPEC, change=lambda trial: trial):
        with RunFolder.open(tmp_path / "run", spec) as folder:
            folder.write_layers(LAYERS)
            folder.record_provenance({"graph": "abc"})
            maps = [*(PrecisionMap(precision) for precision in Precision), FIRST_TWO]
            for number, requested in enumerate(maps):
                folder.journal.append(change(example_trial(number, requested, LAYERS)))
        return tmp_path / "run"

    return make_run


def select(run, *arguments):
    return CliRunner().invoke(main, ["select", str(run), *arguments])


def test_the_chosen_map_and_the_references_are_shown_and_written(make_run):
    run = make_run()
    result = select(run, "--budget", "2")
    assert result.exit_code == 0, result.stderr
    assert read_precision_map(RunPaths(run).precision_map_path).precision_map == FIRST_TWO
    starred = next(line for line in result.stdout.splitlines() if line.startswith("*"))
    assert "INT8 in the first 2 of 4 layers" in starred
    assert "30.0%" in starred
    for name in ("FP32 everywhere", "FP16 everywhere", "INT8 everywhere"):
        assert name in result.stdout
    assert "block0.conv0 .. block0.conv1 (2)" in result.stdout


def test_the_budget_of_the_spec_is_used_and_a_flag_wins(make_run):
    run = make_run(SweepSpec(budget="100"))
    assert select(run, "--json").exit_code == 0
    assert read_precision_map(RunPaths(run).precision_map_path).precision_map == PrecisionMap(Precision.INT8)
    document = json.loads(select(run, "--json", "--budget", "2").stdout)
    assert document["budget"]["allowance"] == 2
    assert document["precision_map"] == FIRST_TWO.to_json()


def test_without_a_budget_the_front_is_listed_and_nothing_written(make_run):
    run = make_run()
    result = select(run)
    assert result.exit_code == 0
    assert "--budget" in result.stdout
    assert not RunPaths(run).precision_map_path.exists()
    front = json.loads(select(run, "--json").stdout)["front"]
    assert [entry["trial"] for entry in front] == [0, 3, 2]


def without_fp16(trial):
    if trial.number != 1:
        return trial
    return replace(trial, outcome=Outcome.FAILED, scores=(), applied=None, error="no kernel")


def test_a_budget_that_nothing_meets_exits_3_and_writes_nothing(make_run):
    run = make_run(change=without_fp16)
    result = select(run, "--budget", "0.1")
    assert result.exit_code == 3
    assert "nearest is trial 3" in result.stderr
    assert not RunPaths(run).precision_map_path.exists()


def test_fp16_overflow_is_warned_of(make_run):
    def overflow(trial):
        return replace(trial, fp16_overflows=((LAYERS[1].name, 12),))

    assert "FP16 overflowed" in select(make_run(change=overflow), "--budget", "2").stdout


WRONG = [
    (["--budget", "lots"], 2, "cannot read the budget"),
    (["--budget", "2", "--metric", "lpips"], 2, "no score named 'lpips'"),
    (["--budget", "2", "--guard", "much"], 2, "cannot read the budget 'much'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), WRONG)
def test_a_wrong_flag_is_one_clear_error(make_run, arguments, code, text):
    result = select(make_run(), *arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Hint" in result.stderr


@pytest.mark.parametrize("break_it", ["absent", "foreign", "corrupt journal", "no provenance", "edited spec"])
def test_a_damaged_run_is_one_clear_error(make_run, tmp_path, break_it):
    run = make_run()
    if break_it == "absent":
        run = tmp_path / "absent"
    elif break_it == "foreign":
        RunPaths(run).journal_path.unlink()
    elif break_it == "corrupt journal":
        lines = RunPaths(run).journal_path.read_bytes().split(b"\n")
        RunPaths(run).journal_path.write_bytes(b"\n".join([lines[0], b"{", *lines[1:]]))
    elif break_it == "no provenance":
        RunPaths(run).provenance_path.unlink()
    else:
        RunPaths(run).spec_path.write_text("seeed = 1\n")
    result = select(run, "--budget", "2")
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("Error: ")
    assert "Hint: " in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
