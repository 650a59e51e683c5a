"""Runs a TensorRT plan: named inputs and outputs, its own account of its layers, and their times."""

from __future__ import annotations

import statistics
import warnings
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from qsens.device.cuda_memory import Cuda, DeviceBuffer, OutOfMemoryError
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import PlanOptions, compile_plan, open_or_explain
from qsens.device.tensorrt_inspector import layers_from_json
from qsens.device.tensorrt_module import (
    PlanOrigin,
    check_origin,
    collecting_logger,
    import_tensorrt,
    pack_plan,
    unpack_plan,
)

if TYPE_CHECKING:
    from qsens.device.audit import ExecutedLayer
    from qsens.device.bundle_files import Bundle

    Array = np.ndarray[Any, Any]

FLAVOURS = ("strong", "weak")
_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def open_runtime(bundle: Bundle) -> TensorRtRuntime:
    """The engine of a bundle, built for this machine's GPU."""
    options = PlanOptions(
        flavour=bundle.flavour,
        batches=(bundle.batch, bundle.batch, bundle.batch),
        input_shapes=bundle.input_shapes,
        float_pins=bundle.float_pins,
    )
    return TensorRtRuntime(build_plan(bundle.model_path.read_bytes(), options))


def build_plan(model: bytes, options: PlanOptions) -> bytes:
    """The plan of a serialised ONNX model for this machine's GPU, with its origin in front.

    Raises:
        DeviceError: with TensorRT's own words.
    """
    trt = import_tensorrt()
    built = compile_plan(trt, model, options)
    return pack_plan(built.plan, origin_here(trt, Cuda()))


def origin_here(trt: Any, cuda: Cuda) -> PlanOrigin:
    """This TensorRT on this GPU."""
    gpu = cuda.gpu()
    runtime = "tensorrt-rtx" if "rtx" in trt.__name__ else "tensorrt"
    return PlanOrigin(runtime, str(trt.__version__), gpu.name, gpu.compute_capability)


class TensorRtRuntime:
    """A plan that is loaded onto the GPU; implements `DeviceEngine`.

    `plan` is what `build_plan` returns, or a bare plan of another tool. `notices` collects what had to be
    done differently: a batch that does not fit into memory is halved until it does.

    Raises:
        DeviceError: without a GPU, or for a plan of another version or another GPU, with both named.
    """

    def __init__(self, plan: bytes, *, trt: Any = None, cuda: Cuda | None = None) -> None:
        self._trt = trt if trt is not None else import_tensorrt()
        self._cuda = cuda if cuda is not None else Cuda()
        bare, origin = unpack_plan(plan)
        here = origin_here(self._trt, self._cuda)
        if origin is not None:
            check_origin(origin, here)
        self.runtime = here.runtime
        self.version = here.version
        self.size_bytes = len(bare)
        self.notices: list[str] = []
        self._logger = collecting_logger(self._trt)
        self._loader = open_or_explain(lambda: self._trt.Runtime(self._logger), self._logger, "a runtime")
        self._engine = self._loader.deserialize_cuda_engine(bare)
        if self._engine is None:
            raise DeviceError(
                f"TensorRT {self.version} cannot load the plan on {here.device}: {self._logger.errors()}",
                "a plan runs on the version and the kind of GPU it was built on: build it again here",
            )
        self._context = self._new_context()
        self._stream = self._cuda.create_stream()
        self._buffers: dict[str, DeviceBuffer] = {}
        self._inputs, self._outputs = self._names()
        self._largest: int | None = self._largest_batch()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, float32 where the engine computes in floats.

        A batch beyond the engine's largest, or beyond the GPU's memory, is run in parts.
        """
        return self._run_in_parts(self._context, self._checked(feeds))

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        return layers_from_json(self.engine_information())

    def engine_information(self) -> str:
        """The inspector's JSON text as it is, for the usual shapes of the inputs."""
        inspector = self._engine.create_engine_inspector()
        # Formats and types of an engine with a free batch are told for a context with shapes only.
        for name in self._inputs:
            self._context.set_input_shape(name, self._profile_shapes(name)[1])
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def step_times_ms(self, feeds: Mapping[str, Array], repeats: int) -> dict[str, float]:
        checked = self._checked(feeds)
        profiler = _profiler(self._trt)
        # A profiler cannot be taken off again in every version: it gets a context of its own.
        context = self._new_context()
        context.profiler = profiler
        self._run_in_parts(context, checked)
        runs = []
        for _ in range(repeats):
            profiler.times_ms = {}
            self._run_in_parts(context, checked)
            runs.append(profiler.times_ms)
        return (
            {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0]} if runs else {}
        )

    def close(self) -> None:
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}
        if self._stream:
            self._cuda.destroy_stream(self._stream)
            self._stream = 0
        self._context = self._engine = self._loader = None

    def _new_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is not None:
            return context
        reason = self._logger.errors()
        if "memory" in reason.lower():
            raise OutOfMemoryError(
                f"the engine needs more GPU memory than is free: {reason}", "build it with a smaller batch"
            )
        raise DeviceError(f"TensorRT cannot make an execution context: {reason}")

    def _names(self) -> tuple[list[str], list[str]]:
        names = [self._engine.get_tensor_name(place) for place in range(self._engine.num_io_tensors)]
        given = self._trt.TensorIOMode.INPUT
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == given]
        return inputs, [name for name in names if name not in inputs]

    def _profile_shapes(self, name: str) -> list[tuple[int, ...]]:
        """Smallest, usual and largest shape of an input."""
        return [tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0)]

    def _has_free_batch(self, name: str) -> bool:
        shape = tuple(self._engine.get_tensor_shape(name))
        return bool(shape) and shape[0] == -1

    def _largest_batch(self) -> int | None:
        sizes = [self._profile_shapes(name)[2][0] for name in self._inputs if self._has_free_batch(name)]
        return min(sizes) if sizes else None

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        missing = [name for name in self._inputs if name not in feeds]
        if missing:
            raise DeviceError(
                f"no value for input {missing[0]!r}", f"the engine's inputs are {', '.join(self._inputs)}"
            )
        return {name: np.ascontiguousarray(feeds[name], self._type_of(name)) for name in self._inputs}

    def _type_of(self, name: str) -> Any:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise DeviceError(f"tensor {name!r} of the engine has type {kind}, which NumPy does not have")
        return _TYPES[kind]

    def _run_in_parts(self, context: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        batched = [name for name in self._inputs if self._has_free_batch(name)]
        if not batched:
            return self._run_once(context, feeds)
        count, start = len(feeds[batched[0]]), 0
        parts = []
        while start < count:
            size = min(self._largest or count, count - start)
            part = {**feeds, **{name: feeds[name][start : start + size] for name in batched}}
            try:
                parts.append(self._run_once(context, part))
                start += size
            except OutOfMemoryError:
                self._halve(size)
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _halve(self, size: int) -> None:
        """Go on with half the batch. Raises `OutOfMemoryError` where a single sample does not fit."""
        if size == 1:
            raise OutOfMemoryError(
                "out of GPU memory with a single sample",
                "stop what else runs on the GPU, or use a larger one",
            )
        self._free_buffers()
        self._largest = size // 2
        notice = f"out of GPU memory with a batch of {size}: going on with {self._largest}"
        self.notices.append(notice)
        warnings.warn(notice, RuntimeWarning, stacklevel=2)

    def _free_buffers(self) -> None:
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}

    def _run_once(self, context: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        for name, values in feeds.items():
            if not context.set_input_shape(name, values.shape):
                raise DeviceError(
                    f"input {name!r} of shape {list(values.shape)} is outside the engine's "
                    f"{[list(shape) for shape in self._profile_shapes(name)]} (smallest, usual, largest)",
                    "feed another shape, or build the engine for this one",
                )
            buffer = self._buffer(context, name, values.nbytes)
            self._cuda.copy_to_device(buffer, values, self._stream)
        outputs = {}
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            outputs[name] = np.empty(shape, self._type_of(name))
            self._buffer(context, name, outputs[name].nbytes)
        self._logger.messages.clear()
        if not context.execute_async_v3(self._stream):
            raise self._failure()
        for name, values in outputs.items():
            self._cuda.copy_to_host(values, self._buffers[name], self._stream)
        self._cuda.synchronize(self._stream)
        return {name: _as_float32(values) for name, values in outputs.items()}

    def _buffer(self, context: Any, name: str, size_bytes: int) -> DeviceBuffer:
        """Memory for a tensor, kept from run to run while it is large enough."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size_bytes < size_bytes:
            if buffer is not None:
                buffer.close()
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = self._cuda.allocate(size_bytes)
        context.set_tensor_address(name, buffer.address)
        return buffer

    def _failure(self) -> DeviceError:
        reason = self._logger.errors()
        if "out of memory" in reason.lower():
            return OutOfMemoryError(f"out of GPU memory: {reason}", "use a smaller batch")
        return DeviceError(f"TensorRT could not run the engine: {reason}")


def _as_float32(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _profiler(trt: Any) -> Any:
    """A profiler that adds up the milliseconds of each layer in `times_ms`."""

    # The base class lives in a module that is only known here.
    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.times_ms: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms[layer_name] = self.times_ms.get(layer_name, 0.0) + ms

    return Profiler()
