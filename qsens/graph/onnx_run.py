"""Sessions of ONNX Runtime without optimisation: opening, running, comparing what they give."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qsens.core.errors import LoadError
from qsens.device.leftovers import temporary_folder
from qsens.device.onnxruntime_runtime import session_options
from qsens.graph import limits
from qsens.graph.limits import bound_memory

Values = np.ndarray[Any, np.dtype[Any]]
# A serialized protobuf message cannot exceed 2 GiB; larger graphs go through a file with external data.
_LARGEST_MESSAGE = 1_900_000_000
# Two of them are compared in double precision.
_LARGEST_OUTPUT_BYTES = 2**30
_OUT_OF_ARENA = "BFCArena"
_RUNTIME_ERRORS = (
    onnxruntime.capi.onnxruntime_pybind11_state.EPFail,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
    UnicodeDecodeError,  # its message holds bytes of the file
)


def open_session(model: onnx.ModelProto, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A silent CPU session of a model of any size; 0 `threads` are as many as there are cores.

    Raises:
        LoadError: with ONNX Runtime's own words.
    """
    # Optimising, ONNX Runtime would compute what is constant while it loads, in any time and memory.
    options = session_options(threads=threads, optimised=False)
    options.log_severity_level = 4
    bound_memory(options)
    # Its fallback prints, and tries the same once more.
    session = partial(
        onnxruntime.InferenceSession,
        sess_options=options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,
    )
    try:
        if weight_bytes(model) < _LARGEST_MESSAGE:
            return session(model.SerializeToString())
        with temporary_folder() as folder:
            path = folder / "model.onnx"
            twin = onnx.ModelProto()
            twin.CopyFrom(model)
            onnx.save(twin, path, save_as_external_data=True, location="weights.bin")
            return session(str(path))
    except _RUNTIME_ERRORS as error:
        raise LoadError(
            f"ONNX Runtime cannot load the graph: {_first_line(error)}",
            "if the file runs elsewhere, export it for an operator set that ONNX Runtime knows",
        ) from error


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the initializers, about."""
    return sum(math.prod(tensor.dims) * 4 for tensor in model.graph.initializer)


def run(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, Values], *, samples: int = 1
) -> list[Values]:
    """All outputs for a batch of `samples`.

    Raises:
        LoadError: with ONNX Runtime's own words, or if the run takes too long or too much memory.
    """
    shapes = ", ".join(
        f"{name} {'x'.join(map(str, value.shape)) or 'scalar'}" for name, value in inputs.items()
    )
    limit_s = limits.LONGEST_SAMPLE_S * samples
    try:
        outputs = limits.run_within(session, dict(inputs), limit_s=limit_s)
    except TimeoutError as error:
        raise LoadError(
            f"the generator did not finish {shapes} within {limit_s:g} s",
            "a loop in the graph may have no end; if the generator is that slow, give smaller sizes with "
            "--input-shape NAME=1x3x96x96",
        ) from error
    except _RUNTIME_ERRORS as error:
        raise _run_error(error, shapes) from error
    _refuse_other_outputs(session, outputs)
    return outputs


def _run_error(error: Exception, shapes: str) -> LoadError:
    if _OUT_OF_ARENA in str(error):
        return LoadError(
            f"the generator needs more than {limits.run_bytes() / 2**30:.1f} GiB for {shapes}",
            "that is all a run of one sample may take here; give smaller sizes with --input-shape "
            "NAME=1x3x96x96",
        )
    return LoadError(
        f"the generator cannot run on {shapes}: {_first_line(error)}",
        "give the sizes it was made for with --input-shape NAME=1x3x96x96",
    )


def _refuse_other_outputs(session: onnxruntime.InferenceSession, outputs: Sequence[object]) -> None:
    for value, declared in zip(outputs, session.get_outputs(), strict=True):
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise LoadError(
                f"output {declared.name!r} is {declared.type}, not a tensor of numbers",
                "export the generator with its pictures as the only outputs",
            )
        if value.nbytes > _LARGEST_OUTPUT_BYTES:
            sides = "x".join(map(str, value.shape))
            raise LoadError(
                f"output {declared.name!r} is {sides} for one sample, {value.nbytes:,} bytes",
                f"at most {_LARGEST_OUTPUT_BYTES:,} can be scored; export it or give it a smaller size",
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def relative_difference(expected: Values, actual: Values) -> float:
    """Root mean square of the difference over that of `expected`, on the values that are finite."""
    if expected.shape != actual.shape:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(actual)):
        return float("inf")
    wanted, got = expected[finite].astype(np.float64), actual[finite].astype(np.float64)
    size = np.sqrt(np.mean(wanted**2)) if wanted.size else 0.0
    error = np.sqrt(np.mean((wanted - got) ** 2)) if wanted.size else 0.0
    return float(error / size) if size else float(error)
