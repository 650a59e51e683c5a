"""`qsens sweep --strategy guided`: what it ends with, for each aim that it may have."""

import pytest
from tiny_runs import sweep

from qsens.core.trial import Outcome
from qsens.run.decisions import read_decisions
from qsens.run.folder import read_study
from qsens.run.paths import RunPaths

pytestmark = pytest.mark.usefixtures("no_report")
GUIDED = ("--strategy", "guided", "--screen-samples", "2")


def test_a_budget_ends_with_a_chosen_map_and_says_how_the_search_ended(generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", *GUIDED, "--budget", "20")
    assert result.exit_code == 0, result.stderr
    assert "Search: " in result.stdout
    assert RunPaths(tmp_path / "run").precision_map_path.exists()
    assert RunPaths(tmp_path / "run").decisions_path.exists()


def test_a_least_saving_ends_with_the_map_that_was_found(generator, photos, tmp_path):
    run = tmp_path / "run"
    result = sweep(generator, photos, run, *GUIDED, "--option", "strategy.least_saving=0.5")
    assert result.exit_code == 0, result.stderr
    last = read_decisions(RunPaths(run).decisions_path)[-1]
    (number,) = last.trials
    trial = read_study(run).trials[number]
    assert trial.outcome is Outcome.SCORED
    assert f"Search: {last.text} (trial {number})" in result.stdout
    assert f"qsens export {run} --for openvino --trial {number}" in result.stdout
    assert not RunPaths(run).precision_map_path.exists()


def test_a_search_that_ran_out_of_time_says_so(generator, photos, tmp_path):
    more = ("--budget", "60", "--option", "strategy.time_limit_s=0")
    result = sweep(generator, photos, tmp_path / "run", *GUIDED, *more)
    assert "Search: The search ended at its time limit of 0 s" in result.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("front=x", "the strategy 'guided' has front='x', which is no whole number"),
        ("least_saving=80%", "the strategy 'guided' has least_saving='80%', which is no number"),
        ("time_limit_s=5m", "the strategy 'guided' has time_limit_s='5m', which is no number"),
        ("explain=1", "the strategy 'guided' has explain=1"),
    ],
)
def test_an_option_of_another_type_is_refused_before_there_is_a_folder(
    option, said, generator, photos, tmp_path
):
    result = sweep(generator, photos, tmp_path / "run", *GUIDED, "--option", f"strategy.{option}")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "run").exists()


def test_screens_that_would_be_no_smaller_are_said_to_be_left_out(generator, photos, tmp_path):
    more = ("--budget", "60", "--screen-samples", "9")
    result = sweep(generator, photos, tmp_path / "run", "--strategy", "boundary+guided", *more)
    assert "screens of 9 samples would be no smaller than the 4 there are: none is made" in result.stderr
    assert {trial.outcome for trial in read_study(tmp_path / "run").trials} == {Outcome.SCORED}
    quiet = sweep(generator, photos, tmp_path / "cuts", "--strategy", "boundary", "--screen-samples", "9")
    assert "screens of" not in quiet.stderr
