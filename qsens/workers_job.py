"""What runs on a worker: the sweep of a run folder opened once, then one map after the other."""

import socket
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qsens.core.errors import RunFolderError
from qsens.core.spec import SweepSpec
from qsens.core.trial import Request, Trial
from qsens.execution.runner import attempt_trial
from qsens.run.evaluate import Evaluator
from qsens.run.folder import RunPaths, cpu_model, library_versions, read_provenance
from qsens.run.open import assemble, linear_algebra_threads
from qsens.run.sweep import workload_of

# A Dask worker may have several threads; the engines of one map take what a worker has.
_ONE_MAP_AT_A_TIME = threading.Lock()


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
    """Where a worker runs, and why it cannot work on a job; no problem is an empty tuple."""

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
    assembled = assemble(job.spec, trust_checkpoint=job.trust_checkpoint)
    linear_algebra_threads(job.spec.threads)
    found = assembled.contents()
    changed = [name for name, text in job.contents if found.get(name) != text]
    if changed:
        raise _refusal([f"another {name}" for name in changed])
    paths = RunPaths(Path(job.out))
    workload = workload_of(assembled, paths, _silent)
    return Evaluator(workload, evidence=paths.evidence, samples=paths.samples, fp32=None)


def _problems(job: Job) -> list[str]:
    here = library_versions()
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


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing: the driver tells what is done."""
