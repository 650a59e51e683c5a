"""The abilities of this machine, and why it lacks others: its CPU, libraries, plug-ins and targets."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from qsens import __version__
from qsens.core.plugins import PluginRecord, list_plugins
from qsens.core.targets import declared_targets
from qsens.device.machine import this_cpu_saturates

OPTIONAL_LIBRARIES = ("torch", "torchvision", "openvino", "tensorrt", "tensorrt-rtx-cu12-libs")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `is_usable` is `None` where it is only a fact."""

    topic: str
    name: str
    is_usable: bool | None
    detail: str


def findings() -> tuple[Finding, ...]:
    """Everything that was looked at."""
    plugins = _plugins(list_plugins())
    return (
        *_machine(),
        *_libraries(),
        *plugins,
        *_providers(),
        *_targets([entry for entry in plugins if entry.topic == "backends"]),
    )


def _machine() -> list[Finding]:
    flags = cpu_flags(Path("/proc/cpuinfo"))
    shown = ", ".join(flags) if flags is not None else "unknown on this system"
    free_bytes = shutil.disk_usage(Path.cwd()).free
    return [
        Finding("machine", "qsens", None, __version__),
        Finding("machine", "python", sys.version_info >= (3, 11), platform.python_version()),
        Finding("machine", "system", None, f"{platform.system()} {platform.machine()}"),
        Finding("machine", "cpus", None, str(usable_cpus())),
        Finding("machine", "cpu flags", None, shown or f"none of {', '.join(CPU_FLAGS)}"),
        Finding("machine", "int8 on cpu", None, _int8_advice(saturates=this_cpu_saturates())),
        Finding("machine", "free disk", free_bytes > 2**30, f"{free_bytes / 2**30:.1f} GiB here"),
    ]


def usable_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags(cpuinfo: Path) -> list[str] | None:
    """The instruction sets of a Linux CPU that matter for INT8; `None` where they cannot be read."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    found = set(lines[0].partition(":")[2].split()) if lines else set()
    return [flag for flag in CPU_FLAGS if flag in found]


def _int8_advice(*, saturates: bool | None) -> str:
    if saturates is None:
        return "unknown"
    if not saturates:
        return "CPU INT8 kernels do not saturate"
    return "CPU INT8 kernels saturate on signed tensors (no VNNI): audits mark them; scores are exact"


def _libraries() -> list[Finding]:
    required = [text for text in requires("qsens") or () if "extra ==" not in text]
    names = [_requirement_name(text) for text in required]
    return [_library(name, is_required=True) for name in names] + [
        _library(name, is_required=False) for name in OPTIONAL_LIBRARIES
    ]


def _requirement_name(text: str) -> str:
    end = next((place for place, letter in enumerate(text) if letter in " <>=!~;[("), len(text))
    return text[:end]


def _library(name: str, *, is_required: bool) -> Finding:
    try:
        return Finding("library", name, is_usable=True, detail=version(name))
    except PackageNotFoundError:
        return Finding("library", name, is_usable=False if is_required else None, detail="not installed")


def _plugins(records: tuple[PluginRecord, ...]) -> list[Finding]:
    return [
        Finding(record.group, record.name, record.problem is None, record.problem or record.distribution)
        for record in records
    ]


def _targets(backends: Sequence[Finding]) -> list[Finding]:
    """Findings on the targets of `--for`: every bundle can be written here, some can be built and checked."""
    usable = {entry.name for entry in backends if entry.is_usable}
    compiled = "; compiled as a check by tensorrt-rtx" if "tensorrt-rtx" in usable else ""
    found = []
    for target, declared in declared_targets().items():
        extra = compiled if target == "tensorrt" else ""
        elsewhere = f"written here{extra}; built and checked on the device"
        detail = "written, built and checked here" if declared.backend in usable else elsewhere
        found.append(Finding("target", target, is_usable=True, detail=detail))
    return found


def _providers() -> list[Finding]:
    # ONNX Runtime takes a fifth of a second to load.
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("onnxruntime", "providers", is_usable=False, detail=str(error))]
    names = onnxruntime.get_available_providers()
    return [Finding("onnxruntime", name, is_usable=True, detail="provider") for name in names]
