"""TensorRT and torch2trt, loaded when asked for and probed for what this backend needs of them."""

import importlib
import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from qsens.core.errors import PluginError, install_hint
from qsens.device.cuda_memory import driver_problem
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_module import features_of, import_tensorrt

INSTALL_HINT = (
    "install torch2trt from its git checkout beside TensorRT 8 or 10, without build isolation "
    "(it is not on PyPI under this name; torch2trt-unofficial is another, older program)"
)
_NEEDED = ("ConversionContext", "tensorrt_converter", "get_arg")
_KEYWORDS = frozenset({"network", "torch2trt_kwargs", "builder_config"})


@dataclass(frozen=True, eq=False)
class Libraries:
    """The two modules; `has_layer_metadata`: layers of a network can carry a note (TensorRT 8.6)."""

    trt: Any
    torch2trt: Any
    has_layer_metadata: bool


def load_libraries() -> Libraries:
    """Import TensorRT, then torch2trt.

    Raises:
        PluginError: saying which is missing, too old or too new, and what to do.
    """
    if find_spec("torch") is None:
        raise PluginError("backend torch2trt needs torch", install_hint("torch"))
    try:
        trt = import_tensorrt()
    except DeviceError as error:
        raise PluginError(error.message, error.hint) from error
    features = features_of(trt)
    # torch2trt dies while it is imported beside TensorRT 11, so this comes first.
    if not features.has_weak_typing:
        raise PluginError(
            f"torch2trt ends at TensorRT 10, this is {trt.__version__}: "
            "precisions of single layers can no longer be set",
            "use backend tensorrt",
        )
    return Libraries(trt, _import_torch2trt(), features.has_layer_metadata)


def _import_torch2trt() -> Any:
    if find_spec("torch2trt") is None:
        raise PluginError("torch2trt is not installed", INSTALL_HINT)
    try:
        module = importlib.import_module("torch2trt")
    except Exception as error:  # it runs code of its own against TensorRT while it is imported
        raise PluginError(
            f"torch2trt is installed but cannot be imported: {type(error).__name__}: {error}", INSTALL_HINT
        ) from error
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if not missing:
        missing = sorted(_KEYWORDS - inspect.signature(module.ConversionContext).parameters.keys())
    if missing:
        raise PluginError(f"this torch2trt is too old: it has no {', '.join(missing)}", INSTALL_HINT)
    return module


def problem() -> str | None:
    """Why this machine cannot build and run engines with torch2trt; `None` where it can."""
    for name in ("tensorrt", "torch2trt"):
        if find_spec(name) is None:
            return f"{name} is not installed" + (f" ({INSTALL_HINT})" if name == "torch2trt" else "")
    try:
        load_libraries()
    except PluginError as error:
        return f"{error.message} ({error.hint})"
    return driver_problem()
