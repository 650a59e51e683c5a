"""The service behind `qsens compare`: choosing in every run, the gate, what is written."""

import csv
import json

import pytest
from compared_runs import CONTENTS, fid_against, write_compared_run

from qsens.core.errors import BudgetError, RunFolderError, SpecError
from qsens.core.spec import SweepSpec
from qsens.core.trial import Score, Yardstick
from qsens.report.compare.compare import CompareOptions, compare_runs
from qsens.report.compare.tables import tables_of
from qsens.report.compare.write import comparison_document, write_comparison
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.run.yardsticks import keep_yardsticks
from qsens.selection.budget import Budget
from qsens.selection.choose import cheapest_within
from qsens.selection.precision_map_file import write_precision_map
from qsens.testing import example_layers

NEW = {**CONTENTS, "generator": "1" * 64, "graph": "2" * 64}


@pytest.fixture
def pair(tmp_path):
    def make(first=(), **second):
        old = write_compared_run(tmp_path / "old", **dict(first))
        return [old, write_compared_run(tmp_path / "new", **{"contents": NEW, **second})]

    return make


def select(run, budget):
    """What `qsens select RUN --budget X` leaves in the folder."""
    study, spec = read_study(run), read_run_spec(run)
    selection = cheapest_within(study, budget=Budget.parse(budget))
    spec = SweepSpec.from_mapping({**spec.to_mapping(), "budget": budget})
    write_precision_map(RunPaths(run).precision_map_path, selection, study, spec, read_provenance(run), {})
    return selection.trial.number


def test_a_common_budget_chooses_in_every_run(pair):
    comparison = compare_runs(pair(damage=1.5), CompareOptions(budget="3"))
    assert [run.chosen.number for run in comparison.runs] == [5, 4]
    assert comparison.limit_metric == "fid[lite0]"
    comparison.check()


def test_without_a_budget_the_maps_in_the_folders_count(pair):
    paths = pair()
    number = select(paths[0], "2")
    first, second = compare_runs(paths, CompareOptions()).runs
    assert (first.chosen.number, first.budget) == (number, "2")
    assert second.chosen is None


def test_runs_are_told_by_the_yardsticks_of_each(pair):
    paths = pair(damage=3.0)
    for path in paths:
        fid = Score("fid[lite0]", 15.0, 64, fid_against(), True, 0.1, 5.0, 0.1)
        keep_yardsticks(RunPaths(path).yardsticks_path, "", [Yardstick("jpeg:95", (fid,))])
    found = compare_runs(paths, CompareOptions(budget="jpeg:95"))
    notes = "\n".join(note for table in tables_of(found) for note in table.notes)

    assert all(run.chosen is not None for run in found.runs)
    assert notes.count("the chosen map costs less than JPEG 95 (fid[lite0]).") == 2


def test_a_run_without_a_map_within_the_budget_is_named(pair):
    paths = pair(damage=9.0)
    journal = RunPaths(paths[1]).journal_path
    lines = [line for line in journal.read_text().splitlines() if '"number":1,' not in line]
    journal.write_text("\n".join(lines) + "\n")
    comparison = compare_runs(paths, CompareOptions(budget="3"))
    assert "new" in comparison.failures
    with pytest.raises(BudgetError, match="new: no map meets the budget; the nearest is trial 3"):
        comparison.check()


def gate(paths, budget="3", **wish):
    return compare_runs(paths, CompareOptions(budget=budget, has_gate=True, **wish))


def test_a_checkpoint_that_survives_passes_the_gate(pair):
    comparison = gate(pair(fp32=20.0))
    comparison.check()
    assert [result.is_kept for result in comparison.gate] == [True]
    assert "fid[lite0] 23, at most 23 allowed" in comparison.gate[0].text


def test_a_checkpoint_that_lost_its_int8_fails_the_gate(pair):
    comparison = gate(pair(damage=1.5))
    assert "is beyond the budget on new; fid[lite0] 14.5, at most 13 allowed" in comparison.gate[0].text
    with pytest.raises(BudgetError, match="the INT8 of old is lost in new") as caught:
        comparison.check()
    assert caught.value.exit_code == 3


def test_the_released_map_is_what_the_gate_asks_for(pair):
    paths = pair(damage=1.4)
    assert not gate(paths).gate[0].is_kept
    select(paths[0], "2")
    assert gate(paths).gate[0].is_kept


def test_a_released_map_beyond_the_budget_of_the_gate_is_not_asked_for(pair):
    paths = pair()
    select(paths[0], "4")
    assert gate(paths, "2").gate[0].is_kept
    assert "(60.0% INT8)" in gate(paths).gate[0].text


def test_a_doubtful_result_says_how_many_samples_would_tell(pair):
    text = gate(pair(damage=1.05)).gate[0].text
    assert "its 95% interval reaches over the limit" in text
    # 0.15 beyond 3 points with a standard error of 0.2 at 64 images: 64 * (1.96 * 0.2 / 0.15)^2
    assert "about 438 samples instead of 64 would tell" in text


def test_a_clear_result_does_not_ask_for_more_samples(pair):
    assert "would tell" not in gate(pair(damage=2.0)).gate[0].text


def test_other_layers_are_held_to_the_share_of_int8(pair):
    comparison = gate(pair(layers=example_layers(6)))
    assert "new has other layers; it has" in comparison.gate[0].text
    assert comparison.gate[0].is_kept is (comparison.runs[1].selection.int8_macs_share >= 0.6)


def test_a_map_that_was_not_scored_is_replaced_by_the_share(pair):
    comparison = gate(pair(count=5))
    assert comparison.gate[0].text.startswith("new did not score that map; it has 30.0% INT8")
    assert not comparison.gate[0].is_kept


def test_nothing_to_keep_is_an_error(pair):
    with pytest.raises(BudgetError, match="old has no map within 20 itself"):
        gate(pair(first={"count": 1}, count=None), "20")


def test_what_is_written_can_be_read(pair, tmp_path, no_figures):
    comparison = compare_runs(pair(damage=1.5), CompareOptions(budget="3"))
    paths = write_comparison(comparison, tmp_path / "out")
    assert {path.name for path in paths} == {
        *("compare.json", "compare.csv", "compare-differences.csv"),
        "compare.html",
        *("compare-boundary.png", "compare-boundary.svg", "compare-tradeoff.png", "compare-tradeoff.svg"),
    }
    assert (tmp_path / "out" / "compare-tradeoff.svg").stat().st_size > 10_000
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert document == json.loads(json.dumps(comparison_document(comparison)))
    rows = list(csv.DictReader((tmp_path / "out" / "compare.csv").open()))
    chosen = next(row for row in rows if (row["run"], row["map"]) == ("old", "chosen map"))
    assert (chosen["trial"], float(chosen["value"])) == ("5", 13.0)
    psnr = next(row for row in document["scores"] if row["metric"] == "psnr" and row["map"] == "FP32")
    assert psnr["value"] is None  # identical images


def test_reading_changes_nothing_in_the_folders(pair):
    paths = pair()
    before = {file: file.read_bytes() for path in paths for file in path.rglob("*") if file.is_file()}
    compare_runs(paths, CompareOptions(budget="3", has_gate=True))
    after = {file: file.read_bytes() for path in paths for file in path.rglob("*") if file.is_file()}
    assert after == before


def test_bad_input_is_refused_with_its_value(pair, tmp_path):
    paths = pair()
    cases = [
        ([paths[0]], CompareOptions(), "one run, .*old: nothing to compare"),
        ([paths[0], paths[0] / ".." / "old"], CompareOptions(), "is the same run as"),
        (paths, CompareOptions(labels=("a",)), "1 labels for 2 runs"),
        (paths, CompareOptions(labels=("a", "a")), "labels a, a do not tell"),
        (paths, CompareOptions(labels=("a", "b" * 41)), "does not fit"),
        (paths, CompareOptions(has_gate=True), "--gate needs a budget"),
        (paths, CompareOptions(guard="2"), "--guard needs a budget"),
        (paths, CompareOptions(budget="much"), "cannot read the budget 'much'"),
    ]
    for runs, wish, message in cases:
        with pytest.raises(SpecError, match=message):
            compare_runs(runs, wish)
    with pytest.raises(RunFolderError, match="not a run folder"):
        compare_runs([paths[0], paths[0] / "evidence"], CompareOptions())
    empty = write_compared_run(tmp_path / "empty", count=0)
    with pytest.raises(SpecError, match="empty holds no scores yet"):
        compare_runs([paths[0], empty], CompareOptions())
