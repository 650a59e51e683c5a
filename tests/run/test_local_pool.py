"""Worker processes: side by side, dying alone, deaf to Ctrl-C, gone with their driver."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pool_tasks
import psutil
import pytest

from qsens.core.errors import SpecError
from qsens.run.worker_pools import HELD_SIGNALS, _stops_held, open_local_pool


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_first", [True, False])
def test_workers_do_not_hear_what_asks_their_driver_to_stop(pool, number, is_first):
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(open_local_pool(1)) if is_first else pool
        assert one.submit(pool_tasks.interrupt_myself, number).result() == "went on"


def test_an_error_says_where_in_the_worker_it_was_raised(pool):
    with pytest.raises(ValueError, match="too small") as caught:
        pool.submit(pool_tasks.fail, "too small").result()
    assert "pool_tasks.py" in caught.value.__notes__[0]


def test_an_error_that_cannot_travel_comes_back_as_text(pool):
    with pytest.raises(RuntimeError, match="it holds a function"):
        pool.submit(pool_tasks.fail_unpicklably).result()
    assert pool.submit(pool_tasks.double, 4).result() == 8


def test_a_stop_while_a_worker_starts_comes_when_it_has_started(monkeypatch):
    """Half a start would leave a process that nothing ends."""
    start = subprocess.Popen

    def interrupted_start(*arguments, **options):
        process = start(*arguments, **options)
        # To this thread: one that another takes may come after the start.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return process

    monkeypatch.setattr("qsens.run.worker_pools.subprocess.Popen", interrupted_start)
    with open_local_pool(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(pool_tasks.double, 1)
        monkeypatch.undo()
        assert pool.submit(pool_tasks.double, 21).result() == 42


def test_a_stop_that_another_thread_took_leaves_handlers_and_mask_as_they_were(monkeypatch):
    """It reaches this one between two of the lines that put them back."""
    handlers = {number: signal.getsignal(number) for number in HELD_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    set_handler, late = signal.signal, [KeyboardInterrupt]

    def interrupted_once(number, handler):
        set_handler(number, handler)
        if handler is mine and late:
            raise late.pop()

    def mine(number, frame):
        """Not one of Python's own."""

    try:
        for number in HELD_SIGNALS:
            signal.signal(number, mine)
        monkeypatch.setattr(signal, "signal", interrupted_once)
        with pytest.raises(KeyboardInterrupt), _stops_held():
            assert not any(signal.getsignal(number) is mine for number in HELD_SIGNALS)
        assert all(signal.getsignal(number) is mine for number in HELD_SIGNALS)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    finally:
        for number, handler in handlers.items():
            set_handler(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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
from qsens.run.worker_pools import open_local_pool
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
    family = psutil.Process(driver.pid).children(recursive=True)
    assert {process.pid for process in family} >= {worker}
    assert not any("resource_tracker" in " ".join(process.cmdline()) for process in family), (
        "where there are named semaphores, they stay when all processes are killed"
    )
    driver.kill()
    driver.wait()
    until(lambda: not any(process.is_running() for process in family), seconds=20)


def test_no_workers_are_refused():
    with pytest.raises(SpecError, match="0 workers"):
        open_local_pool(0)
