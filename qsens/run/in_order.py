"""Maps evaluated several at once, by a `TrialRunner`, with a journal that does not show how many."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Protocol

from qsens.core.errors import BuildError, QsensError, ScoreError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Trial, requested_map
from qsens.run.journal import Journal, WaitingTrials

Evaluate = Callable[[int, Request], Trial]
CHECK_EVERY_S = 2.0
# Told before a map starts, and when one ends while no more start: maps that ended, maps that are begun or
# queued, and the map.
Hear = Callable[[int, int, Request], None]


class WorkersGoneError(QsensError):
    """No worker is left, or none can be reached; the run folder can be resumed without them."""


class TrialRunner(Protocol):
    """Evaluates maps, several at once where it can.

    `attempts` is how often a trial is started whose worker dies. A future raises
    `concurrent.futures.BrokenExecutor` where the process that ran its trial is gone.
    """

    attempts: int

    @property
    def capacity(self) -> int:
        """The number of trials that may be in flight now, at least one."""
        ...

    def expect(self, requests: Sequence[Request]) -> None:
        """Hear which maps will be started next, in order."""
        return

    def start(self, number: int, request: Request, fp32: Trial | None) -> "Future[Trial]":
        """Begin one trial. `fp32` is the scored FP32 trial, `None` while FP32 itself is started."""
        ...

    def check(self) -> None:
        """Raise `WorkersGoneError` if no trial in flight can end any more; called every few seconds."""
        ...


class InProcess(TrialRunner):
    """Evaluates one map after the other, here; what a bug or Ctrl-C raises goes straight through."""

    attempts = 1
    capacity = 1

    def __init__(self, evaluate: Evaluate, expect: Callable[[Sequence[Request]], None] | None = None) -> None:
        self._evaluate = evaluate
        self._expect = expect

    def expect(self, requests: Sequence[Request]) -> None:
        """Tell the evaluator which maps come next, in order, where it asked for that."""
        if self._expect is not None:
            self._expect(requests)

    def start(self, number: int, request: Request, fp32: Trial | None) -> "Future[Trial]":
        future: Future[Trial] = Future()
        future.set_result(attempt_trial(number, request, self._evaluate))
        return future

    def check(self) -> None:
        """The workers are this process."""


def attempt_trial(number: int, request: Request, evaluate: Evaluate) -> Trial:
    """The scored or screened trial of a map, or a failed one that says why.

    Raises:
        BuildError, ScoreError: if FP32 itself fails, since nothing can be compared without it.
    """
    start = time.perf_counter()
    try:
        return evaluate(number, request)
    except (BuildError, ScoreError) as error:
        if request == PrecisionMap(Precision.FP32):
            raise
        return failed_trial(number, requested_map(request), error, time.perf_counter() - start)


def failed_trial(number: int, requested: PrecisionMap, error: QsensError, duration_s: float) -> Trial:
    """The record of a map that could not be scored."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return Trial(number, requested, None, Outcome.FAILED, duration_s=duration_s, error=message)


class MapsInOrder:
    """Evaluates maps and writes their trials to the journal in the order of the maps.

    Trials are numbered in that order too, from the journal's end on. One that ends early waits on disk.
    """

    def __init__(self, requests: Sequence[Request], runner: TrialRunner, journal: Journal) -> None:
        self._runner = runner
        self._journal = journal
        self._waiting = WaitingTrials(journal)
        self._queue = deque(enumerate(requests, journal.count))
        self._requests = dict(self._queue)
        self._unfinished = {number for number, _ in self._queue if self._found(number) is None}
        runner.expect(tuple(requests))
        self._running: dict[Future[Trial], int] = {}
        self._deaths: dict[int, int] = {}
        self._started_s: dict[int, float] = {}
        self._checked_s = time.monotonic()

    def evaluate(self, hear: Hear) -> None:
        """Until every map has its trial in the journal.

        Raises:
            BuildError, ScoreError: if FP32 itself fails.
            WorkersGoneError: if no worker is left.
            RunFolderError: if a trial cannot be written.
        """
        try:
            while self._queue or self._running:
                self._start_some(hear)
                if self._running:
                    self._take_some(hear)
        finally:
            self._waiting.close()

    def _take_some(self, hear: Hear) -> None:
        ended, _ = wait(self._running, timeout=CHECK_EVERY_S, return_when=FIRST_COMPLETED)
        self._check_workers()
        for future in sorted(ended, key=self._running.__getitem__):
            self._take(future)
        if ended and self._running and not self._queue:
            self._tell(hear, min(self._running.values()))

    def _check_workers(self) -> None:
        # A scheduler of hundreds of workers takes longer to list them than to end a trial.
        if time.monotonic() - self._checked_s >= CHECK_EVERY_S:
            self._runner.check()
            self._checked_s = time.monotonic()

    def _start_some(self, hear: Hear) -> None:
        while self._queue and len(self._running) < self._runner.capacity:
            number, request = self._queue[0]
            if self._found(number) is None:
                self._tell(hear, number)
                self._started_s.setdefault(number, time.perf_counter())
                self._running[self._runner.start(number, request, self._journal.first)] = number
            self._queue.popleft()
            self._write_ready()

    def _tell(self, hear: Hear, number: int) -> None:
        ended = self._journal.count + len(self._waiting)
        hear(ended, len(self._unfinished), self._requests[number])

    def _found(self, number: int) -> Trial | None:
        """The trial that waits on disk, if it is of the map of that number."""
        return self._waiting.find(number, requested_map(self._requests[number]))

    def _take(self, future: "Future[Trial]") -> None:
        number = self._running.pop(future)
        trial: Trial | None
        try:
            trial = future.result()
        except BrokenExecutor:
            trial = self._after_death(number)
        if trial is None:
            self._queue.appendleft((number, self._requests[number]))
            return
        if number == self._journal.count:
            self._journal.append(trial)
            self._write_ready()
        else:
            self._waiting.keep(trial)
        self._unfinished.remove(number)

    def _after_death(self, number: int) -> Trial | None:
        """`None` where the trial is to be started again, else its failure."""
        request = self._requests[number]
        self._deaths[number] = self._deaths.get(number, 0) + 1
        if self._deaths[number] < self._runner.attempts:
            return None
        error = WorkersGoneError(
            "every worker that ran this map died",
            "out of memory? use fewer --workers or a smaller --batch-size",
        )
        if request == PrecisionMap(Precision.FP32):
            raise error
        return failed_trial(
            number, requested_map(request), error, time.perf_counter() - self._started_s[number]
        )

    def _write_ready(self) -> None:
        number = self._journal.count
        while number in self._requests:
            trial = self._found(number)
            if trial is None:
                return
            self._journal.append(trial)
            self._waiting.release(number)
            number += 1
