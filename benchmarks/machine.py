"""What the benchmarks share: the line that says where numbers come from, and timing in turns."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_MATH_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Seconds:
    """Time of one call: `cpu` of all threads of the process, `wall` by the clock."""

    cpu: float
    wall: float


def print_machine(*libraries: str) -> None:
    """Print CPU, memory, load, date and versions; a shared machine shows in the load."""
    names = ("qsens", "numpy", "onnxruntime", *libraries)
    found = ", ".join(f"{name} {version(name)}" for name in names)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    print(f"{cpu_model()}, {os.cpu_count()} CPUs, {load}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"Python {platform.python_version()}, {found}")
    print("Other work on the machine moves wall times a lot and CPU times by about a tenth.\n", flush=True)


def cpu_model() -> str:
    """The processor with the vector instructions that decide its speed."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = [line.partition(":") for line in path.read_text().splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    flags = set(facts.get("flags", "").split())
    vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if name in flags]
    return f"{facts.get('model name', platform.machine())} ({' '.join(vectors)})"


def limit_math_threads(threads: int) -> None:
    """Start this program again with numpy and SciPy held to `threads` threads, where they are not already."""
    wanted = dict.fromkeys(_MATH_THREADS, str(threads))
    if threads and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def timed(call: Callable[[], object]) -> Seconds:
    """Time of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def timed_in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[Seconds]]:
    """Times by name: one of each in turn after a first round that is not counted."""
    found: dict[str, list[Seconds]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            seconds = timed(call)
            if turn:
                found[name].append(seconds)
    return found


def median_cpu(times: Sequence[Seconds]) -> float:
    """Median CPU seconds."""
    return statistics.median(entry.cpu for entry in times)


def median_wall(times: Sequence[Seconds]) -> float:
    """Median wall seconds."""
    return statistics.median(entry.wall for entry in times)


def reset_peak() -> None:
    """Let `peak_mib` begin anew, where the system allows it (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mib() -> float:
    """The most memory that this process has had resident, in MiB; of its whole life but for `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) / 1024
