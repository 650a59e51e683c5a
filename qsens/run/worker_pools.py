"""Pools of worker processes, on this machine or on a Dask cluster."""

import contextlib
import logging
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from qsens.core.errors import SpecError
from qsens.run.in_order import WorkersGoneError
from qsens.run.local_worker import GRACE_S

CONNECT_S = 10.0
_SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")
_ADDRESS = re.compile(r"(?:([a-z]+)://)?(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):([0-9]{1,5})/?")
# A cluster may need minutes to start its first worker, and a lost one may be replaced.
FIRST_WORKER_S = 300.0
WITHOUT_WORKERS_S = 120.0
RESUME = "finished maps are saved: the same command without --cluster goes on where this one stopped"
# What is meant for the driver and comes to its workers too: from a terminal, a scheduler of jobs.
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ClusterPool:
    """One task at a time on each worker of a Dask scheduler; workers may come and go.

    Dask itself starts a task again elsewhere when its worker dies, as often as the scheduler's
    `allowed-failures` says.
    """

    attempts = 1

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._executor = client.get_executor(pure=False)
        self._workers: tuple[str, ...] = ()
        self._busy: Counter[str] = Counter()
        self._seen_s = time.monotonic()
        self.check()

    @property
    def size(self) -> int:
        """Workers that the scheduler knew when last asked."""
        return max(1, len(self._workers))

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Run `task(*arguments)` on the worker with the fewest of our tasks, or elsewhere if it leaves."""
        # The scheduler counts threads and would put several tasks on a worker that has many.
        worker = min(self._workers, key=lambda address: self._busy[address], default=None)
        place = {} if worker is None else {"workers": [worker], "allow_other_workers": True}
        outer: Future[Any] = Future()
        if worker is not None:
            self._busy[worker] += 1
            outer.add_done_callback(lambda _: self._busy.subtract([worker]))
        inner = self._executor.submit(task, *arguments, **place)
        inner.add_done_callback(partial(self._pass_on, outer))
        return outer

    def on_each(self, task: Callable[..., Any], /, *arguments: Any) -> Mapping[str, Any]:
        """Results by address; a worker that cannot run the task gives its exception."""
        found: Mapping[str, Any] = self._client.run(task, *arguments, on_error="return")
        return found

    def check(self) -> None:
        """Ask the scheduler for its workers. Raises `WorkersGoneError` if there have been none for long."""
        try:
            # Some versions of distributed list five workers where they are not asked for all.
            found = self._client.scheduler_info(n_workers=-1)
            self._workers = tuple(sorted(found["workers"]))
        except (OSError, RuntimeError, AttributeError, TypeError) as error:
            # A client that lost its scheduler fails in as many ways as it has parts.
            raise self._gone(f"cannot be reached any more ({type(error).__name__})") from error
        now = time.monotonic()
        if self._workers:
            self._seen_s = now
        elif now - self._seen_s > WITHOUT_WORKERS_S:
            raise self._gone(f"has had no worker for {WITHOUT_WORKERS_S:.0f} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.status == "running":
            self._executor.shutdown(wait=False)
        self._client.close(timeout=CONNECT_S)

    def _pass_on(self, outer: "Future[Any]", inner: "Future[Any]") -> None:
        if inner.cancelled():
            outer.set_exception(self._gone("cancelled its tasks"))
            return
        error = inner.exception()
        if error is None:
            outer.set_result(inner.result())
        elif type(error).__name__ == "KilledWorker":  # the class is not importable without distributed
            outer.set_exception(BrokenExecutor(str(error)))
        else:
            outer.set_exception(error)

    def _gone(self, what: str) -> WorkersGoneError:
        return WorkersGoneError(f"the cluster at {self._address} {what}", RESUME)


def open_cluster_pool(address: str) -> ClusterPool:
    """Connect to a Dask scheduler such as `tcp://host:8786` and wait for its first worker.

    Raises:
        SpecError: if the text is no address.
        ModuleNotFoundError: if `distributed` is not installed.
        WorkersGoneError: if there is no scheduler or no worker.
    """
    _check_address(address)
    from distributed import Client  # an extra that takes a second to load

    # What it logs of a lost scheduler, tracebacks and all, reaches the user as one error of ours.
    # Its own configuration sets a level on several of its loggers.
    for name in [known for known in logging.root.manager.loggerDict if known.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (ValueError, TypeError) as error:
        raise _no_address(address, str(error)) from error
    except OSError as error:
        raise WorkersGoneError(
            f"no Dask scheduler answers at {address}",
            "start one with `dask scheduler`, and check host, port and the versions of distributed",
        ) from error
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_S)
    except TimeoutError as error:
        client.close()
        raise WorkersGoneError(
            f"the cluster at {address} has no worker after {FIRST_WORKER_S:.0f} s",
            f"start some with `dask worker {address} --nthreads 1`",
        ) from error
    return ClusterPool(client, address)


def _check_address(address: str) -> None:
    """Raise `SpecError` for what a client would try to reach for long, or fail to take apart again."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise _no_address(address, "it is not HOST:PORT")
    if match[1] not in (None, *_SCHEMES):
        raise _no_address(address, f"{match[1]!r} is not one of {', '.join(_SCHEMES)}")
    if not 1 <= int(match[3]) <= 65535:
        raise _no_address(address, f"no port has the number {match[3]}")
    try:
        socket.getaddrinfo(match[2].strip("[]"), int(match[3]), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _no_address(address, f"no host is known as {match[2]!r}") from error


def _no_address(address: str, reason: str) -> SpecError:
    return SpecError(f"{address!r} is no address of a scheduler: {reason}", "write --cluster tcp://HOST:8786")


class WorkerPool(Protocol):
    """Runs module-level functions in other processes; any `concurrent.futures` executor can stand behind it.

    `attempts` is how often a task is worth submitting whose worker dies: one where the pool tries again by
    itself. A future raises `concurrent.futures.BrokenExecutor` where its worker died.
    """

    attempts: int

    @property
    def size(self) -> int:
        """The number of tasks that can run at once now, at least one."""
        ...

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Run `task(*arguments)` on a worker that has nothing to do."""
        ...

    def on_each(self, task: Callable[..., Any], /, *arguments: Any) -> Mapping[str, Any]:
        """Results of a quick task on every worker that another machine may run, by the worker's address."""
        ...

    def check(self) -> None:
        """Raise `WorkersGoneError` if tasks in flight can end no more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            _handle(handlers)
        finally:
            # One that another thread took late interrupts the first time.
            _handle(handlers)
        for again in heard:
            signal.raise_signal(again)


def _handle(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], Any]]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
