"""The contract of a pool of worker processes, here or on other machines."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self


class WorkerPool(Protocol):
    """Runs module-level functions in other processes; any `concurrent.futures` executor can stand behind it.

    `attempts` is how often a task is worth submitting whose worker dies: one where the pool tries again by
    itself. A future raises `concurrent.futures.BrokenExecutor` where its worker died.
    """

    attempts: int

    @property
    def size(self) -> int:
        """How many tasks can run at once now, at least one."""
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
