"""qsens: which layers of a generator survive INT8, and which must stay in FP16."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_API = ("choose_map", "open_graph", "run_sweep", "write_report")


def __getattr__(name: str) -> Any:
    # The functions need onnx, pandas and matplotlib, which the command line loads only where it must.
    if name in _API:
        return getattr(import_module("qsens.api"), name)
    raise AttributeError(f"module 'qsens' has no attribute {name!r}")
