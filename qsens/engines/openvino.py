"""Backend `openvino`: the engine that ships on CPUs, INT8 where a layer's kernel is, FP32 elsewhere."""

from typing import cast

from qsens.core.errors import BuildError
from qsens.core.interfaces import Backend, Engine
from qsens.device.errors import DeviceError
from qsens.device.openvino_runtime import OpenVinoRuntime
from qsens.engines.cpu_engines import CpuEngine
from qsens.engines.lowering.lowered_graph import LoweredGraph, model_source


class OpenVinoBackend(Backend):
    """Compiles with the user's OpenVINO; FP16 layers run in FP32, and their labels say so.

    `threads` 0 lets OpenVINO choose.
    """

    name = "openvino"
    flavour = "u8"

    def __init__(self, *, threads: int = 0) -> None:
        self.threads = threads

    def build(self, lowered: LoweredGraph) -> Engine:
        if lowered.flavour != self.flavour:
            raise BuildError(
                f"backend {self.name} cannot run flavour {lowered.flavour!r}", f"use {self.flavour!r}"
            )
        try:
            with model_source(lowered.detached) as source:
                runtime = OpenVinoRuntime(source, threads=self.threads)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error
        # Its `applied` is read when first asked for, which no type of an attribute can say.
        return cast("Engine", CpuEngine(runtime, lowered, pads_batches=True))
