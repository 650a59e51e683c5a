"""What a measurement ran on: processor, GPU, driver, clocks, memory, system; what a machine lacks is null."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

# Runs a tool and gives its standard output, or None where it is missing, fails or hangs.
Tool = Callable[[Sequence[str]], Optional[str]]
SYSTEM = Path("/")
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.current.sm",
    "clocks.max.sm",
    "clocks.current.memory",
    "power.limit",
    "compute_cap",
)
_SECONDS_FOR_A_TOOL = 10
_TEGRA_GPU = re.compile(r"\.(gpu|gp10b|gv11b|ga10b|gb10b)$|^gpu", re.IGNORECASE)


def output_of(command: Sequence[str]) -> str | None:
    """Standard output of a tool; `None` where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS_FOR_A_TOOL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def describe_device(runtime: str = "", *, root: Path = SYSTEM, tool: Tool = output_of) -> dict[str, Any]:
    """The machine as plain values for a latency file; no host name, no user, no path is among them.

    `name` is the board's where it is a Jetson or another board that says so, else that of the GPU for the
    `runtime`s that run on one (`tensorrt`, ...), else the processor's. Clocks are of this moment.
    """
    board = _text(root / "proc/device-tree/model")
    gpu = _gpu(root, tool)
    cpu = cpu_name(root)
    runs_on_gpu = runtime.startswith(("tensorrt", "torch2trt")) or "cuda" in runtime
    of_gpu = gpu["name"] if gpu is not None and runs_on_gpu else None
    return {
        "name": board or of_gpu or cpu or platform.machine() or "unknown device",
        "board": board,
        "cpu": cpu,
        "cores": _usable_cores(),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cpu_mhz": _scaled(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e-3),
        "maximum_cpu_mhz": _scaled(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", 1e-3),
        "memory_bytes": _memory_bytes(root),
        "gpu": gpu,
        "system": _system_name(root),
        "kernel": platform.release() or None,
        "architecture": platform.machine() or None,
        "python": platform.python_version(),
        "tegra_release": _tegra_release(root),
        "power_mode": _power_mode(root, tool),
        "load_average": load_average(),
    }


def cpu_name(root: Path = SYSTEM) -> str | None:
    """The processor as Linux names it; `None` where it does not."""
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return next((name for name in named if name), None) or platform.processor() or None


def load_average() -> float | None:
    """Programs that wanted to run in the last minute, on average; `None` where the system does not count."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _gpu(root: Path, tool: Tool) -> dict[str, Any] | None:
    listed = tool(("nvidia-smi", "--query-gpu=" + ",".join(_GPU_FIELDS), "--format=csv,noheader,nounits"))
    rows = [line for line in (listed or "").splitlines() if line.count(",") == len(_GPU_FIELDS) - 1]
    if rows:
        return _gpu_of_row([cell.strip() for cell in rows[0].split(",")], len(rows))
    return _tegra_gpu(root)


def _gpu_of_row(cells: list[str], count: int) -> dict[str, Any]:
    memory = _number(cells[2])
    return {
        "name": cells[0],
        "count": count,
        "driver": cells[1],
        "memory_bytes": None if memory is None else int(memory * 2**20),
        "clock_mhz": _number(cells[3]),
        "maximum_clock_mhz": _number(cells[4]),
        "memory_clock_mhz": _number(cells[5]),
        "power_limit_w": _number(cells[6]),
        "compute_capability": cells[7] if _number(cells[7]) is not None else None,
    }


def _tegra_gpu(root: Path) -> dict[str, Any] | None:
    """The GPU of a Jetson, which shares its memory with the processor and has no `nvidia-smi` of use."""
    folder = root / "sys/class/devfreq"
    found = [entry for entry in sorted(folder.glob("*")) if _TEGRA_GPU.search(entry.name)]
    if not found:
        return None
    return {
        "name": found[0].name.rpartition(".")[2],
        "count": 1,
        "driver": None,
        "memory_bytes": None,
        "clock_mhz": _scaled(found[0] / "cur_freq", 1e-6),
        "maximum_clock_mhz": _scaled(found[0] / "max_freq", 1e-6),
        "memory_clock_mhz": None,
        "power_limit_w": None,
        "compute_capability": None,
    }


def _memory_bytes(root: Path) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return None if match is None else 1024 * int(match.group(1))


def _system_name(root: Path) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(root / "etc/os-release") or "", re.MULTILINE)
    return platform.system() if match is None else match.group(1)


def _tegra_release(root: Path) -> str | None:
    """For example `R35.4.1`, which stands for a JetPack."""
    text = _text(root / "etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
    return None if match is None else f"R{match.group(1)}.{match.group(2)}"


def _power_mode(root: Path, tool: Tool) -> str | None:
    """The power mode of a Jetson, for example `MAXN`; other machines are not asked."""
    if not (root / "etc/nv_tegra_release").exists():
        return None
    match = re.search(r"NV Power Mode:\s*(\S+)", tool(("nvpmodel", "-q")) or "")
    return None if match is None else match.group(1)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0\n ") or None
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _scaled(path: Path, factor: float) -> float | None:
    value = _number(_text(path))
    return None if value is None else round(value * factor, 1)
