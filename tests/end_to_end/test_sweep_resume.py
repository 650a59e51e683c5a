"""A sweep that is stopped, killed or damaged goes on with the same command and ends the same."""

import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from slow_plugins import install, start_qsens
from tiny_runs import (
    journal_lines,
    keep_trials,
    qsens,
    sweep,
    without_durations,
    write_generator,
    write_images,
)

from qsens.calibration.ranges import load_ranges
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.paths import RunPaths

pytestmark = pytest.mark.usefixtures("no_report")

MAPS = 9
SLOW = ("--metric", "mean-level")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds the distribution of the slow metric."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "mean-level", "[qsens.metrics]\nmean-level = slow_plugins:MeanLevel\n")
    return folder


@pytest.fixture
def with_plugins(site, monkeypatch):
    monkeypatch.syspath_prepend(site)


def evidence_of(run):
    found = {}
    for path in sorted(RunPaths(run).evidence.glob("*.npz")):
        with np.load(path) as file:
            found |= {f"{path.name}/{key}": file[key].tolist() for key in file}
    return found


def wait_for_lines(run, count, process):
    deadline = time.monotonic() + 60
    path = RunPaths(run).journal_path
    while not (path.exists() and path.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.01)


def test_the_same_command_again_scores_nothing_and_says_the_same(
    generator, photos, whole, tmp_path, monkeypatch
):
    first = sweep(generator, photos, tmp_path / "run", "--budget", "45")
    before = RunPaths(tmp_path / "run").journal_path.read_bytes()

    def refuse(self, lowered):
        raise AssertionError("a map was built again")

    monkeypatch.setattr(OnnxRuntimeBackend, "build", refuse)
    second = sweep(generator, photos, tmp_path / "run", "--budget", "45")
    assert (second.exit_code, second.stdout) == (0, first.stdout)
    assert RunPaths(tmp_path / "run").journal_path.read_bytes() == before
    assert without_durations(tmp_path / "run") == without_durations(whole)


def test_threads_and_budget_may_change_between_two_runs(generator, photos, run):
    result = sweep(generator, photos, run, "--threads", "2", "--budget", "40")
    assert result.exit_code == 0, result.stderr
    assert "at least 40 allowed" in result.stdout


@pytest.mark.parametrize("kept", [0, 1, 2, 5, MAPS])
def test_any_prefix_of_the_journal_is_completed_to_the_same_run(kept, generator, photos, whole, run):
    keep_trials(run, kept, torn=True)
    result = sweep(generator, photos, run)
    assert result.exit_code == 0, result.stderr
    assert without_durations(run) == without_durations(whole)
    assert evidence_of(run) == evidence_of(whole)


DAMAGE = {
    "ranges gone": ["ranges.npz"],
    "FP32 pictures gone": ["evidence/fp32-images.npy"],
    "FP32 evidence gone": ["evidence/trial-00000.npz"],
    "all evidence gone": ["evidence/fp32-images.npy", *(f"evidence/trial-0000{n}.npz" for n in range(MAPS))],
    "samples gone": ["samples/trial-0000.npz"],
}


@pytest.mark.parametrize("how", ["deleted", pytest.param("torn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("files", DAMAGE.values(), ids=DAMAGE)
def test_what_a_run_kept_is_made_again_where_it_is_needed(how, files, generator, photos, whole, run):
    keep_trials(run, 4)
    for name in files:
        path = run / name
        if how == "deleted":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = sweep(generator, photos, run)
    assert result.exit_code == 0, result.stderr
    assert without_durations(run) == without_durations(whole)
    ranges, expected = (np.load(folder / "ranges.npz")["digest"] for folder in (run, whole))
    assert load_ranges(RunPaths(run).ranges_path, str(expected)) is not None
    assert str(ranges) == str(expected)
    for number in range(4, MAPS):
        assert (run / f"evidence/trial-0000{number}.npz").exists()


def arguments_of(generator, photos, run, *more):
    return (
        *("sweep", generator, "--calibration", photos, "--out", run, "--metric", "psnr"),
        *("--calibration-samples", "2", "--evaluation-samples", "4", "--batch-size", "4"),
        *("--threads", "1", "--ranges", "minmax", "--strategy", "boundary", *more),
    )


def finish(generator, photos, run, *more):
    result = sweep(generator, photos, run, *more)
    assert result.exit_code == 0, result.stderr
    assert len(journal_lines(run)) == MAPS + 1
    return without_durations(run)


@pytest.fixture
def uninterrupted(generator, photos, with_plugins, tmp_path):
    return finish(generator, photos, tmp_path / "uninterrupted", *SLOW)


@pytest.mark.slow
def test_ctrl_c_while_scoring(generator, photos, site, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = start_qsens(*arguments_of(generator, photos, run, *SLOW), site=site, MEAN_LEVEL_S="0.3")
    wait_for_lines(run, 3, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    done = len(journal_lines(run)) - 1
    assert process.returncode == 130
    assert said.splitlines()[-2:] == [
        f"Stopped after {done} maps, all of them saved",
        "Hint: the same command goes on where this one stopped",
    ]
    assert 2 <= done < MAPS
    assert finish(generator, photos, run, *SLOW) == uninterrupted


@pytest.mark.slow
def test_ctrl_c_while_calibrating(generator, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    samples = "slow_plugins:slow_samples"
    expected = finish(generator, samples, tmp_path / "uninterrupted")
    run = tmp_path / "run"
    process = start_qsens(*arguments_of(generator, samples, run), site=tmp_path, SAMPLE_S="0.4")
    wait_for_lines(run, 1, process)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-2:] == [
        "Stopped while calibrating, before the first map",
        "Hint: the same command goes on where this one stopped",
    ]
    assert not RunPaths(run).ranges_path.exists()
    assert finish(generator, samples, run) == expected


def test_ctrl_c_while_the_report_is_written(generator, photos, run, monkeypatch):
    def interrupted(folder, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr("qsens.report.write.write_report", interrupted)
    result = sweep(generator, photos, run)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-2:] == [
        f"Stopped while writing the report, all {MAPS} maps are saved",
        f"Hint: write it with: qsens report {run}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(seed, generator, photos, site, uninterrupted, tmp_path):
    generator_of_moments = random.Random(seed)
    run = tmp_path / "run"
    seen = 0
    for _ in range(3):
        process = start_qsens(*arguments_of(generator, photos, run, *SLOW), site=site, MEAN_LEVEL_S="0.05")
        # Start-up takes most of a second, the maps half a second, the report some more.
        time.sleep(generator_of_moments.uniform(0.3, 2.5))
        process.kill()
        process.communicate()
        journal = RunPaths(run).journal_path
        done = journal.read_bytes().count(b"\n") if journal.exists() else 0
        assert done >= seen, "a finished trial was lost"
        seen = done
    assert finish(generator, photos, run, *SLOW) == uninterrupted


def test_the_spec_of_a_run_resumes_it_and_repeats_it(generator, photos, run, whole, tmp_path):
    keep_trials(run, 4)
    assert qsens("sweep", "--spec", run / "spec.toml", "--out", run).exit_code == 0
    assert without_durations(run) == without_durations(whole)
    assert qsens("sweep", "--spec", run / "spec.toml", "--out", tmp_path / "again").exit_code == 0
    assert without_durations(tmp_path / "again") == without_durations(whole)


def test_a_project_that_was_moved_goes_on(tmp_path, monkeypatch):
    project = tmp_path / "project"
    write_images(project / "photos")
    write_generator(project / "generator.onnx")
    monkeypatch.chdir(project)
    assert sweep(Path("generator.onnx"), "photos", Path("reports/first")).exit_code == 0
    expected = without_durations(project / "reports/first")
    keep_trials(project / "reports/first", 3)
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    result = sweep(Path("generator.onnx"), "photos", Path("reports/first"))
    assert result.exit_code == 0, result.stderr
    assert without_durations(tmp_path / "moved/reports/first") == expected


def test_a_changed_option_is_refused_before_anything_is_opened(run, generator, photos, monkeypatch):
    monkeypatch.setattr("qsens.api.open_sweep", lambda *_, **__: pytest.fail("opened"))
    result = sweep(generator, photos, run, "--ranges", "mse")
    assert result.exit_code == 1
    assert 'was made with another spec: range_method: "minmax" -> "mse"' in result.stderr
    assert "Opening" not in result.stderr
