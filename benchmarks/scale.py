"""One run of very many maps on very many workers, with scoring replaced by sleeping: where the driver ends.

python benchmarks/scale.py [--pool dask|local] [--workers 200] [--trials 100000] [--measured 2000]
                           [--layers 60] [--seconds 2] [--folder FOLDER]

The run folder, the loop, the journal, the files of evidence and the pools are those of `qsens sweep`; what is
left out is the network: a worker sleeps between half and one and a half times `--seconds`, writes small files
of evidence by the functions that write real ones, and returns made-up scores. Maps are random ones, proposed
all at once. Workers of Dask are threads of one other process, those of `--pool local` are processes.

Measured are the first and the last `--measured` trials: those with the longest queue, and those with the most
behind them. The trials between are written by the journal itself, with empty files of evidence. A line for
each tenth says how many trials a second were written and what the driver used for one; the last lines what
one append to the journal took (wall time, the disk's part of it too), how much memory the driver ever had,
and how long the second driver, which resumes the run, needed from opening the folder to its first map.
`--measured` of half the trials leaves none out; `--seconds 0` shows how many can be handed out at all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from machine import print_machine
from made_up import made_up_layers, made_up_trial
from sleeping_worker import sleep_and_keep

from qsens.core.interfaces import Strategy
from qsens.core.layer import Layer
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Request, Trial, requested_map
from qsens.run.evidence import audit_path, evidence_path
from qsens.run.folder import RunFolder, RunPaths
from qsens.run.in_order import TrialRunner
from qsens.run.loop import StoppedError, try_maps
from qsens.run.worker_pools import WorkerPool, open_cluster_pool, open_local_pool

SPEC = SweepSpec.from_mapping({"model": "made-up.onnx"})


@dataclass(frozen=True)
class RandomMaps(Strategy):
    """That many maps, each layer INT8 or FP16 by the throw of a coin, proposed all at once."""

    count: int
    name: str = "random"

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> Sequence[Request]:
        """All of them until all are tried."""
        if len(trials) >= self.count + 3:
            return []
        flips = np.random.default_rng(0).random((self.count, len(layers))) < 0.5
        names = [layer.name for layer in layers]
        kinds = (Precision.FP16, Precision.INT8)
        return [
            PrecisionMap.over({name: kinds[int(flip)] for name, flip in zip(names, row, strict=True)})
            for row in flips
        ]


@dataclass
class Sleeping(TrialRunner):
    """Hands maps to a pool as a sweep's runner does."""

    pool: WorkerPool
    folder: RunPaths
    seconds: float
    names: list[str]
    started_s: float | None = None
    attempts: int = 1

    @property
    def capacity(self) -> int:
        return self.pool.size

    def start(self, number: int, request: Request, fp32: Trial | None) -> Future[Trial]:
        """Begin one trial."""
        self.started_s = self.started_s or time.perf_counter()
        return self.pool.submit(
            sleep_and_keep, str(self.folder.path), number, request, self.seconds, self.names
        )

    def check(self) -> None:
        self.pool.check()


@dataclass
class Watch:
    """An append that is timed, and a line for each tenth of the trials."""

    total: int
    append: Callable[[Trial], None]
    appends_ms: list[float] = field(default_factory=list)
    began: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.process_time()))

    def __call__(self, trial: Trial) -> None:
        start = time.perf_counter()
        self.append(trial)
        self.appends_ms.append(1000 * (time.perf_counter() - start))
        if len(self.appends_ms) % max(1, self.total // 10) == 0:
            self._print_tenth()

    def stop_in_time(self, done: int, total: int, label: str) -> None:
        """A `Progress` that stops a run as Ctrl-C does, once as many trials are written as are measured."""
        if len(self.appends_ms) >= self.total and done < total:
            raise KeyboardInterrupt

    def print_end(self) -> None:
        """What appends took, and the driver's memory and time."""
        spread = np.percentile(self.appends_ms, [50, 99, 100])
        print("append, ms: median {:.2f}, 99 % below {:.2f}, longest {:.1f}".format(*spread))
        memory, cpu_s = memory_mib(), time.process_time()
        print(f"driver's memory at most {memory:.0f} MiB, its CPU time {cpu_s:.0f} s", flush=True)

    def _print_tenth(self) -> None:
        count = max(1, self.total // 10)
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self.began = time.perf_counter(), time.process_time()
        print(
            f"{len(self.appends_ms):>8} {count / wall:>12.1f} {1000 * cpu / count:>16.2f} "
            f"{np.median(self.appends_ms[-count:]):>14.2f} {memory_mib():>12.0f}",
            flush=True,
        )


def memory_mib() -> float:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def drive(folder: Path, options: argparse.Namespace, pool: WorkerPool) -> None:
    """Score the measured maps that come first, or those that come last where the folder holds the others."""
    layers = made_up_layers(options.layers)
    opened_s = time.perf_counter()
    with RunFolder.open(folder, SPEC) as run:
        before = run.journal.count
        if before:
            cpu_s, memory = time.process_time(), memory_mib()
            print(f"opened with {before} trials: {cpu_s:.1f} s of CPU, {memory:.0f} MiB", flush=True)
        run.write_layers(layers)
        watch = Watch(options.measured, run.journal.append)
        run.journal.append = watch  # type: ignore[method-assign]
        runner = Sleeping(pool, run, options.seconds, [layer.name for layer in layers])
        print(f"{'trials':>8} {'a second':>12} {'driver CPU, ms':>16} {'append, ms':>14} {'memory, MiB':>12}")
        with contextlib.suppress(StoppedError):
            strategy = RandomMaps(options.trials - len(anchor_maps(layers)))
            try_maps(
                layers, strategy=strategy, runner=runner, journal=run.journal, progress=watch.stop_in_time
            )
    watch.print_end()
    if before:
        assert runner.started_s is not None, "at least one map was started"
        print(f"resumed: {runner.started_s - opened_s:.1f} s from opening the folder to the first map")


def fill(folder: Path, options: argparse.Namespace) -> None:
    """Write all trials but the last measured ones: the journal's lines, and empty files of evidence."""
    layers = made_up_layers(options.layers)
    maps = [*anchor_maps(layers).values(), *RandomMaps(options.trials).propose(layers, ())]
    with RunFolder.open(folder, SPEC) as run:
        sync, os.fsync = os.fsync, lambda file: None
        for number in range(run.journal.count, options.trials - options.measured):
            requested = requested_map(maps[number])
            names = evidence_path(run.evidence, number), audit_path(run.evidence, number)
            for path in (*names, run.evidence / f"graph-{requested.digest}-scored.json"):
                path.touch()
            digests = tuple((kind, "0" * 32) for kind in ("evidence", "audit"))
            run.journal.append(
                replace(made_up_trial(number, requested), graph=requested.digest, evidence=digests)
            )
        os.fsync = sync


@contextlib.contextmanager
def opened_pool(options: argparse.Namespace) -> Iterator[WorkerPool]:
    """The pool of a sweep; Dask's scheduler and workers are another process."""
    if options.pool == "local":
        with open_local_pool(options.workers) as pool:
            yield pool
        return
    command = [sys.executable, __file__, "--serve", "--workers", str(options.workers)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None, "it is a pipe"
        with open_cluster_pool(process.stdout.readline().strip()) as cluster:
            yield cluster
    finally:
        process.communicate("\n")


def serve(workers: int) -> None:
    """A scheduler with that many workers of one thread each, until a line comes in."""
    import dask
    from distributed import LocalCluster

    # What each worker does for itself many times a second, here all of them do on one core.
    quiet = {
        "worker.profile.enabled": False,
        "admin.tick.interval": "10s",
        "admin.system-monitor.interval": "10s",
    }
    dask.config.set({f"distributed.{key}": value for key, value in quiet.items()})
    # One disk stands for those of all machines: its waiting would be that of 200 workers one after another.
    os.fsync = lambda file: None
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        memory_limit=None,
        dashboard_address=":0",
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.readline()


def main() -> None:
    """Print the tables."""
    options = parsed_options()
    if options.serve:
        serve(options.workers)
        return
    with contextlib.ExitStack() as stack:
        place = options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="qsens-benchmark-"))
        folder = Path(place) / "run"
        if not options.resume:
            print_machine("distributed")
        drive(folder, options, stack.enter_context(opened_pool(options)))
        if not options.resume:
            fill(folder, options)
            again = [sys.executable, __file__, *sys.argv[1:], "--resume", "--folder", place]
            subprocess.run(list(map(str, again)), check=True)
            files = sum(1 for _ in RunPaths(folder).evidence.iterdir())
            size = RunPaths(folder).journal_path.stat().st_size / 2**20
            print(f"journal {size:.0f} MiB, {files} files of evidence")


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", choices=("dask", "local"), default="dask")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--measured", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
