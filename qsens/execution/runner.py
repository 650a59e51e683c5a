"""What evaluates maps for a sweep: the contract, and the runner that does it in this process."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from qsens.core.errors import BuildError, QsensError, ScoreError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Trial, requested_map

Evaluate = Callable[[int, Request], Trial]


class WorkersGoneError(QsensError):
    """No worker is left, or none can be reached; the run folder can be resumed without them."""


class TrialRunner(Protocol):
    """Evaluates maps, several at once where it can.

    `attempts` is how often a trial is started whose worker dies. A future raises
    `concurrent.futures.BrokenExecutor` where the process that ran its trial is gone. A runner may offer
    `expect(requests)`, which hears what will be started next, in order.
    """

    attempts: int

    @property
    def capacity(self) -> int:
        """How many trials may be in flight now, at least one."""
        ...

    def start(self, number: int, request: Request, fp32: Trial | None) -> "Future[Trial]":
        """Begin one trial. `fp32` is the scored FP32 trial, `None` while FP32 itself is started."""
        ...

    def check(self) -> None:
        """Raise `WorkersGoneError` if no trial in flight can end any more; called every few seconds."""
        ...


class InProcess:
    """Evaluates one map after the other, here; what a bug or Ctrl-C raises goes straight through."""

    attempts = 1
    capacity = 1

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def expect(self, requests: Sequence[Request]) -> None:
        """Tell the evaluator which maps come next, in order, where it has an `expect` of its own."""
        tell = getattr(self._evaluate, "expect", None)
        if tell is not None:
            tell(requests)

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
