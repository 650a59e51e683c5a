"""From a bundle's graph to an engine, with whichever runtime the bundle is for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError

if TYPE_CHECKING:
    from qsens.device.audit import DeviceEngine

_INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
    "tensorrt": "on a Jetson it comes with JetPack (use the system's Python), else pip install tensorrt",
}


def is_installed(runtime: str) -> bool:
    """Whether the runtime's module is there; whether it works is seen when an engine is opened."""
    return importlib.util.find_spec(runtime) is not None


def open_engine(bundle: Bundle) -> DeviceEngine:
    """Build the engine of a bundle.

    Raises:
        DeviceError: if the runtime is not installed or refuses the graph.
    """
    if bundle.runtime not in _INSTALL:
        raise DeviceError(f"no runtime named {bundle.runtime!r}", f"known: {', '.join(_INSTALL)}")
    if not is_installed(bundle.runtime):
        raise DeviceError(f"{bundle.runtime} is not installed here", _INSTALL[bundle.runtime])
    if bundle.runtime == "openvino":
        return _open_openvino(bundle)
    if bundle.runtime == "onnxruntime":
        return _open_onnxruntime(bundle)
    return _open_tensorrt(bundle)


# Each runtime is imported by the one function that needs it: a device has only one of them.


def _open_openvino(bundle: Bundle) -> DeviceEngine:
    from qsens.device.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(bundle.model_path, batch=bundle.batch)


def _open_onnxruntime(bundle: Bundle) -> DeviceEngine:
    from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime

    return OnnxRuntimeRuntime(bundle.model_path)


def _open_tensorrt(bundle: Bundle) -> DeviceEngine:
    from qsens.device.tensorrt_build import PlanOptions
    from qsens.device.tensorrt_runtime import TensorRtRuntime, build_plan

    options = PlanOptions(
        flavour=bundle.flavour,
        batches=(bundle.batch, bundle.batch, bundle.batch),
        input_shapes=bundle.input_shapes,
        float_pins=bundle.float_pins,
    )
    return TensorRtRuntime(build_plan(bundle.model_path.read_bytes(), options))
