"""Worker processes: side by side, dying alone, deaf to Ctrl-C, gone with their driver."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pool_tasks
import psutil
import pytest

from qsens.errors import SpecError
from qsens.execution.local_pool import open_local_pool


@pytest.fixture(scope="module")
def pool():
    with open_local_pool(2) as pool:
        yield pool


def until(condition, *, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_tasks_run_in_other_processes_and_errors_come_back(pool):
    assert pool.submit(pool_tasks.double, 21).result() == 42
    assert pool.submit(pool_tasks.process_id).result() != os.getpid()
    with pytest.raises(ValueError, match="too small"):
        pool.submit(pool_tasks.fail, "too small").result()


def test_two_tasks_run_side_by_side_and_processes_are_kept(pool, tmp_path):
    """Each waits for a file that only the other's start brings about."""
    one = pool.submit(pool_tasks.wait_for, tmp_path / "b", tmp_path / "a")
    other = pool.submit(pool_tasks.wait_for, tmp_path / "a", tmp_path / "b")
    first = {one.result(), other.result()}
    assert len(first) == 2
    assert pool.submit(pool_tasks.process_id).result() in first


def test_a_worker_that_dies_breaks_its_own_task_alone(pool, tmp_path):
    survivor = pool.submit(pool_tasks.wait_for, tmp_path / "go")
    with pytest.raises(BrokenExecutor):
        pool.submit(pool_tasks.die).result()
    assert pool.submit(pool_tasks.double, 2).result() == 4, "a new process takes its place"
    (tmp_path / "go").touch()
    assert survivor.result() > 0


def test_a_worker_that_dies_between_two_tasks_is_replaced(pool):
    victim = pool.submit(pool_tasks.process_id).result()
    os.kill(victim, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(victim) or psutil.Process(victim).status() == "zombie")

    def works():
        try:
            return pool.submit(pool_tasks.double, 3).result() == 6
        except BrokenExecutor:
            return False

    until(works)


def test_workers_do_not_hear_ctrl_c(pool):
    assert pool.submit(pool_tasks.interrupt_myself).result() == "went on"


def test_closing_ends_every_process_at_once_even_a_busy_one(tmp_path):
    with open_local_pool(2) as pool:
        pool.submit(pool_tasks.wait_for, tmp_path / "never", tmp_path / "busy")
        idle = pool.submit(pool_tasks.process_id).result()
        until((tmp_path / "busy").exists)
        until(lambda: (tmp_path / "busy").read_text() != "")
    for process in (int((tmp_path / "busy").read_text()), idle):
        assert not psutil.pid_exists(process)


DRIVER = """
import sys, pool_tasks
from qsens.execution.local_pool import open_local_pool
if __name__ == "__main__":
    with open_local_pool(2) as pool:
        print(pool.submit(pool_tasks.process_id).result(), flush=True)
        pool.submit(pool_tasks.wait_for, sys.argv[1], sys.argv[2]).result()
"""


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_behind(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, script, tmp_path / "never", tmp_path / "busy"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    until(lambda: (tmp_path / "busy").exists() and (tmp_path / "busy").read_text() != "")
    worker = int((tmp_path / "busy").read_text())
    assert psutil.pid_exists(worker)
    driver.kill()
    driver.wait()
    until(lambda: not psutil.pid_exists(worker), seconds=20)


def test_no_workers_are_refused():
    with pytest.raises(SpecError, match="0 workers"):
        open_local_pool(0)
