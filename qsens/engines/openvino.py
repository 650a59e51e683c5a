"""Backend `openvino`: the engine that ships on CPUs, INT8 where a layer's kernel is, FP32 elsewhere."""

from typing import cast

from qsens.core.errors import BuildError, PluginError, install_hint
from qsens.core.interfaces import Backend, Engine
from qsens.core.targets import Target
from qsens.device.errors import DeviceError
from qsens.device.open_engine import is_installed
from qsens.engines.cpu_engines import CpuEngine
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph, model_source

_USAGE = """\
```python
import numpy as np
import openvino

core = openvino.Core()
model = core.read_model("model.onnx")
# INT8 transposed convolutions need a static shape.
model.reshape({shapes})
# FP32 is what the float layers were checked in; without the hint a CPU may choose BF16.
engine = core.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
with np.load("goldens.npz") as goldens:
    feeds = {feeds}
picture = engine(feeds)[{picture!r}]
```"""


class OpenVinoBackend(Backend):
    """Compiles with the user's OpenVINO; FP16 layers run in FP32, and their labels say so.

    `threads` 0 lets OpenVINO choose.

    Raises:
        PluginError: if OpenVINO is not installed.
    """

    name = "openvino"
    flavour = "u8"
    targets = (
        Target(
            name="openvino",
            runtime="openvino",
            title="OpenVINO",
            flavour=Flavour.U8,
            psnr_cap_db=60.0,
            needs="`pip install openvino numpy`",
            usage=_USAGE,
        ),
    )

    def __init__(self, *, threads: int = 0) -> None:
        if (missing := problem()) is not None:
            raise PluginError(missing, install_hint("openvino"))
        self.threads = threads

    def build(self, lowered: LoweredGraph) -> Engine:
        # Bundles for OpenVINO are written where it is not installed, too.
        from qsens.device.openvino_runtime import OpenVinoRuntime

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


def problem() -> str | None:
    """The reason that this machine cannot build OpenVINO's engines, or `None`. Loads no library."""
    return None if is_installed("openvino") else "openvino is not installed here"
