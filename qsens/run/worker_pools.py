"""Worker processes on this machine."""

import contextlib
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, Self

from qsens.core.errors import SpecError
from qsens.run.local_worker import GRACE_S

# What is meant for the driver and comes to its workers too: from a terminal, a scheduler of jobs.
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(eq=False)
class _Place:
    """One worker process. It leaves when `tasks` closes, which the end of this process does too."""

    process: "subprocess.Popen[bytes]"
    tasks: Connection
    results: Connection
    future: "Future[Any] | None" = None

    @property
    def is_free(self) -> bool:
        return self.future is None or self.future.done()


class LocalPool:
    """`size` processes, started when first needed and kept; none outlives this one.

    One that dies breaks its own task alone: what the others are at goes on. Signals that ask to stop do not
    reach them: this process decides what becomes of their tasks.
    """

    attempts = 3

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: list[_Place] = []

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Run `task(*arguments)` in a free process; its module must be importable there."""
        message = pickle.dumps((task, arguments))
        place = next((place for place in self._places if place.is_free), None)
        if place is not None:
            try:
                return _run_in(place, message)
            except OSError:  # it died while it had nothing to do
                self._clear_away(place)
        return _run_in(self._new_place(), message)

    def on_each(self, task: Callable[..., Any], /, *arguments: Any) -> Mapping[str, Any]:
        """Nothing: there is no other machine."""
        return {}

    def check(self) -> None:
        """A process that died has ended its future."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            place.tasks.close()
        for place in list(self._places):
            self._clear_away(place)

    def _new_place(self) -> _Place:
        for_worker, tasks = Pipe(duplex=False)
        results, of_worker = Pipe(duplex=False)
        ends = for_worker.fileno(), of_worker.fileno()
        code = f"import sys; sys.path[:] = {sys.path!r}\nfrom qsens.run.local_worker import work; work{ends}"
        command = [sys.executable, "-c", code]
        with for_worker, of_worker, _stops_held():
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=ends)
            self._places.append(_Place(process, tasks, results))
        return self._places[-1]

    def _clear_away(self, place: _Place) -> None:
        place.tasks.close()
        try:
            place.process.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            place.process.kill()
            place.process.wait()
        self._places.remove(place)


def open_local_pool(size: int) -> LocalPool:
    """A pool of that many processes. Raises `SpecError` for fewer than one."""
    if size < 1:
        raise SpecError(f"{size} workers", "give at least 1 with --workers")
    return LocalPool(size)


def _run_in(place: _Place, message: bytes) -> "Future[Any]":
    place.tasks.send_bytes(message)
    place.future = future = Future[Any]()
    threading.Thread(target=_receive, args=(place, future), daemon=True).start()
    return future


def _receive(place: _Place, future: "Future[Any]") -> None:
    try:
        result, error = pickle.loads(place.results.recv_bytes())
    except (EOFError, OSError):
        place.process.wait()  # or the next task would be sent to a process that is just dying
        error = BrokenExecutor("a worker process died in the middle of its task")
    except Exception as found:  # a library's result that cannot be read here
        error = found
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


@contextlib.contextmanager
def _stops_held() -> Iterator[None]:
    """A process started meanwhile never hears of a stop; this one does when the block ends."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    heard: list[int] = []
    # Another thread may take a signal that this one does not.
    is_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in HELD_SIGNALS if is_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for again in heard:
            signal.raise_signal(again)
