"""Backend `onnxruntime`: the `exact` graph as it stands, or an optimised session of the `u8` graph."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qsens.backends.cpu_engine import CpuEngine
from qsens.backends.model_source import model_source
from qsens.backends.readback import applied_map
from qsens.device.errors import DeviceError
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime
from qsens.errors import BuildError, SpecError
from qsens.graph.detached import DetachedModel
from qsens.graph.exactness import probe_model, probe_sample
from qsens.graph.lower import LoweredGraph
from qsens.graph.unclipped import without_tail_clips
from qsens.layer import weight_bytes
from qsens.precision import PrecisionMap

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Winograd, FFT and TF32 kernels would not keep integer sums exact.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
_EXTERNAL_FILE = "session.optimized_model_external_initializers_file_name"
Array = np.ndarray[Any, np.dtype[Any]]


class OnnxRuntimeEngine:
    """One session with graph optimisation off, so that it holds the lowered graph and nothing fused."""

    def __init__(
        self, session: onnxruntime.InferenceSession, lowered: LoweredGraph, applied: PrecisionMap
    ) -> None:
        self._session = session
        # The session reads these arrays where they lie: they must live as long as it does.
        self._weights = lowered.detached.weights
        self._layer_of_output = dict(lowered.overflow_outputs)
        self._overflows = dict(lowered.fp16_lost_weights)
        self.applied = applied
        self.size_bytes = weight_bytes(lowered.graph.layers, self.applied)

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        names = [output.name for output in self._session.get_outputs()]
        values = dict(zip(names, self._session.run(None, dict(batch)), strict=True))
        for output, layer in self._layer_of_output.items():
            count = int(values.pop(output))
            if count:
                self._overflows[layer] = self._overflows.get(layer, 0) + count
        return values

    def fp16_overflows(self) -> Mapping[str, int]:
        return dict(self._overflows)

    def close(self) -> None:
        del self._session, self._weights

    def __enter__(self) -> "OnnxRuntimeEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OnnxRuntimeBackend:
    """Builds sessions of the user's ONNX Runtime.

    `provider` is `cpu` or `cuda`; `threads` 0 lets ONNX Runtime choose. An `optimised` session is what
    ships on a CPU: its INT8 layers are those that ONNX Runtime fuses into integer kernels, the others run
    in FP32 between roundings. Scores come from the session that is not, whose arithmetic is exact.

    Raises:
        SpecError: for a provider that this ONNX Runtime does not have, or an optimised session on a GPU.
        BuildError: if the provider's convolutions do not keep integer sums exact.
    """

    name = "onnxruntime"

    def __init__(self, *, provider: str = "cpu", threads: int = 0, optimised: bool = False) -> None:
        available = onnxruntime.get_available_providers()
        if _PROVIDERS.get(provider) not in available:
            here = [name for name, full in _PROVIDERS.items() if full in available]
            raise SpecError(
                f"ONNX Runtime here has no provider {provider!r}",
                f"it has {', '.join(here)}; onnxruntime-gpu brings cuda",
            )
        if optimised and provider != "cpu":
            raise SpecError(
                f"an optimised session on provider {provider!r}",
                "backend.optimised is for CPUs; backend tensorrt builds engines for GPUs",
            )
        self.provider = provider
        self.threads = threads
        self.flavour = "u8" if optimised else "exact"
        if not optimised:
            self._check_exactness()

    def build(self, lowered: LoweredGraph) -> OnnxRuntimeEngine | CpuEngine:
        if lowered.flavour != self.flavour:
            raise BuildError(
                f"backend {self.name} cannot run flavour {lowered.flavour!r}", f"use {self.flavour!r}"
            )
        return self._build_exact(lowered) if self.flavour == "exact" else self._build_optimised(lowered)

    def _build_optimised(self, lowered: LoweredGraph) -> CpuEngine:
        try:
            with model_source(without_tail_clips(lowered).detached) as source:
                return CpuEngine(OnnxRuntimeRuntime(source, threads=self.threads), lowered)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error

    def _build_exact(self, lowered: LoweredGraph) -> OnnxRuntimeEngine:
        with tempfile.TemporaryDirectory(prefix="qsens-") as folder:
            held_path = Path(folder) / "held.onnx"
            session = self.open_session(
                lowered.detached.skeleton, weights=lowered.detached.weights, held_path=held_path
            )
            held = onnx.load(held_path, load_external_data=False)
            applied = applied_map(held, lowered.graph, folder=held_path.parent)
        return OnnxRuntimeEngine(session, lowered, applied)

    def open_session(
        self,
        model: onnx.ModelProto,
        *,
        weights: Mapping[str, Array] | None = None,
        held_path: Path | None = None,
    ) -> onnxruntime.InferenceSession:
        """A session over `model`; the graph it really holds is written to `held_path`, weights beside it.

        `weights` are the initializers that `model` only names; they must outlive the session.

        Raises:
            BuildError: with ONNX Runtime's own message.
        """
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if held_path is not None:
            options.optimized_model_filepath = str(held_path)
            options.add_session_config_entry(_EXTERNAL_FILE, "held.bin")
        if weights:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
        provider = _PROVIDERS[self.provider]
        providers = [(provider, _CUDA_OPTIONS if self.provider == "cuda" else {})]
        try:
            with model_source(DetachedModel(model)) as source:
                return onnxruntime.InferenceSession(source, options, providers=providers)
        # ONNX Runtime raises classes of its own that share no ancestor but Exception.
        except Exception as error:
            raise BuildError(f"ONNX Runtime refused the graph: {error}") from error

    def _check_exactness(self) -> None:
        session = self.open_session(probe_model())
        codes, expected = probe_sample()
        sums = session.run(None, {"codes": codes})[0]
        wrong = int(np.count_nonzero(sums != expected))
        if wrong:
            raise BuildError(
                f"provider {self.provider!r} gets {wrong} of {sums.size} integer sums wrong",
                "its convolutions cannot be used for scoring: use --option backend.provider=cpu",
            )
