"""A sweep on workers: the driver checks machines and hands out maps, a worker opens the run and scores."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from qsens.core.errors import RunFolderError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Request, Trial
from qsens.run.evaluate import Evaluator, RunnerFactory, calibrated_workload
from qsens.run.evidence import load_baseline
from qsens.run.folder import RunFolder, read_provenance
from qsens.run.in_order import TrialRunner, WorkersGoneError, attempt_trial
from qsens.run.loop import silent
from qsens.run.open import OpenedSweep, linear_algebra_threads, open_sweep
from qsens.run.paths import RunPaths
from qsens.run.target import fitted_to_target
from qsens.run.versions import cpu_model, library_versions
from qsens.run.worker_pools import WorkerPool, open_cluster_pool, open_local_pool

# A Dask worker may have several threads; the engines of one map take what a worker has.
_ONE_MAP_AT_A_TIME = threading.Lock()
# Float sums depend on how many threads share them: a number that went by the workers would change scores.
ENGINE_THREADS = 1


@dataclass(frozen=True)
class Job:
    """A sweep as a worker opens it; hashable, and small enough to travel with every map.

    `out` is the absolute path of the run folder. `contents` and `versions` are digests of what the driver
    read and the versions of its libraries, by name: a worker that finds others refuses.
    """

    spec: SweepSpec
    out: str
    contents: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    trust_checkpoint: bool


@dataclass(frozen=True)
class WorkerMachine:
    """The machine of a worker, and the problems that keep it from a job; none is an empty tuple."""

    host: str
    cpu: str
    problems: tuple[str, ...]


def evaluate_on_worker(job: Job, number: int, request: Request, fp32: Trial | None) -> Trial:
    """Score or screen one map in this process; `fp32` is the scored FP32 trial, `None` while FP32 is scored.

    Raises:
        RunFolderError: if this machine has other files or libraries than the driver, naming them.
        BuildError, ScoreError: if FP32 itself fails.
    """
    with _ONE_MAP_AT_A_TIME:
        evaluator = _opened(job)
        evaluator.use_baseline(fp32)
        return attempt_trial(number, request, evaluator)


def inspect_worker(job: Job) -> WorkerMachine:
    """Say what this worker's machine is, without opening the job."""
    return WorkerMachine(socket.gethostname(), cpu_model(), tuple(_problems(job)))


@lru_cache(maxsize=1)
def _opened(job: Job) -> Evaluator:
    problems = _problems(job)
    if problems:
        raise _refusal(problems)
    opened = open_sweep(job.spec, trust_checkpoint=job.trust_checkpoint)
    linear_algebra_threads(job.spec.threads)
    found = opened.contents()
    changed = [name for name, text in job.contents if found.get(name) != text]
    if changed:
        raise _refusal([f"another {name}" for name in changed])
    paths = RunPaths(Path(job.out))
    workload = calibrated_workload(fitted_to_target(opened, paths, silent), paths, silent)
    return Evaluator(workload, evidence=paths.evidence, samples=paths.samples, fp32=None)


def _problems(job: Job) -> list[str]:
    here = library_versions(job.spec.target)
    found = [
        f"{name} {here.get(name, 'absent')} instead of {text}"
        for name, text in job.versions
        if here.get(name) != text
    ]
    try:
        if dict(read_provenance(Path(job.out)).contents) != dict(job.contents):
            found.append(f"another run in {job.out}")
    except RunFolderError:
        found.append(f"no run folder {job.out}")
    return found


def _refusal(problems: list[str]) -> RunFolderError:
    return RunFolderError(
        f"the worker on {socket.gethostname()} has {'; '.join(problems)}",
        "give every worker the driver's files at the same paths (a shared folder) and the same libraries",
    )


class WorkerRunner(TrialRunner):
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
    pool: WorkerPool, *, trust_checkpoint: bool = False, hear: Callable[[str], None] | None = None
) -> RunnerFactory:
    """The factory with which `qsens.api.score_maps` evaluates its maps on a pool.

    `hear` is told of workers whose processors differ. Making the runner raises `RunFolderError` naming what
    a worker lacks, and `WorkersGoneError` if the pool breaks.
    """

    def runner(opened: OpenedSweep, folder: RunFolder) -> TrialRunner:
        job = Job(
            spec=opened.spec,
            out=str(folder.path.resolve()),
            contents=tuple(sorted(opened.contents().items())),
            versions=tuple(sorted(library_versions(opened.spec.target).items())),
            trust_checkpoint=trust_checkpoint,
        )
        _check_machines(pool, job, hear)
        _restore_baseline(pool, job, folder, len(opened.evaluation))
        return WorkerRunner(pool, job)

    return runner


def _check_machines(pool: WorkerPool, job: Job, hear: Callable[[str], None] | None) -> None:
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
    if len(processors) > 1 and hear is not None:
        hear(
            f"Warning: workers have different processors ({', '.join(sorted(processors))}): INT8 sums are the"
        )
        hear("Warning: same on all, the last digits of float layers may depend on which worker scores a map")


def _restore_baseline(pool: WorkerPool, job: Job, folder: RunFolder, images: int) -> None:
    """Score FP32 again on one worker where an earlier run's pictures are gone: all maps need them."""
    fp32 = folder.journal.first
    if fp32 is None or load_baseline(folder.evidence, fp32, images) is not None:
        return
    try:
        pool.submit(evaluate_on_worker, job, fp32.number, PrecisionMap(Precision.FP32), None).result()
    except BrokenExecutor as error:
        raise WorkersGoneError(
            "the worker that scored FP32 again died", "out of memory? use a smaller --batch-size"
        ) from error
