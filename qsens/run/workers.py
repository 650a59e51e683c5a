"""The driver's side of a sweep on workers: opening the pool, checking its machines, handing out maps."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace

from qsens.baseline import load_baseline
from qsens.core.errors import RunFolderError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Request, Trial
from qsens.execution.cluster_pool import open_cluster_pool
from qsens.execution.runner import TrialRunner, WorkersGoneError
from qsens.execution.worker_pool import WorkerPool
from qsens.run.folder import RunFolder, library_versions
from qsens.run.open import Assembled
from qsens.run.sweep import RunnerFactory
from qsens.run.worker_pools import open_local_pool
from qsens.workers_job import Job, WorkerMachine, evaluate_on_worker, inspect_worker

# Float sums depend on how many threads share them: a number that went by the workers would change scores.
ENGINE_THREADS = 1


class WorkerRunner:
    """Evaluates the maps of one run folder on the workers of a pool."""

    def __init__(self, pool: WorkerPool, job: Job) -> None:
        self._pool = pool
        self._job = job
        self.attempts = pool.attempts

    @property
    def capacity(self) -> int:
        return self._pool.size

    def start(self, number: int, request: Request, fp32: Trial | None) -> "Future[Trial]":
        return self._pool.submit(evaluate_on_worker, self._job, number, request, fp32)

    def check(self) -> None:
        self._pool.check()


@contextlib.contextmanager
def open_pool(workers: int | None, cluster: str | None) -> Iterator[WorkerPool | None]:
    """The workers of a command line, until the block ends; `None` where none were asked for.

    Raises:
        SpecError: for an address that is none.
        WorkersGoneError: if the cluster does not answer or has no worker.
        ModuleNotFoundError: if a cluster is asked for and `distributed` is not installed.
    """
    if cluster is not None:
        with open_cluster_pool(cluster) as cluster_pool:
            yield cluster_pool
    elif workers is not None:
        with open_local_pool(workers) as local_pool:
            yield local_pool
    else:
        yield None


def with_fixed_threads(spec: SweepSpec) -> SweepSpec:
    """The spec with the threads that engines on workers use: its own, else the same for any pool."""
    return replace(spec, threads=spec.threads or ENGINE_THREADS)


def runner_on(
    pool: WorkerPool, *, trust_checkpoint: bool = False, warn: Callable[[str], None] | None = None
) -> RunnerFactory:
    """What `qsens.run.sweep.sweep` takes to evaluate its maps on a pool.

    `warn` hears of workers whose processors differ. Making the runner raises `RunFolderError` naming what
    a worker lacks, and `WorkersGoneError` if the pool breaks.
    """

    def runner(assembled: Assembled, folder: RunFolder) -> TrialRunner:
        job = Job(
            spec=assembled.spec,
            out=str(folder.path.resolve()),
            contents=tuple(sorted(assembled.contents().items())),
            versions=tuple(sorted(library_versions().items())),
            trust_checkpoint=trust_checkpoint,
        )
        _check_machines(pool, job, warn)
        _restore_baseline(pool, job, folder, len(assembled.evaluation))
        return WorkerRunner(pool, job)

    return runner


def _check_machines(pool: WorkerPool, job: Job, warn: Callable[[str], None] | None) -> None:
    processors = set()
    for address, machine in pool.on_each(inspect_worker, job).items():
        problems = machine.problems if isinstance(machine, WorkerMachine) else (f"an error: {machine}",)
        if problems:
            raise RunFolderError(
                f"the worker {address} has {'; '.join(problems)}",
                "give every worker the driver's files at the same paths (a shared folder) "
                "and the same libraries",
            )
        processors.add(machine.cpu)
    if len(processors) > 1 and warn is not None:
        warn(f"workers have different processors ({', '.join(sorted(processors))}): INT8 sums are the")
        warn("same on all, the last digits of float layers may depend on which worker scores a map")


def _restore_baseline(pool: WorkerPool, job: Job, folder: RunFolder, images: int) -> None:
    """Score FP32 again on one worker where an earlier run's pictures are gone: all maps need them."""
    fp32 = next(iter(folder.journal.trials), None)
    if fp32 is None or load_baseline(folder.evidence, fp32, images) is not None:
        return
    try:
        pool.submit(evaluate_on_worker, job, fp32.number, PrecisionMap(Precision.FP32), None).result()
    except BrokenExecutor as error:
        raise WorkersGoneError(
            "the worker that scored FP32 again died", "out of memory? use a smaller --batch-size"
        ) from error
