"""Backend `onnxruntime`: the `exact` graph as it stands, or an optimised session of the `u8` graph."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qsens.backends.model_source import model_source
from qsens.backends.onnxruntime_session import OnnxRuntimeEngine
from qsens.backends.readback import applied_map
from qsens.core.errors import BuildError, SpecError
from qsens.device.errors import DeviceError
from qsens.device.leftovers import temporary_folder
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime
from qsens.engines.cpu_engines import CpuEngine
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.shared_prefix import LowerMap, PrefixReuse
from qsens.graph.detached import DetachedModel
from qsens.graph.exactness import probe_model, probe_sample
from qsens.graph.unclipped import without_tail_clips

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Winograd, FFT and TF32 kernels would not keep integer sums exact.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
_EXTERNAL_FILE = "session.optimized_model_external_initializers_file_name"
Array = np.ndarray[Any, np.dtype[Any]]


class OnnxRuntimeBackend:
    """Builds sessions of the user's ONNX Runtime.

    `provider` is `cpu` or `cuda`; `threads` 0 lets ONNX Runtime choose. An `optimised` session is what
    ships on a CPU: its INT8 layers are those that ONNX Runtime fuses into integer kernels, the others run
    in FP32 between roundings. Scores come from the session that is not, whose arithmetic is exact. On a CPU
    that one keeps up to `reuse_mib` MiB of what one map computed for the maps after it; 0 keeps nothing.

    Raises:
        SpecError: for a provider that this ONNX Runtime does not have, an optimised session on a GPU, or a
            negative size.
        BuildError: if the provider's convolutions do not keep integer sums exact.
    """

    name = "onnxruntime"

    def __init__(
        self, *, provider: str = "cpu", threads: int = 0, optimised: bool = False, reuse_mib: int = 512
    ) -> None:
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
        if reuse_mib < 0:
            raise SpecError(
                f"backend.reuse_mib is {reuse_mib}", "give MiB to keep between maps, or 0 to keep nothing"
            )
        self.provider = provider
        self.reuse_mib = reuse_mib
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

    def reusing(self, lower: LowerMap) -> PrefixReuse | None:
        """What builds engines that share work between maps; `None` where this backend runs every map whole.

        `lower` lowers a map of the run, in flavour `exact`.
        """
        if self.flavour != "exact" or self.provider != "cpu" or not self.reuse_mib:
            return None
        return PrefixReuse(self, lower, self.reuse_mib * 2**20)

    def _build_exact(self, lowered: LoweredGraph) -> OnnxRuntimeEngine:
        with temporary_folder() as folder:
            held_path = folder / "held.onnx"
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
