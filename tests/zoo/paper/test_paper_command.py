import csv
import json

import pytest
import torch
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.zoo.corpus.writing import CorpusPlan, write_corpus
from qsens.zoo.wav2lip.generator import Wav2Lip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole command on a random student and 15 frames, by block and without an extractor."""
    folder = tmp_path_factory.mktemp("paper")
    torch.manual_seed(0)
    torch.save(Wav2Lip(0.25, residual=False).state_dict(), folder / "student.pt")
    for name, seed in (("calibration", 1), ("evaluation", 2)):
        plan = CorpusPlan(seed=seed, frames_per_clip=5)
        write_corpus(folder / name, plan, 15, 1, lambda *_: None)
    command = [
        "zoo", "paper", str(folder / "student.pt"), "--calibration", str(folder / "calibration"),
        "--evaluation", str(folder / "evaluation"), "--by", "block", "--metric", "psnr",
        "--metric", "mouth-sync", "--option", "strategy.direction=int8-first", "--out", str(folder / "out"),
    ]  # fmt: skip
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "out", command


def test_everything_is_written(made):
    out, _ = made
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    figures = {
        f"figures/{stem}.{kind}" for stem in ("figure1", "figure3", "figure4") for kind in ("png", "svg")
    }
    tables = ("figure1", "figure3", "figure4", "table1", "table2-sizes", "table2-quality")
    assert figures | {f"{name}.csv" for name in tables} | {"paper.md", "paper.html"} <= names
    assert "sweep-student/report.html" in names


def test_table_1_holds_the_scores_of_the_sweep(made):
    out, _ = made
    trials = [json.loads(line) for line in (out / "sweep-student/journal.jsonl").read_text().splitlines()[1:]]
    int8 = next(t for t in trials if t["requested"] == {"default": "int8", "overrides": {}})
    scored = {score["metric"]: score["value"] for score in int8["scores"]}
    with (out / "table1.csv").open() as file:
        records = [
            row for row in csv.DictReader(file) if (row["generator"], row["map"]) == ("student", "INT8")
        ]
    shown = {row["quantity"]: row["ours"] for row in records}
    assert float(shown["PSNR"]) == pytest.approx(scored["psnr"])
    assert float(shown["mouth-sync"]) == pytest.approx(scored["mouth-sync"])


def test_the_same_command_resumes_and_runs_no_map_again(made):
    out, command = made
    before = (out / "sweep-student/journal.jsonl").read_bytes()
    drawn = (out / "sweep-student/report.html").stat().st_mtime_ns
    result = CliRunner().invoke(main, [*command, "--only", "table1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (out / "sweep-student/journal.jsonl").read_bytes() == before
    assert (out / "sweep-student/report.html").stat().st_mtime_ns == drawn
