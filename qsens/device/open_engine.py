"""From a bundle's graph to an engine, with whichever runtime the bundle is for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError

if TYPE_CHECKING:
    from qsens.device.audit import DeviceEngine

_SUFFIX = "_runtime"


def is_installed(runtime: str) -> bool:
    """Whether the runtime's module is there; whether it works is seen when an engine is opened."""
    return importlib.util.find_spec(runtime) is not None


def runtime_file(runtime: str) -> str:
    """The name of the file of this folder that opens engines of a runtime."""
    return f"{runtime}{_SUFFIX}.py"


def open_engine(bundle: Bundle) -> DeviceEngine:
    """Build the engine of a bundle.

    The module of its runtime says which `FLAVOURS` of graphs it takes; its `open_runtime` does the rest.

    Raises:
        DeviceError: if the runtime is unknown or not installed, or refuses the graph.
    """
    name = bundle.opened_by or f"qsens.device.{bundle.runtime}{_SUFFIX}"
    if importlib.util.find_spec(name) is None:
        known = sorted(path.stem[: -len(_SUFFIX)] for path in Path(__file__).parent.glob(runtime_file("*")))
        raise DeviceError(f"no runtime named {bundle.runtime!r}", f"known: {', '.join(known)}")
    if not is_installed(bundle.runtime):
        raise DeviceError(
            f"{bundle.runtime} is not installed here",
            f"README.md of the bundle says what it needs; most often: pip install {bundle.runtime}",
        )
    # A device has one runtime only, whose module imports it.
    module = importlib.import_module(name)
    if bundle.flavour not in module.FLAVOURS:
        raise DeviceError(
            f"{bundle.runtime} takes graphs of flavour {', '.join(module.FLAVOURS)}, not {bundle.flavour}",
            "export the bundle again",
        )
    engine: DeviceEngine = module.open_runtime(bundle)
    return engine
