"""The machine of a measurement (absent parts are null), and whether its INT8 kernels saturate."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Callable, Collection, Mapping, Optional, Sequence

import numpy as np

from qsens.device.onnx_nodes import WEIGHTED, OnnxGraph, OnnxNode

CPUINFO = Path("/proc/cpuinfo")
# The sum of two products that `vpmaddubsw` can hold.
_LARGEST_PAIR = 2**15 - 1
_EXACT_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
# ONEDNN_MAX_CPU_ISA keeps oneDNN, and with it OpenVINO, from what the CPU could do.
_LIMIT_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITS_WITHOUT_VNNI = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})
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


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Flags of the first core in the text of `/proc/cpuinfo`; empty where it lists none, as on ARM."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def int8_saturates(flags: Collection[str], isa_limit: str = "") -> bool:
    """Whether sums of INT8 products overflow 16 bits on a CPU with these flags.

    Without VNNI, x86 adds two products of codes in 16 bits and cuts what does not fit. `isa_limit` is a
    value of `ONEDNN_MAX_CPU_ISA`. A CPU that is no x86 has no such instruction.
    """
    if "ssse3" not in flags:
        return False
    limit = isa_limit.upper()
    if limit in _LIMITS_WITHOUT_VNNI:
        return True
    if limit.startswith("AVX2_VNNI"):
        return "avx_vnni" not in flags
    return not _EXACT_FLAGS & set(flags)


def this_cpu_saturates(environment: Mapping[str, str] = os.environ, *, onednn: bool = True) -> bool | None:
    """As `int8_saturates` for this machine; `None` for an x86 CPU whose flags are not known.

    Without `onednn` the limit of instructions in the environment does not count.
    """
    if platform.machine().lower() not in {"x86_64", "amd64", "i386", "i686"}:
        return False
    if not CPUINFO.exists():
        return None
    limits = [environment.get(name, "") for name in _LIMIT_VARIABLES] if onednn else []
    return int8_saturates(cpu_flags(CPUINFO.read_text()), next(filter(None, limits), ""))


def overflowing_nodes(graph: OnnxGraph) -> frozenset[str]:
    """Weighted nodes whose codes can overflow the sum of two products in 16 bits.

    Codes of a signed tensor (zero point not 0) reach 255; those of a non-negative one reach 127, as long
    as no value passes the calibrated range. Weights that cannot be read count as 127.
    """
    return frozenset(
        node.name
        for node in graph.nodes
        if node.operator in WEIGHTED and _largest_pair(node, graph) > _LARGEST_PAIR
    )


def _largest_pair(node: OnnxNode, graph: OnnxGraph) -> int:
    data, weight = node.inputs[:2]
    if graph.is_constant(data):
        data, weight = weight, data
    zero_point = _zero_point(data, graph)
    codes = _weight_codes(weight, graph)
    if zero_point is None or codes is None:
        return 0
    return 2 * codes * (255 if zero_point else 127)


def _zero_point(tensor: str, graph: OnnxGraph) -> int | None:
    """Zero point of the codes that `tensor` comes from, `None` where it is not dequantized."""
    node = graph.producers.get(tensor)
    if node is None or node.operator != "DequantizeLinear":
        return None
    if len(node.inputs) < 3 or node.inputs[2] not in graph.constants:
        return 0
    values = graph.constants[node.inputs[2]].values()
    return 0 if values is None else int(values.max())


def _weight_codes(tensor: str, graph: OnnxGraph) -> int | None:
    """Largest magnitude of the integer weights behind `tensor`, `None` where they are no integers."""
    node = graph.producers.get(tensor)
    if node is None or node.operator != "DequantizeLinear" or node.inputs[0] not in graph.constants:
        return None
    values = graph.constants[node.inputs[0]].values()
    return 127 if values is None else int(np.abs(values.astype(np.int16)).max(initial=0))


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
