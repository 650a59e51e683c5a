"""What goes wrong after a run has begun: one clear message, and nothing computed is lost."""

import errno
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_plugins import install
from tiny_runs import (
    SMALL,
    journal_lines,
    keep_trials,
    qsens,
    sweep,
    without_durations,
    write_arrays,
    write_images,
)

from qsens.device.leftovers import process_mark
from qsens.run.folder import RunFolder, read_run_spec
from qsens.run.paths import RunPaths

MAPS = 9


def fill_disk_for(path):
    """Writing this file fails as on a full disk: what becomes the file is the device that is always full."""
    if path.name != "spec.toml":  # what a folder is known by; the others are written only where absent
        path.unlink(missing_ok=True)
    path.with_name(f".{path.name}.{process_mark()}.partial").symlink_to("/dev/full")


@contextmanager
def largest_file(size_bytes):
    """No file of this process may grow beyond that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_says(result, message, hint, *, exit_code=1):
    assert result.exit_code == exit_code, result.output
    said = result.stderr.strip().splitlines()[-2:]
    assert said[0].startswith("Error: ")
    assert message in said[0]
    assert said[1].startswith("Hint: ")
    assert hint in said[1]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("ranges.npz", 4),
        ("evidence/trial-00005.npz", 5),
        ("spec.toml", 4),
        ("precision_map.json", MAPS),
        pytest.param("evidence/fp32-images.npy", 0, marks=pytest.mark.slow),
        pytest.param("evidence/trial-00000.npz", 0, marks=pytest.mark.slow),
        pytest.param("samples/trial-0006.npz", 6, marks=pytest.mark.slow),
        pytest.param("layers.csv", 4, marks=pytest.mark.slow),
        pytest.param("provenance.json", 4, marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_is_full_loses_nothing(name, kept, run, generator, photos):
    complete = without_durations(run)
    keep_trials(run, kept)
    fill_disk_for(run / name)
    options = ("--budget", "40")
    assert_says(sweep(generator, photos, run, *options), f"no space left while writing {run / name}", "free")
    assert len(journal_lines(run)) == 1 + kept

    assert sweep(generator, photos, run, *options).exit_code == 0
    assert without_durations(run) == complete


def test_a_disk_that_is_full_while_the_journal_grows(run, generator, photos, monkeypatch):
    complete = without_durations(run)
    keep_trials(run, 4)
    real = os.pwrite

    def half_then_full(file, content, offset):
        if len(content) > 100:
            return real(file, content[:100], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("qsens.run.journal.os.pwrite", half_then_full)
        result = sweep(generator, photos, run)
    assert_says(result, f"no space left while writing {run / 'journal.jsonl'}", "free some space")
    assert len(journal_lines(run)) == 1 + 4, "a torn line was left"
    assert sweep(generator, photos, run).exit_code == 0
    assert without_durations(run) == complete


def test_a_file_size_limit_while_the_journal_grows(generator, photos, tmp_path, no_report):
    out, options = tmp_path / "run", ("--strategy", "exhaustive", "--by", "layer")
    # What ONNX Runtime holds of the tiny generator takes 6 KB, the journal of 17 trials more.
    with largest_file(8000):
        result = sweep(generator, photos, out, *options)
    assert_says(result, f"no space left while writing {out / 'journal.jsonl'}", "run the same command again")
    done = len(journal_lines(out)) - 1
    assert 3 <= done < 17
    assert sweep(generator, photos, out, *options).exit_code == 0
    assert len(journal_lines(out)) == 1 + 17


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report.html", "trials.csv", "figures/boundary.png"])
def test_a_disk_that_is_full_while_the_report_is_written(name, generator, photos, whole, tmp_path, request):
    if not name.startswith("figures"):
        request.getfixturevalue("no_figures")
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    (out / name).parent.mkdir(exist_ok=True)
    fill_disk_for(out / name)
    assert_says(sweep(generator, photos, out), f"no space left while writing {out / name}", "free some space")
    assert len(journal_lines(out)) == 1 + MAPS
    result = qsens("report", out)
    assert result.exit_code == 0, result.stderr
    assert (out / name).stat().st_size > 100


def test_a_run_folder_of_another_spec_is_refused_with_the_difference(run, generator, photos):
    before = RunPaths(run).journal_path.read_bytes()
    result = sweep(generator, photos, run, "--placement", "dense", "--seed", "7")
    assert_says(result, 'placement: "residual" -> "dense"; seed: 0 -> 7', "another folder with --out")
    assert RunPaths(run).journal_path.read_bytes() == before


def test_a_run_folder_of_other_photographs_is_refused(run, generator, tmp_path):
    others = write_images(tmp_path / "others" / "photos", seed=5)
    before = RunPaths(run).journal_path.read_bytes()
    (tmp_path / "sweep.toml").write_text(f'calibration = "{others}"\n')
    result = sweep(generator, others, run)
    assert_says(result, "photos", "--out")
    assert RunPaths(run).journal_path.read_bytes() == before


def test_a_run_folder_that_another_process_writes_is_refused(run, generator, photos):
    with RunFolder.open(run, read_run_spec(run)):
        result = sweep(generator, photos, run)
    assert_says(result, f"{run} is being written by another process (process {os.getpid()} on ", "--out")
    assert len(journal_lines(run)) == 1 + MAPS


def test_a_journal_with_a_line_of_something_else_names_the_line(run, generator, photos):
    path = RunPaths(run).journal_path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"not a trial\n", *lines[3:]]))
    result = sweep(generator, photos, run)
    assert_says(result, f"line 4 of {path} is corrupt", "delete that line")
    path.write_bytes(b"".join(lines))
    assert sweep(generator, photos, run).exit_code == 0


def test_a_photograph_that_is_damaged_inside_ends_the_run_where_it_is_read(
    generator, photos, tmp_path, no_report
):
    evaluation = write_images(tmp_path / "evaluation", 3)
    # The first and the last sample are looked at before anything is scored.
    damaged = evaluation / "photo-001-damaged.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(damaged)
    # The header of a JPEG is whole; what is missing is found when the pixels are read.
    damaged.write_bytes(damaged.read_bytes()[:-60])
    out = tmp_path / "run"
    options = ("--evaluation", evaluation, "--batch-size", "1")
    assert_says(sweep(generator, photos, out, *options), str(damaged), "replace the file")
    assert len(journal_lines(out)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_array_that_is_not_finite_ends_the_run_where_it_is_read(value, generator, tmp_path, no_report):
    samples = [{"image": np.full((3, 16, 16), 0.5, np.float32)} for _ in range(6)]
    samples[4]["image"][1, 2, 3] = value
    arrays = write_arrays(tmp_path / "arrays", samples)
    result = sweep(generator, arrays, tmp_path / "run", "--calibration-samples", "3")
    assert_says(result, "sample-004.npz: array 'image' holds NaN or infinity", "replace or remove the file")


@pytest.fixture
def broken_plugin(tmp_path, monkeypatch):
    """An installed distribution whose modules cannot be imported."""
    site = tmp_path / "site"
    groups = ("generators", "backends", "metrics", "strategies")
    points = "".join(f"[qsens.{group}]\nbroken = broken_plugin:anything\n" for group in groups)
    install(site, "broken-tools", points)
    (site / "broken_plugin.py").write_text('raise ValueError("no licence key")\n')
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize(
    ("flag", "noun"),
    [("--model", "generator"), ("--backend", "backend"), ("--strategy", "strategy"), ("--metric", "metric")],
)
def test_a_broken_plugin_is_named_when_it_is_asked_for(
    flag, noun, broken_plugin, generator, photos, tmp_path
):
    result = sweep(generator, photos, tmp_path / "run", flag, "broken")
    reason = "cannot be imported: ValueError: no licence key"
    assert_says(result, f"the {noun} 'broken' (broken-tools) {reason}", "install broken-tools again")
    assert not (tmp_path / "run").exists()


def test_a_broken_plugin_that_nobody_asked_for_is_listed_and_harms_nothing(
    broken_plugin, generator, photos, tmp_path, no_report
):
    assert sweep(generator, photos, tmp_path / "run").exit_code == 0
    listed = qsens("plugins")
    assert listed.exit_code == 0
    lines = [line for line in listed.stdout.splitlines() if "broken-tools" in line]
    assert len(lines) == 4
    assert all("ValueError: no licence key" in line for line in lines)
    assert "no licence key" in qsens("doctor").stdout


def test_a_plan_refuses_what_a_sweep_would(generator, photos):
    small = [value for value in SMALL if value not in ("--metric", "psnr")]
    result = qsens("plan", generator, "--calibration", photos, *small, "--metric", "psnr", "--pin", "x=fp16")
    assert_says(result, "pattern 'x' matches no layer", "", exit_code=2)


FAILING = """
class Failing:
    name, digest, flavour, provider = "failing", "0", "exact", "cpu"
    lower_is_better, needs_features, needs_reference = True, False, False

    def __init__(self, *_):
        pass

    def fail(self, *_):
        return {}["its own key"]

    export = build = propose = label = start = fail
"""


@pytest.fixture
def failing_plugin(tmp_path, monkeypatch):
    """An installed distribution whose plug-ins raise in whatever they are called for."""
    site = tmp_path / "site"
    groups = ("generators", "backends", "metrics", "strategies")
    install(
        site,
        "failing-tools",
        "".join(f"[qsens.{group}]\nfailing = failing_plugin:Failing\n" for group in groups),
    )
    (site / "failing_plugin.py").write_text(FAILING)
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize("flag", ["--model", "--backend", "--strategy", "--metric"])
def test_a_mistake_in_a_plugin_shows_the_lines_of_the_plugin_alone(
    flag, failing_plugin, generator, photos, tmp_path
):
    result = sweep(generator, photos, tmp_path / "run", flag, "failing")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Error: "))
    assert "'failing' (failing-tools) failed: KeyError: 'its own key'" in lines[start]
    places = [line for line in lines[start:] if line.strip().startswith("File ")]
    assert places
    assert all("failing_plugin.py" in place for place in places)
    assert lines[-1].startswith("Hint: ")
    assert "--debug" in lines[-1]


def test_a_mistake_in_a_plugin_can_be_seen_whole(failing_plugin, generator, photos, tmp_path):
    result = qsens(
        "--debug",
        "sweep",
        generator,
        "--calibration",
        photos,
        "--out",
        tmp_path / "run",
        "--model",
        "failing",
    )
    assert "Traceback" in result.stderr
    assert "qsens/run/open.py" in result.stderr or "qsens/run/sweep.py" in result.stderr


@pytest.mark.parametrize("threads", [-1, 100_000])
def test_threads_of_a_backend_have_the_bounds_of_the_spec(threads, generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", "--option", f"backend.threads={threads}")
    assert_says(result, f"'threads' is {threads}", "up to 1,024", exit_code=2)
