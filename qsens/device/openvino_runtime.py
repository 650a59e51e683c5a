"""OpenVINO on a CPU: FP32 and INT8 alone, compiled for given shapes; tells what each step really runs."""

from __future__ import annotations

import ctypes
import statistics
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Tuple

import openvino

from qsens.device.errors import DeviceError
from qsens.device.machine import overflowing_nodes, this_cpu_saturates
from qsens.device.onnx_nodes import OnnxGraph, read_onnx_graph, size_with_weights
from qsens.device.openvino_steps import CompiledSteps, name_operations, step_name

if TYPE_CHECKING:
    import numpy as np

    from qsens.device.audit import ExecutedLayer
    from qsens.device.bundle_files import Bundle

    Array = np.ndarray[Any, Any]


Shapes = Tuple[Tuple[str, Tuple[int, ...]], ...]
FLAVOURS = ("u8",)
DEVICE = "CPU"
# Without the joining of neighbours every matrix product is a step of its own, whose kernel can be read.
_WITHOUT_JOINING = {"SNIPPETS_MODE": "DISABLE"}


def open_runtime(bundle: Bundle) -> OpenVinoRuntime:
    """The engine of a bundle, compiled for its batch."""
    return OpenVinoRuntime(bundle.model_path, batch=bundle.batch)


class SignalStack(ctypes.Structure):
    """POSIX's `stack_t`, in the order in which Linux has its fields."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put the calling thread's alternate signal stack back when the `with` block ends.

    OpenVINO's CPU plug-in sets one that just holds the registers of AVX-512. Python handles signals there,
    finds no room, and Ctrl-C ends in a segmentation fault.
    """
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def signal_stack() -> SignalStack | None:
    """The calling thread's alternate signal stack; `None` where the system is not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


class OpenVinoRuntime:
    """A model ready to run on the CPU of this machine.

    `model` is an ONNX file or its bytes. It is compiled for the shapes of the inputs: INT8 transposed
    convolutions fall back to FP32 where the batch is free. With `batch` it is compiled at once if nothing
    but the batch is free in it; otherwise when shapes are first run, and once for each. `threads` 0 lets
    OpenVINO choose.

    Raises:
        DeviceError: with OpenVINO's own words, or if it would not compute in float32.
    """

    runtime = "openvino"

    def __init__(self, model: bytes | str | Path, *, batch: int | None = None, threads: int = 0) -> None:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        self.version: str = openvino.get_version()
        graph = read_onnx_graph(content)
        self.size_bytes = size_with_weights(model, graph)
        self._notes = _saturation_notes(graph)
        self._graph = graph.without_constants()
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(content if isinstance(model, bytes) else str(model))
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot read the model: {error}") from error
        name_operations(self._model, graph)
        self._settings = self._supported_settings(threads)
        self._batch = 1 if batch is None else batch
        self._compiled: dict[Shapes, Any] = {}
        self._requests: dict[Shapes, Any] = {}
        self._apart: set[Shapes] = set()
        shapes = self._shapes_of_batch()
        if batch is not None and shapes is not None:
            self._compiled_for(shapes)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        shapes = _shapes_of(feeds)
        if shapes not in self._requests:
            self._requests[shapes] = self._compiled_for(shapes).create_infer_request()
        return self._outputs(self._requests[shapes], feeds)

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        """Steps as compiled for the largest inputs that were run; before any run, for `batch`, else 1."""
        largest = max(self._compiled, key=_element_count, default=self._shapes_of_batch())
        if largest is None:
            return ()
        runtime_model = self._compiled_for(largest).get_runtime_model()
        return CompiledSteps(runtime_model, self._graph).executed(self._notes)

    def step_times_ms(self, feeds: Mapping[str, Array], repeats: int) -> dict[str, float]:
        shapes = _shapes_of(feeds)
        self._compiled_for(shapes)
        settings = _WITHOUT_JOINING if shapes in self._apart else {}
        request = self._compile(shapes, {**settings, "PERF_COUNT": True}).create_infer_request()
        self._outputs(request, feeds)
        times: dict[str, list[float]] = {}
        for _ in range(repeats):
            self._outputs(request, feeds)
            for name, value in _profile_ms(request).items():
                times.setdefault(name, []).append(value)
        return {name: statistics.median(found) for name, found in times.items()}

    def close(self) -> None:
        self._requests.clear()
        self._compiled.clear()

    def _shapes_of_batch(self) -> Shapes | None:
        """The shapes of all inputs at the chosen batch; `None` where more than the first axis is free."""
        shapes = []
        for value in self._model.inputs:
            sides = [-1 if side.is_dynamic else side.get_length() for side in value.get_partial_shape()]
            if -1 in sides[1:]:
                return None
            shapes.append((value.get_any_name(), tuple(self._batch if side < 0 else side for side in sides)))
        return tuple(sorted(shapes))

    def _compiled_for(self, shapes: Shapes) -> Any:
        if shapes not in self._compiled:
            compiled = self._compile(shapes, {})
            if CompiledSteps(compiled.get_runtime_model(), self._graph).hidden_layers():
                compiled = self._compile_apart(shapes) or compiled
            self._compiled[shapes] = compiled
        return self._compiled[shapes]

    def _compile_apart(self, shapes: Shapes) -> Any | None:
        """The model with every product a step of its own; `None` where OpenVINO does not know the setting."""
        try:
            compiled = self._compile(shapes, _WITHOUT_JOINING)
        except DeviceError:
            return None
        self._apart.add(shapes)
        return compiled

    def _supported_settings(self, threads: int) -> dict[str, Any]:
        # Left alone, OpenVINO computes in BF16 or FP16 wherever the CPU has it, and may round the inputs
        # of float matrix products to INT8.
        wished = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            wished["INFERENCE_NUM_THREADS"] = str(threads)
        # The first question loads the plug-in of the CPU.
        with kept_signal_stack():
            supported = self._core.get_property(DEVICE, "SUPPORTED_PROPERTIES")
        return {name: value for name, value in wished.items() if name in supported}

    def _compile(self, shapes: Shapes, more: Mapping[str, Any]) -> Any:
        try:
            model = self._model.clone()
            model.reshape({name: list(shape) for name, shape in shapes})
            compiled = self._core.compile_model(model, DEVICE, {**self._settings, **more})
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot compile for {_described(shapes)}: {error}") from error
        precision = compiled.get_property("INFERENCE_PRECISION_HINT")
        if precision != openvino.Type.f32:
            raise DeviceError(
                f"OpenVINO would compute float layers in {precision}",
                "this runtime labels them FP32: report the OpenVINO version and the CPU",
            )
        return compiled

    def _outputs(self, request: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            values = request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO stopped: {error}") from error
        return {
            name: value
            for output, value in values.items()
            for name in self._graph.outputs
            if name in output.get_names()
        }


def _saturation_notes(graph: OnnxGraph) -> dict[str, str]:
    """Remarks on INT8 layers that saturate on this CPU, by node."""
    saturates = this_cpu_saturates()
    if saturates is False:
        return {}
    word = "saturates" if saturates else "may saturate: the CPU does not say whether it has VNNI"
    return dict.fromkeys(overflowing_nodes(graph), word)


def _profile_ms(request: Any) -> dict[str, float]:
    """Milliseconds of every step that the last inference executed."""
    found: dict[str, float] = {}
    for entry in request.get_profiling_info():
        if entry.status.name == "EXECUTED":
            name = step_name(entry.node_name)
            found[name] = found.get(name, 0.0) + entry.real_time.total_seconds() * 1e3
    return found


def _shapes_of(feeds: Mapping[str, Array]) -> Shapes:
    return tuple(sorted((name, tuple(value.shape)) for name, value in feeds.items()))


def _element_count(shapes: Shapes) -> int:
    count = 0
    for _, shape in shapes:
        elements = 1
        for side in shape:
            elements *= side
        count += elements
    return count


def _described(shapes: Shapes) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes)
