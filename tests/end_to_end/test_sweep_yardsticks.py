"""Yardsticks and budgets in words, as a user has them: sweep, then select."""

import json

import pytest
from tiny_runs import end_with_the_choice, qsens, sweep


@pytest.fixture(scope="module")
def swept(generator, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("yardsticks") / "run"
    words = ("--yardsticks", "jpeg:95,noise:8", "--budget", "noise:8", "--strategy", "guided")
    with pytest.MonkeyPatch.context() as patch:
        end_with_the_choice(patch)
        return out, sweep(generator, photos, out, *words)


def test_a_search_keeps_to_what_an_alteration_costs(swept):
    out, result = swept
    assert result.exit_code == 0, result.stderr
    trials = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()[1:]]
    chosen = json.loads((out / "precision_map.json").read_text())
    limit = chosen["budget"]["allowance"]

    assert chosen["budget"]["text"] == "noise:8"
    assert 29 < limit < 31  # noise of 8 levels: 30.1 dB
    assert chosen["trial"] in [trial["number"] for trial in trials]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "jpeg:80"], "jpeg:80 was not scored"),
        (["--budget", "jpg:80"], "no alteration and no score"),
        (["--guard", "jpeg:95", "--budget", "jpeg:95"], "fid-fp32"),
    ],
)
def test_select_says_what_there_is_to_choose_by(swept, arguments, said):
    result = qsens("select", swept[0], *arguments)

    assert result.exit_code != 0
    assert said in result.stderr


def test_the_alteration_of_a_later_budget_is_scored_by_the_same_sweep_without_scoring_a_map(
    swept, generator, photos, no_report
):
    out, _ = swept
    before = (out / "journal.jsonl").read_text()
    words = ("--yardsticks", "none", "--strategy", "guided", "--budget", "noise:9")
    assert sweep(generator, photos, out, *words).exit_code == 0

    assert (out / "journal.jsonl").read_text().startswith(before)
    result = qsens("select", out, "--budget", "noise:9")
    assert result.exit_code == 0, result.stderr


def test_an_unknown_yardstick_is_refused_with_the_list(generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", "--yardsticks", "jpeg:95,jpeg:120")

    assert result.exit_code == 2
    assert "jpeg:120" in result.stderr
    assert "blur:X" in result.stderr
    assert not (tmp_path / "run").exists()


def test_select_shows_the_scale_of_every_score_and_where_the_maps_are_on_it(swept):
    shown, as_json = (
        qsens("select", swept[0], "--budget", "noise:8", *json_).stdout for json_ in ((), ("--json",))
    )

    assert "FP32, JPEG 95" in shown
    assert "FP32, noise of 8 levels" in shown
    assert "The chosen map costs" in shown
    assert "allowed (noise of 8 levels)" in shown
    names = [entry["alteration"] for entry in json.loads(as_json)["yardsticks"]]
    assert names[:2] == ["jpeg:95", "noise:8"]
