"""ONNX Runtime on a CPU: one session of an ONNX file, the nodes of each step, and its precision."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, Container, Mapping

import onnxruntime

from qsens.device.audit import ExecutedLayer
from qsens.device.errors import DeviceError
from qsens.device.leftovers import temporary_folder
from qsens.device.machine import this_cpu_saturates
from qsens.device.onnx_nodes import OnnxGraph, OnnxNode, read_onnx_graph, size_with_weights

if TYPE_CHECKING:
    import numpy as np

    from qsens.device.audit import ExecutedLayer
    from qsens.device.bundle_files import Bundle

    Array = np.ndarray[Any, Any]


FLAVOURS = ("u8",)
_INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
    }
)
_FLOAT_OPERATORS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gemm",
        "MatMul",
        "NhwcFusedConv",
    }
)
_REFORMATS = frozenset(
    {"Cast", "DequantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput", "Transpose"}
)
# What ONNX Runtime appends to the names of nodes that it replaces.
_ADDED = re.compile(r"(_token_\d+|_nchwc|_nhwc)+$")
_HELD = "held.onnx"
_EXTERNAL_FILE = "session.optimized_model_external_initializers_file_name"
# Weights become uint8, whose kernels add in 32 bits on every x86 CPU: slower, but no sum saturates.
_EXACT_WEIGHTS = "session.x64quantprecision"
_TIME_SUFFIX = "_kernel_time"


def open_runtime(bundle: Bundle) -> OnnxRuntimeRuntime:
    """The engine of a bundle."""
    return OnnxRuntimeRuntime(bundle.model_path)


def executed_steps(held: OnnxGraph, original: OnnxGraph) -> tuple[ExecutedLayer, ...]:
    """The steps of a session in its own order.

    `held` is the graph that the session runs, `original` the file it was given. A step is traced to its
    nodes by the names that ONNX Runtime keeps: of the node, or of a tensor.
    """
    known = {node.name: node for node in original.nodes}
    readers: dict[str, list[OnnxNode]] = {}
    for node in held.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return tuple(
        ExecutedLayer(
            name=step_name(step.name, known),
            nodes=_nodes(step, readers, known, original),
            precision=_precision(step.operator),
            kernel=step.operator,
            is_reformat=_is_reformat(step, known),
        )
        for step in held.nodes
    )


def step_name(name: str, known: Container[str]) -> str:
    """The name of the node that a step stands for, else its own; ONNX Runtime numbers its nodes anew."""
    plain = _ADDED.sub("", name)
    return plain if name not in known and plain in known else name


def _is_reformat(step: OnnxNode, known: dict[str, OnnxNode]) -> bool:
    """A change of type or layout; the file's own transpositions and casts are work that it asks for."""
    is_asked = step.operator in {"Cast", "Transpose"} and step.name in known
    return step.operator in _REFORMATS and not is_asked


def _precision(operator: str) -> str | None:
    if operator in _INTEGER_OPERATORS or operator.startswith("QLinear"):
        return "int8"
    return "fp32" if operator in _FLOAT_OPERATORS else None


def _nodes(
    step: OnnxNode,
    readers: dict[str, list[OnnxNode]],
    known: dict[str, OnnxNode],
    original: OnnxGraph,
) -> tuple[str, ...]:
    """The nodes that a step computes in execution order; empty for one that ONNX Runtime added."""
    name = step.name if step.name in known else _ADDED.sub("", step.name)
    if _precision(step.operator) is None:
        return (name,) if name in known else ()
    ends = [*_known_results(step, readers, original), name]
    if name in known:
        ends += known[name].outputs
    chains = [original.layer_before(end, frozenset(step.inputs)) for end in ends]
    longest = max(chains, key=len)
    return tuple(node.name for node in reversed(longest)) or ((name,) if name in known else ())


def _known_results(step: OnnxNode, readers: dict[str, list[OnnxNode]], original: OnnxGraph) -> list[str]:
    """The tensors of the file that a step makes, behind changes of layout."""
    found: list[str] = []
    waiting = list(step.outputs)
    while waiting:
        name = waiting.pop()
        if name in original.producers:
            found.append(name)
            continue
        waiting += [
            output
            for reader in readers.get(name, [])
            if reader.operator in _REFORMATS
            for output in reader.outputs
        ]
    return found


class OnnxRuntimeRuntime:
    """A session ready to run on the CPU of this machine.

    `model` is an ONNX file or its bytes. `optimised` sessions fuse QuantizeLinear and DequantizeLinear into
    INT8 kernels where ONNX Runtime has them; others run the file node by node. On an x86 CPU without VNNI
    the kernels that cannot saturate are chosen. `threads` 0 lets ONNX Runtime choose; they do not spin.

    Raises:
        DeviceError: with ONNX Runtime's own words.
    """

    runtime = "onnxruntime"

    def __init__(self, model: bytes | str | Path, *, threads: int = 0, optimised: bool = True) -> None:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        self.version: str = onnxruntime.__version__
        self._source = content if isinstance(model, bytes) else str(model)
        self._threads = threads
        self._optimised = optimised
        with temporary_folder() as folder:
            held = folder / _HELD
            options = self._options()
            options.optimized_model_filepath = str(held)
            options.add_session_config_entry(_EXTERNAL_FILE, "held.bin")
            self._session = self._open(options)
            original = read_onnx_graph(content)
            self.size_bytes = size_with_weights(model, original)
            self._nodes = frozenset(node.name for node in original.nodes)
            self._executed = executed_steps(read_onnx_graph(held.read_bytes()), original)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return _outputs(self._session, feeds)

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        return self._executed

    def step_times_ms(self, feeds: Mapping[str, Array], repeats: int) -> dict[str, float]:
        with temporary_folder() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            session = self._open(options)
            for _ in range(repeats + 1):
                _outputs(session, feeds)
            events = json.loads(Path(session.end_profiling()).read_text())
        times: dict[str, list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_TIME_SUFFIX):
                name = step_name(event["name"][: -len(_TIME_SUFFIX)], self._nodes)
                times.setdefault(name, []).append(event["dur"] / 1e3)
        # The first of each is the warm-up.
        return {name: statistics.median(found[-repeats:]) for name, found in times.items()}

    def close(self) -> None:
        del self._session

    def _options(self) -> Any:
        options = session_options(threads=self._threads, optimised=self._optimised)
        if this_cpu_saturates(onednn=False) is not False:
            options.add_session_config_entry(_EXACT_WEIGHTS, "1")
        return options

    def _open(self, options: Any) -> Any:
        try:
            return onnxruntime.InferenceSession(self._source, options, providers=["CPUExecutionProvider"])
        # ONNX Runtime raises classes of its own that share no ancestor but Exception.
        except Exception as error:
            raise DeviceError(f"ONNX Runtime refused the model: {error}") from error


def session_options(*, threads: int = 0, optimised: bool = True) -> Any:
    """Options of a quiet session; 0 `threads` are as many as there are cores."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning threads would take the cores from what runs between two batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _outputs(session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, dict(feeds))))
    # As above.
    except Exception as error:
        raise DeviceError(f"ONNX Runtime stopped: {error}") from error
