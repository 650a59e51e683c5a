"""How much memory an engine adds: to the process on a processor, to the device on a GPU."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Callable

from qsens.device.machine import Tool, output_of

SYSTEM = Path("/")
_RESET_PEAK = "5"  # proc(5), clear_refs: sets the peak of the resident memory to what is resident now


def added_memory_bytes(work: Callable[[], object], *, root: Path = SYSTEM) -> int | None:
    """How far the process's resident memory rose above its start while `work` ran, peaks included.

    Memory that an earlier engine freed is given back to the system first, as far as the C library can.
    `None` where the system does not tell (Linux does).
    """
    _give_back_freed_memory()
    status = root / "proc/self/status"
    can_reset = _reset_peak(root)
    before = _resident(status)
    work()
    after = _resident(status)
    if before is None or after is None:
        return None
    top = after[1] if can_reset else after[0]
    return max(0, top - before[0])


def machine_memory_bytes(*, root: Path = SYSTEM) -> int | None:
    """Memory of this machine, or of the control group that this process may use; `None` if not told."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    try:
        limit = int((root / "sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # "max" says that there is none
        return total
    return min(total, limit)


def gpu_memory_bytes(tool: Tool = output_of) -> int | None:
    """Device memory that this process holds, by `nvidia-smi`; `None` where it does not list the process."""
    listed = tool(("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"))
    total = None
    for line in (listed or "").splitlines():
        match = re.match(rf"\s*{os.getpid()}\s*,\s*(\d+)\s*$", line)
        if match is not None:
            total = (total or 0) + int(match.group(1)) * 2**20
    return total


def _give_back_freed_memory() -> None:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _reset_peak(root: Path) -> bool:
    try:
        (root / "proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident(status: Path) -> tuple[int, int] | None:
    """Resident bytes now and at their peak."""
    try:
        text = status.read_text()
    except OSError:
        return None
    now = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    if now is None or peak is None:
        return None
    return 1024 * int(now.group(1)), 1024 * int(peak.group(1))
