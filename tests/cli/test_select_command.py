"""`qsens select` on real run folders."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from latency_tables import measured, write_table

import qsens
from qsens.cli.main import main
from qsens.core.errors import BudgetError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import Options, SweepSpec
from qsens.core.targets import suggested_target
from qsens.core.trial import Outcome, Score
from qsens.report.run_content import read_run
from qsens.run.folder import RunFolder
from qsens.run.open_plugins import open_strategy
from qsens.run.paths import RunPaths
from qsens.selection.precision_map_file import read_precision_map
from qsens.testing import check_strategy, example_layers, example_trial

SPEC = SweepSpec(strategy="boundary")
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


@pytest.fixture
def searched_run(tmp_path):
    """A run whose strategy has asked for all that it wanted."""

    def searched_run(spec):
        with RunFolder.open(tmp_path / "run", spec) as folder:
            folder.write_layers(LAYERS)
            folder.record_provenance({"graph": "abc"})
            for trial in check_strategy(open_strategy(spec), LAYERS):
                folder.journal.append(trial)
        return tmp_path / "run"

    return searched_run


def select(run, *arguments):
    return CliRunner().invoke(main, ["select", str(run), *arguments])


def test_the_chosen_map_and_the_references_are_shown_and_written(make_run):
    run = make_run()
    result = select(run, "--budget", "2", "--write")
    assert result.exit_code == 0, result.stderr
    assert read_precision_map(RunPaths(run).precision_map_path).precision_map == FIRST_TWO
    starred = next(line for line in result.stdout.splitlines() if line.startswith("*"))
    assert "first 2 INT8, last 2 FP16" in starred
    assert "30.0%" in starred
    for name in ("all FP32", "all FP16", "all INT8"):
        assert name in result.stdout
    assert "block0.conv0 .. block0.conv1 (2)" in result.stdout


def test_it_says_why_layers_are_not_in_int8(make_run):
    result = select(make_run(), "--budget", "2")
    place = result.stdout.splitlines().index("Why these are not in INT8:")
    assert result.stdout.splitlines()[place + 1] == (
        "- block1.conv0 to block1.conv1 (2 layers): with block1.conv0 and block1.conv1 in INT8 too "
        "(trial 2): fid 13.5 ± 0.2, limit 12"
    )
    assert "Why these" not in select(make_run(), "--budget", "100").stdout


def test_looking_changes_no_map_and_says_which_one_is_on_disk(make_run):
    run = make_run()
    path = RunPaths(run).precision_map_path
    assert f"Not written: {path} holds no map yet; the same command with --write puts trial 3 there" in (
        select(run, "--budget", "2").stdout
    )
    assert not path.exists()
    written = select(run, "--budget", "2", "--write").stdout
    assert written.splitlines()[-2:] == [
        f"Written: {path}, where there was no map yet",
        f"Ship it: qsens export {path.parent} --for {suggested_target()}",
    ]
    before = path.read_bytes()
    looked = select(run, "--budget", "100").stdout.splitlines()[-1]
    assert looked.startswith(f"Not written: {path} holds trial 3 (budget 2); the same command with --write")
    assert "holds this map already (budget 2)" in select(run, "--budget", "2.5", "--json").stderr
    assert select(run, "--budget", "0.1").exit_code == 0
    assert path.read_bytes() == before


def test_a_map_that_saves_nothing_says_so_and_names_what_finds_more(make_run):
    run = make_run()
    result = select(run, "--budget", "0.1", "--write")
    assert "saves next to nothing: 0.0% of the MACs are in INT8. --strategy guided looks" in result.stdout
    (note,) = read_precision_map(RunPaths(run).precision_map_path).document["notes"]
    assert note in result.stdout
    assert note in read_run(run).notes
    assert "saves next to nothing" not in select(run, "--budget", "2").stdout


@pytest.mark.parametrize(
    ("strategy", "options", "text"),
    [
        ("ends", {}, "--strategy guided looks for the most"),
        ("boundary+guided", {"by": "block"}, "--by layer may find more"),
        ("exhaustive", {}, "The search found no more within these limits"),
        ("guided", {}, "The search found no more within these limits"),
    ],
)
def test_what_finds_more_is_not_what_was_done(searched_run, strategy, options, text):
    spec = SweepSpec(strategy=strategy, strategy_options=Options.of(options), budget="0.1")
    assert text in select(searched_run(spec)).stdout


def test_a_budget_that_was_not_searched_for_is_no_budget_for_fp16_everywhere(make_run):
    run = make_run(SweepSpec(strategy="guided", budget="100"))
    result = select(run, "--budget", "0.1")
    assert result.exit_code == 3
    assert "no search was made for --budget 0.1, that of this run was for 100" in result.stderr
    assert f"qsens sweep --spec {run}/spec.toml --out {run} --budget 0.1" in result.stderr
    with pytest.raises(BudgetError, match=r"no search was made for --budget 0\.1"):
        qsens.select(run, budget="0.1")


def test_a_budget_in_an_alteration_that_was_not_scored_names_the_command_that_scores_it(make_run):
    run = make_run()
    result = select(run, "--budget", "jpeg:90")
    assert result.exit_code == 2
    assert "jpeg:90 was not scored in this run" in result.stderr
    assert f"qsens sweep --spec {run}/spec.toml --out {run} --yardsticks jpeg:90" in result.stderr


def test_a_map_with_int8_for_a_budget_that_was_not_searched_for_says_so(make_run):
    run = make_run(SweepSpec(strategy="guided", budget="100"))
    text = "No search was made for --budget 2 --guard 3, that of this run was for 100"
    result = select(run, "--budget", "2", "--guard", "3", "--write")
    assert text in result.stdout
    assert any(text in note for note in read_run(run).notes)
    assert text in qsens.select(run, budget="2", guard="3").notes[0]
    assert "No search was made" not in select(run, "--budget", "100").stdout


def test_a_run_that_was_searched_for_a_budget_says_nothing_of_searches(searched_run):
    run = searched_run(SweepSpec(strategy="guided", budget="2"))
    assert "search was made" not in select(run).stdout
    other = select(run, "--budget", "1.2")
    assert "that of this run was for 2" in other.stdout + other.stderr


@pytest.mark.parametrize("strategy", ["boundary", "one-at-a-time+ends", "additive"])
def test_maps_that_no_budget_decides_answer_every_budget(searched_run, strategy):
    shown = select(searched_run(SweepSpec(strategy=strategy)), "--budget", "1.2")
    assert shown.exit_code == 0, shown.stderr
    assert "search was made" not in shown.stdout


def test_a_search_that_was_stopped_is_not_finished(make_run):
    run = make_run(SweepSpec(strategy="guided", budget="2"))
    assert "The search for --budget 2 is not finished" in select(run).stdout


def test_json_is_what_the_file_holds_with_the_reasons(make_run):
    run = make_run()
    document = json.loads(select(run, "--budget", "2", "--json", "--write").stdout)
    assert document == read_precision_map(RunPaths(run).precision_map_path).document
    assert document["reasons"][LAYERS[2].name]["trials"] == [2]


def test_the_budget_of_the_spec_is_used_and_a_flag_wins(make_run):
    run = make_run(SweepSpec(budget="100"))
    assert select(run, "--json", "--write").exit_code == 0
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


def test_pictures_equal_to_those_of_fp32_have_an_infinite_psnr(make_run):
    def psnr(trial):
        value = 100.0 if trial.number == 0 else 40.0
        return replace(trial, scores=(Score("psnr", value, 8, "fp32", lower_is_better=False),))

    run = make_run(change=psnr)
    result = select(run, "--budget", "35")
    fp32 = next(line for line in result.stdout.splitlines() if "all FP32" in line)
    assert "∞" in fp32
    assert "100" not in fp32.replace("100.0%", "")
    assert '"value":100.0' in RunPaths(run).journal_path.read_text()


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


def test_layers_that_the_engine_runs_otherwise_are_counted_and_named(make_run):
    def mismatch(trial):
        return replace(trial, mismatches=(LAYERS[1].name, LAYERS[2].name))

    shown = select(make_run(change=mismatch), "--budget", "2").stdout
    assert "mismatches" in shown.splitlines()[0]
    assert f"runs 2 layers in another precision: {LAYERS[1].name}, {LAYERS[2].name}" in shown


def test_several_budgets_hold_at_once_and_each_has_its_line(make_run):
    run = make_run()
    assert "* " in select(run, "--budget", "100").stdout
    result = select(run, "--budget", "fid=100", "--budget", "psnr=58")
    assert result.exit_code == 0, result.stderr
    starred = next(line for line in result.stdout.splitlines() if line.startswith("*"))
    assert "first 2 INT8, last 2 FP16" in starred
    assert "fid: 11.25, at most 110 allowed (FP32 10)" in result.stdout
    assert "psnr: 58.75, at least 58 allowed" in result.stdout
    document = json.loads(select(run, "--budget", "fid=100", "--budget", "psnr=58", "--json").stdout)
    assert document["budget"]["text"] == "fid=100, psnr=58"
    (other,) = document["budget"]["others"]
    assert (other["metric"], other["threshold"]) == ("psnr", 58)


WRONG = [
    (["--budget", "2", "--budget", "3"], 2, "two budgets on the same score: 2, 3"),
    (["--budget", "2", "--budget", "lpips=3"], 2, "no score named 'lpips'"),
    (["--budget", "2", "--guard", "fid=1"], 2, "a guard is one amount on a score of its own, not fid=1"),
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


MAPS = {precision.upper(): PrecisionMap(precision) for precision in Precision}
TIMES = {"FP32": 8.0, "FP16": 4.0, "INT8": 1.0, "first two": 3.0}


@pytest.fixture
def make_table(tmp_path):
    def make_table(graph="abc", half_width=0.01, **more):
        maps = {**MAPS, "first two": FIRST_TWO}
        entries = [
            measured(name, maps[name], LAYERS, ms, half_width=half_width, batch=batch)
            for name, ms in {**TIMES, **more}.items()
            for batch in (1, 16)
        ]
        return str(write_table(tmp_path / "board.json", entries, LAYERS, graph=graph))

    return make_table


def test_with_a_latency_file_the_fastest_map_is_chosen_and_the_file_recorded(make_run, make_table):
    run = make_run()
    result = select(run, "--budget", "2", "--latency", make_table(), "--write")
    assert result.exit_code == 0, result.stderr
    assert (
        "Time: 3.000 ± 0.010 ms on Test Board, openvino 1.0, batch 1, 2.67x as fast as FP32" in result.stdout
    )
    assert "8.000 ± 0.010" in result.stdout
    latency = read_precision_map(RunPaths(run).precision_map_path).document["latency"]
    assert (latency["device"], latency["median_ms"], latency["fp32_median_ms"]) == ("Test Board", 3.0, 8.0)
    assert latency["does_int8_pay"] is True
    assert latency["file"] == "board.json"
    assert len(latency["file_digest"]) == 16


def test_where_int8_gains_nothing_the_text_says_ship_fp16(make_run, make_table):
    run = make_run()
    result = select(run, "--budget", "2", "--latency", make_table(**{"first two": 4.0}), "--write")
    assert "INT8 does not pay on Test Board: ship FP16." in result.stdout
    assert "trial 3, takes 4.000 ± 0.010 ms" in result.stdout
    exported = read_precision_map(RunPaths(run).precision_map_path)
    assert exported.precision_map == PrecisionMap(Precision.FP16)
    assert exported.document["latency"]["does_int8_pay"] is False


def test_a_measured_engine_that_runs_something_else_is_warned_of(make_run, tmp_path):
    entry = measured("MIX", FIRST_TWO, LAYERS, 3.0, mismatches=(LAYERS[1].name,))
    table = write_table(tmp_path / "board.json", [entry], LAYERS)
    result = select(make_run(), "--budget", "2", "--latency", str(table))
    assert (
        f"Warning: the measured engine runs these in another precision than it should: {LAYERS[1].name}."
        in (result.stdout)
    )


def test_the_best_score_within_a_time_limit(make_run, make_table):
    run, table = make_run(), make_table()
    result = select(run, "--latency", table, "--latency-limit", "3.5", "--batch", "16", "--write")
    assert "batch 16" in result.stdout
    assert "at most 3.5 ms allowed" in result.stdout
    document = read_precision_map(RunPaths(run).precision_map_path).document
    assert document["precision_map"] == FIRST_TWO.to_json()
    assert document["budget"]["text"] == "at most 3.5 ms"
    late = select(run, "--latency", table, "--latency-limit", "0.5")
    assert late.exit_code == 3
    assert "the fastest is trial 2" in late.stderr


def test_the_front_of_measured_times_is_listed_without_a_budget(make_run, make_table):
    run, table = make_run(), make_table(FP16=3.5)
    result = select(run, "--latency", table)
    assert "no other beats in both time and fid" in result.stdout
    assert "Times: Test Board" in result.stdout
    front = json.loads(select(run, "--latency", table, "--json").stdout)["front"]
    assert [entry["median_ms"] for entry in front] == sorted(entry["median_ms"] for entry in front)


TIME_WRONG = [
    (["--batch", "16"], 2, "--batch needs measured times"),
    (["--latency-limit", "5"], 2, "--latency-limit needs measured times"),
    (["--latency", "absent.json", "--budget", "2"], 2, "absent.json"),
    (["--latency", "TABLE", "--batch", "4", "--budget", "2"], 2, "not measured at batch 4"),
    (["--latency", "OTHER", "--budget", "2"], 2, "measured on graph other, the run was scored on graph abc"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), TIME_WRONG)
def test_a_wrong_time_is_one_clear_error(make_run, make_table, arguments, code, text):
    given = [
        make_table() if part == "TABLE" else make_table(graph="other") if part == "OTHER" else part
        for part in arguments
    ]
    result = select(make_run(), *given)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Hint" in result.stderr
