"""A sweep on several workers: the run of one process, also when a worker, the cluster or the user stops."""

import json
import os
import signal
import sys
import time

import numpy as np
import onnx
import psutil
import pytest
from slow_plugins import install, start_qsens
from tiny_runs import chain, journal_lines, keep_trials, qsens, sweep, without_durations

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


@pytest.fixture(scope="module")
def cluster(site):
    """A real Dask cluster: a scheduler and two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEAN_LEVEL_S", "0.2")
        patch.syspath_prepend(site)  # its worker processes take the path of this one
        with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster:
            yield cluster


def lines_without_durations(run):
    """The journal's lines as bytes, durations taken out."""
    lines = journal_lines(run)
    for line in lines[1:]:
        line.pop("duration_s")
    return [json.dumps(line) for line in lines]


def evidence_of(run):
    found = {}
    for path in sorted(RunPaths(run).evidence.glob("*.npz")):
        with np.load(path) as file:
            found |= {f"{path.name}/{key}": file[key].tobytes() for key in file}
    return found


def arguments_of(generator, photos, run, *more):
    return (
        *("sweep", generator, "--calibration", photos, "--out", run, "--metric", "psnr"),
        *("--calibration-samples", "2", "--evaluation-samples", "4", "--batch-size", "4"),
        *("--ranges", "minmax", "--strategy", "boundary", *more),
    )


def wait_for_lines(run, count, process):
    deadline = time.monotonic() + 90
    path = RunPaths(run).journal_path
    while not (path.exists() and path.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.01)


def workers_of(process):
    """The worker processes of a driver, without what they start."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "local_worker" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_two_workers_make_the_run_of_one_process(generator, photos, whole, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", "--workers", "2")
    assert result.exit_code == 0, result.stderr
    assert lines_without_durations(tmp_path / "run") == lines_without_durations(whole)
    assert evidence_of(tmp_path / "run") == evidence_of(whole)
    assert f"{MAPS} of {MAPS}: finished" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_checkpoints_share_the_workers_and_keep_their_own_runs(photos, tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    onnx.save(chain(3), first)
    onnx.save(chain(4), second)
    for checkpoint in (first, second):
        result = sweep(checkpoint, photos, tmp_path / "alone" / checkpoint.stem, "--threads", "1")
        assert result.exit_code == 0, result.stderr
    both = arguments_of(first, photos, tmp_path / "together", "--threads", "1", "--workers", "2")
    result = qsens(*both[:2], second, *both[2:])
    assert result.exit_code == 0, result.stderr
    for name in ("first", "second"):
        together, alone = tmp_path / "together" / name, tmp_path / "alone" / name
        assert lines_without_durations(together) == lines_without_durations(alone)
        assert evidence_of(together) == evidence_of(alone)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_any_number_of_workers_gives_the_same_bytes_with_features_too(generator, photos, tmp_path):
    metrics = ("--metric", "fid-fp32", "--extractor", "lite0", "--evaluation-samples", "5")
    expected = None
    for label, more in {
        "here": ("--threads", "1"),
        **{f"{count} workers": ("--workers", count, "--threads", "0") for count in (1, 3)},
    }.items():
        run = tmp_path / label
        result = sweep(generator, photos, run, *metrics, *more)
        assert result.exit_code == 0, result.stderr
        found = lines_without_durations(run), evidence_of(run)
        expected = expected or found
        assert found == expected, label


@pytest.mark.slow
def test_files_that_all_maps_need_are_made_again_by_one_worker(generator, photos, whole, run):
    keep_trials(run, 3)
    (run / "evidence/fp32-images.npy").unlink()
    result = sweep(generator, photos, run, "--workers", "2")
    assert result.exit_code == 0, result.stderr
    assert without_durations(run) == without_durations(whole)
    assert (run / "evidence/fp32-images.npy").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_killed_in_the_middle_costs_nothing_but_time(
    generator, photos, site, with_plugins, tmp_path
):
    expected = tmp_path / "expected"
    assert sweep(generator, photos, expected, *SLOW).exit_code == 0
    run = tmp_path / "run"
    arguments = arguments_of(generator, photos, run, *SLOW, "--workers", "2")
    process = start_qsens(*arguments, site=site, MEAN_LEVEL_S="0.4")
    for count in (3, 5):
        wait_for_lines(run, count, process)
        workers_of(process)[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert lines_without_durations(run) == lines_without_durations(expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_ends_driver_and_workers_and_the_run_resumes(generator, photos, site, with_plugins, tmp_path):
    expected = tmp_path / "expected"
    assert sweep(generator, photos, expected, *SLOW).exit_code == 0
    run = tmp_path / "run"
    arguments = arguments_of(generator, photos, run, *SLOW, "--workers", "2")
    process = start_qsens(*arguments, site=site, MEAN_LEVEL_S="0.4")
    wait_for_lines(run, 4, process)
    workers = workers_of(process)
    assert len(workers) == 2
    # A terminal sends Ctrl-C to every process in the foreground.
    for receiver in (*workers, process):
        receiver.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-2].startswith("Stopped after ")
    assert said.splitlines()[-1] == "Hint: the same command goes on where this one stopped"
    assert "Traceback" not in said
    assert not any(worker.is_running() for worker in workers)
    assert len(journal_lines(run)) >= 4
    resumed = qsens(*arguments)
    assert resumed.exit_code == 0, resumed.stderr
    assert lines_without_durations(run) == lines_without_durations(expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_makes_the_run_of_one_process(generator, photos, whole, cluster, tmp_path):
    address = cluster.scheduler_address
    result = sweep(generator, photos, tmp_path / "run", "--cluster", address)
    assert result.exit_code == 0, result.stderr
    assert lines_without_durations(tmp_path / "run") == lines_without_durations(whole)
    assert evidence_of(tmp_path / "run") == evidence_of(whole)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_replaces_a_worker_that_is_killed(generator, photos, site, with_plugins, cluster, tmp_path):
    expected = tmp_path / "expected"
    assert sweep(generator, photos, expected, *SLOW).exit_code == 0
    cluster_workers = [nanny.pid for nanny in cluster.workers.values()]
    run = tmp_path / "run"
    address = cluster.scheduler_address
    process = start_qsens(*arguments_of(generator, photos, run, *SLOW, "--cluster", address), site=site)
    wait_for_lines(run, 2, process)
    os.kill(cluster_workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert lines_without_durations(run) == lines_without_durations(expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_that_goes_away_leaves_a_run_that_resumes_here(
    generator, photos, whole, site, with_plugins, tmp_path, monkeypatch
):
    distributed = pytest.importorskip("distributed")
    expected = tmp_path / "expected"
    assert sweep(generator, photos, expected, *SLOW).exit_code == 0
    monkeypatch.setenv("MEAN_LEVEL_S", "0.4")
    run = tmp_path / "run"
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=":0") as cluster:
        arguments = arguments_of(generator, photos, run, *SLOW, "--cluster", cluster.scheduler_address)
        process = start_qsens(*arguments, site=site)
        wait_for_lines(run, 3, process)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "the cluster at" in said
    assert "the same command without --cluster goes on where this one stopped" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert 3 <= len(journal_lines(run)) <= MAPS
    monkeypatch.setenv("MEAN_LEVEL_S", "0")
    assert sweep(generator, photos, run, *SLOW).exit_code == 0
    assert lines_without_durations(run) == lines_without_durations(expected)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--workers", "2", "--cluster", "tcp://127.0.0.1:1"), 2, "exclude each other"),
        (("--workers", "0"), 2, "--workers"),
    ],
)
def test_workers_that_cannot_be_are_refused(arguments, code, message, generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("tcp://127.0.0.1:1", 1, "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("nonsense://here", 2, "'nonsense://here' is no address of a scheduler"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(
    address, code, message, generator, photos, tmp_path, monkeypatch
):
    pytest.importorskip("distributed")
    monkeypatch.setattr("qsens.run.worker_pools.CONNECT_S", 1.0)
    result = sweep(generator, photos, tmp_path / "run", "--cluster", address)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_cluster_without_its_library_names_the_extra(generator, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = sweep(generator, photos, tmp_path / "run", "--cluster", "tcp://127.0.0.1:1")
    assert result.exit_code == 1
    assert "pip install 'qsens[cluster]'" in result.stderr
