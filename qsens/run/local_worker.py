"""The other side of a local pool: a process that runs tasks, and leaves when its driver is gone."""

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType

# How long a worker that is told to leave may take to clean up behind itself.
GRACE_S = 2.0


def work(tasks_fd: int, results_fd: int) -> None:
    """Run what comes in as `(task, arguments)`, pickled; send back `(result, error)`, one of them `None`.

    The end of `tasks` is the end of this process, in the middle of a task too. Nothing but the two pipes
    ties it to the driver, so that nothing is left of either when they are killed.
    """
    signal.signal(signal.SIGUSR1, _leave)
    inbox: SimpleQueue[bytes | None] = SimpleQueue()
    tasks, results = Connection(tasks_fd, writable=False), Connection(results_fd, readable=False)
    threading.Thread(target=_receive, args=(tasks, inbox), daemon=True).start()
    with contextlib.suppress(SystemExit, BrokenPipeError):
        while (message := inbox.get()) is not None:
            results.send_bytes(_outcome(message))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # What libraries take down at the end may hang.
    os._exit(0)


def _outcome(message: bytes) -> bytes:
    try:
        task, arguments = pickle.loads(message)
        return pickle.dumps((task(*arguments), None))
    except Exception as error:  # whatever a task raises is the driver's to judge
        error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
        return _pickled(error)


def _pickled(error: Exception) -> bytes:
    try:
        content = pickle.dumps((None, error))
        pickle.loads(content)
    except Exception:  # errors of libraries may hold anything
        return pickle.dumps((None, RuntimeError("\n".join(error.__notes__))))
    return content


def _receive(tasks: Connection, inbox: "SimpleQueue[bytes | None]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(tasks.recv_bytes())
    inbox.put(None)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    time.sleep(GRACE_S)
    os._exit(0)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
