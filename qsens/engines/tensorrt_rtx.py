"""Backend `tensorrt-rtx`: NVIDIA's compiler on a machine with no GPU, which checks that every map builds."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from qsens.core.errors import PluginError, ScoreError, install_hint
from qsens.core.interfaces import Backend
from qsens.device.audit import ExecutedLayer, audit_layers
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import BuiltPlan, ParsedLayer, PlanOptions
from qsens.device.tensorrt_inspector import layers_from_lines
from qsens.device.tensorrt_module import TENSORRT_RTX, import_tensorrt
from qsens.device.tensorrt_runtime import TensorRtRuntime
from qsens.engines.lowering.lowered_graph import LoweredGraph, applied_from_audit, asked_layers
from qsens.engines.tensorrt import check_flavour, compile_lowered, three_batches

CANNOT_RUN = "TensorRT-RTX engines cannot run here: no supported GPU"
CANNOT_RUN_HINT = (
    "this backend shows that a map compiles; score with --backend onnxruntime, or run on a GPU that "
    "TensorRT-RTX supports (compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1)"
)
NOT_LISTED_NOTE = "parsed as {types}; the compiler did not say what it made of it"
Array = np.ndarray[Any, np.dtype[Any]]


class TensorRtRtxEngine:
    """A serialised TensorRT-RTX engine.

    `audit` is what the compiler says while it builds, in its verbose log: the data types between the
    kernels it planned. It does not time kernels, so a mismatch is certain and speed is not told at all.
    """

    def __init__(self, built: BuiltPlan, lowered: LoweredGraph, trt: Any) -> None:
        self._trt = trt
        self._runtime: TensorRtRuntime | None = None
        self._lost_weights = dict(lowered.fp16_lost_weights)
        self.plan = built.plan
        self.layers = built.layers
        self.size_bytes = len(built.plan)
        self.audit = audit_layers(asked_layers(lowered), executed_in(built))
        self.applied = applied_from_audit(self.audit, lowered)

    @property
    def device_engine(self) -> TensorRtRuntime:
        """The engine on the GPU, loaded when first asked for.

        Raises:
            ScoreError: where there is no GPU that TensorRT-RTX supports.
        """
        if self._runtime is None:
            try:
                self._runtime = TensorRtRuntime(self.plan, trt=self._trt)
            except DeviceError as error:
                raise ScoreError(CANNOT_RUN, f"{CANNOT_RUN_HINT}; {error.message}") from error
        return self._runtime

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        engine = self.device_engine
        try:
            return engine.run(batch)
        except DeviceError as error:
            raise ScoreError(error.message, error.hint) from error

    def fp16_overflows(self) -> Mapping[str, int]:
        return self._lost_weights

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.close()

    def __enter__(self) -> "TensorRtRtxEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorRtRtxBackend(Backend):
    """Builds strongly typed TensorRT-RTX engines, with or without a GPU.

    `max_batch` is the largest batch of a graph whose batch is free.

    Raises:
        PluginError: if TensorRT-RTX is not installed.
    """

    name = "tensorrt-rtx"
    flavour = "strong"

    def __init__(self, *, max_batch: int = 16, workspace_mib: int = 2048) -> None:
        try:
            self._trt = import_tensorrt(TENSORRT_RTX)
        except DeviceError as error:
            raise PluginError(error.message, error.hint) from error
        self.version = str(self._trt.__version__)
        self.max_batch = max_batch
        self.workspace_mib = workspace_mib

    def build(self, lowered: LoweredGraph) -> TensorRtRtxEngine:
        check_flavour(self.name, self.flavour, lowered)
        # A timing cache would make the builder look for a GPU: there is none in these options.
        options = PlanOptions(
            self.flavour,
            workspace_mib=self.workspace_mib,
            batches=three_batches(self.max_batch),
            input_shapes=dict(lowered.graph.example_shapes),
        )
        built = compile_lowered(self._trt, lowered, options, keeps_log=True)
        return TensorRtRtxEngine(built, lowered, self._trt)


def executed_in(built: BuiltPlan) -> tuple[ExecutedLayer, ...]:
    """The layers of the engine as the compiler's log lists them; what it leaves out, as it was parsed.

    A layer that is only parsed has no precision: explicit quantization says what a layer may be fused
    into, not what it was fused into.
    """
    listed = layers_from_lines(line for text in built.log for line in text.split("\n"))
    known = {node for layer in listed for node in layer.nodes}
    return listed + tuple(_as_parsed(layer) for layer in built.layers if not known & set(layer.nodes))


def _as_parsed(layer: ParsedLayer) -> ExecutedLayer:
    types = " and ".join(dict.fromkeys(kind.lower() for _, kind in layer.inputs)) or "no input"
    return ExecutedLayer(
        layer.name, layer.nodes, None, layer.kind.lower(), note=NOT_LISTED_NOTE.format(types=types)
    )


def problem() -> str | None:
    """The reason that this machine cannot build TensorRT-RTX engines, or `None`. Loads no library."""
    if all(importlib.util.find_spec(name) is None for name in TENSORRT_RTX):
        return f"TensorRT-RTX is not installed: {install_hint('rtx')}"
    return None
