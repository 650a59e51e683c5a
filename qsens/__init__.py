"""qsens: which layers of a generator survive INT8, and which must stay in FP16.

`qsens.sweep` is where to begin; `__all__` is everything that there is to call, one function for each thing
that the command line can do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsens.python.look import (
        check_set,
        compare,
        describe_set,
        devices,
        doctor,
        fid,
        plugins,
        write_report,
    )
    from qsens.python.run import Run, open_run, select
    from qsens.python.ship import bench, compile_bundle, export, verify
    from qsens.python.sweep import demo, layers, plan, sweep

__version__ = "0.1.0"
_PLACES = {
    "qsens.python.sweep": ("demo", "layers", "plan", "sweep"),
    "qsens.python.run": ("Run", "open_run", "select"),
    "qsens.python.ship": ("bench", "compile_bundle", "export", "verify"),
    "qsens.python.look": (
        *("check_set", "compare", "describe_set", "devices"),
        *("doctor", "fid", "plugins", "write_report"),
    ),
}
__all__ = [
    "Run",
    "bench",
    "check_set",
    "compare",
    "compile_bundle",
    "demo",
    "describe_set",
    "devices",
    "doctor",
    "export",
    "fid",
    "layers",
    "open_run",
    "plan",
    "plugins",
    "select",
    "sweep",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # The functions need onnx, pandas and matplotlib, which the command line loads only where it must.
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'qsens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
