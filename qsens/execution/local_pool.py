"""Worker processes on this machine."""

import _thread
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType, TracebackType
from typing import Any, Self

from qsens.errors import SpecError

# How long a worker that is told to leave may take to clean up behind itself.
GRACE_S = 2.0


@dataclass(eq=False)
class _Place:
    """One worker process. It leaves when `leash` closes, which the end of this process does too."""

    executor: ProcessPoolExecutor
    leash: Connection
    future: "Future[Any] | None" = None

    @property
    def is_free(self) -> bool:
        return self.future is None or self.future.done()


class LocalPool:
    """`size` processes, started when first needed and kept; none outlives this one.

    Each is a `ProcessPoolExecutor` of its own: one that dies breaks its executor alone, so that what the
    others are at goes on. Ctrl-C does not reach them: this process decides what becomes of their tasks.
    """

    attempts = 3

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: list[_Place] = []

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Run `task(*arguments)` in a free process; its module must be importable there."""
        place = next((place for place in self._places if place.is_free), None)
        with _interrupts_held():
            if place is not None:
                try:
                    return self._run_in(place, task, *arguments)
                except BrokenExecutor:  # it died while it had nothing to do
                    self._clear_away(place)
            return self._run_in(self._new_place(), task, *arguments)

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
        with _interrupts_held():
            for place in self._places:
                place.leash.close()
            for place in list(self._places):
                self._clear_away(place)

    def _run_in(self, place: _Place, task: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        place.future = place.executor.submit(task, *arguments)
        return place.future

    def _new_place(self) -> _Place:
        context = multiprocessing.get_context("spawn")
        end, leash = context.Pipe(duplex=False)
        executor = ProcessPoolExecutor(1, context, _live_on_leash, (end,))
        self._places.append(_Place(executor, leash))
        return self._places[-1]

    def _clear_away(self, place: _Place) -> None:
        place.leash.close()
        place.executor.shutdown(wait=True, cancel_futures=True)
        self._places.remove(place)


def open_local_pool(size: int) -> LocalPool:
    """A pool of that many processes. Raises `SpecError` for fewer than one."""
    if size < 1:
        raise SpecError(f"{size} workers", "give at least 1 with --workers")
    return LocalPool(size)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process started meanwhile never sees Ctrl-C; this one does when the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_on_leash(leash: Connection) -> None:
    """Make this worker process leave when the other end of `leash` is closed."""
    signal.signal(signal.SIGUSR1, _leave)
    threading.Thread(target=_leave_with, args=(leash,), daemon=True).start()


def _leave_with(leash: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        leash.recv_bytes()
    _thread.interrupt_main(signal.SIGUSR1)
    time.sleep(GRACE_S)
    os._exit(0)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
