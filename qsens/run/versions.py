"""Versions of what can change a score: libraries, Python and the processor."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from qsens import __version__
from qsens.core.targets import target_named

# The libraries whose versions can change a score.
RECORDED_LIBRARIES = ("numpy", "onnx", "onnxruntime", "pillow", "scipy", "torch", "torchvision")


def versions_here(target: str | None) -> dict[str, str]:
    """Versions of what can change a score, with Python and the processor."""
    here = {"qsens": __version__, "python": platform.python_version(), "cpu": cpu_model()}
    return here | library_versions(target)


def library_versions(target: str | None = None) -> dict[str, str]:
    """Versions of the libraries that can change a score, qsens first, the runtime of a run's target last."""
    found = {"qsens": __version__}
    runtime = () if target is None else (target_named(target).target.runtime,)
    for name in dict.fromkeys((*RECORDED_LIBRARIES, *runtime)):
        try:
            found[name] = _installed(name)
        except PackageNotFoundError:
            continue
    return found


# What a process has loaded stays as it is, and reading metadata takes as long as a small trial.
_installed = cache(version)


def cpu_model() -> str:
    """The processor as Linux names it, else the machine type: scores may differ in float between models."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
