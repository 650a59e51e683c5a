"""Backend `onnxruntime`: the `exact` graph as it stands, probed and read back, or an optimised `u8` graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from qsens.core.errors import BuildError, SpecError
from qsens.core.interfaces import Backend, Engine
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.targets import Target
from qsens.device.errors import DeviceError
from qsens.device.leftovers import temporary_folder
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime, session_options
from qsens.engines.cpu_engines import CpuEngine, OnnxRuntimeEngine
from qsens.engines.lowering.lowered_graph import DetachedModel, Flavour, LoweredGraph, model_source
from qsens.engines.lowering.plan import Placement
from qsens.engines.lowering.qdq import without_tail_clips
from qsens.engines.shared_prefix import LowerMap, PrefixReuse
from qsens.graph.editable_graph import attribute_of
from qsens.graph.graph import Graph
from qsens.graph.topology import ACTIVATIONS, MOVEMENTS, Topology

CHANNELS = 96
SIDE = 14
LARGEST_WEIGHT = 127
FP16_MAXIMUM = 65504.0
SMALLEST_NORMAL = 2.0**-14
# Bits of a float32 mantissa that FP16 has no room for.
DROPPED_BITS = 0x1FFF
Values = np.ndarray[Any, np.dtype[Any]]
_PASSES_CODES = MOVEMENTS | {"Cast", "Resize", "Relu"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Winograd, FFT and TF32 kernels would not keep integer sums exact.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
_EXTERNAL_FILE = "session.optimized_model_external_initializers_file_name"
Array = np.ndarray[Any, np.dtype[Any]]


# Every backend that is made asks for the probe, and it takes longer to make than to run.
@cache
def _weight() -> Values:
    rng = np.random.default_rng(7)
    return rng.integers(-127, 128, size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32)


@cache
def probe_model() -> onnx.ModelProto:
    """One 3x3 convolution of a size that fast algorithms (Winograd, FFT) would be chosen for.

    These round, so a session that uses them would not keep the integer sums of INT8 layers exact.
    """
    graph = helper.make_graph(
        [helper.make_node("Conv", ["codes", "weight"], ["sums"], name="probe", pads=[1, 1, 1, 1])],
        "probe",
        [helper.make_tensor_value_info("codes", TensorProto.FLOAT, [2, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, [2, CHANNELS, SIDE, SIDE])],
        [numpy_helper.from_array(_weight(), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@cache
def probe_sample() -> tuple[Values, Values]:
    """Codes (2, 96, 14, 14) and the exact sums of `probe_model` over them.

    They are computed in float64, which holds sums of these integers exactly.
    """
    codes = np.random.default_rng(11).integers(-128, 128, size=(2, CHANNELS, SIDE, SIDE))
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, CHANNELS * 9)
    sums = columns.astype(np.float64) @ _weight().astype(np.float64).reshape(CHANNELS, -1).T
    expected = sums.reshape(2, SIDE, SIDE, CHANNELS).transpose(0, 3, 1, 2)
    return codes.astype(np.float32), expected.astype(np.float32)


def applied_map(model: onnx.ModelProto, graph: Graph, *, folder: Path | None = None) -> PrecisionMap:
    """The precision of every layer of `graph` in the session's own `model`.

    A layer is INT8 if it reads values that a QuantizeLinear made and multiplies integer weights of at
    most 127; FP16 if its operand and its result pass through FP16 and FP16 can hold its weights; FP32
    otherwise. A layer that the session no longer has counts as FP32. `folder` holds the files of weights
    that are not inside the model.
    """
    held = _Held(Topology(model), folder)
    return PrecisionMap.over({layer.name: _applied(layer, held) for layer in graph.layers})


@dataclass(frozen=True, eq=False)
class _Held:
    """The graph of a session; weights are read one at a time."""

    topology: Topology
    folder: Path | None

    def constant(self, name: str) -> Values:
        tensor = self.topology.initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return self.topology.constant(name)
        assert self.folder is not None, "a model with external data comes with its folder"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path, offset = self.folder / entries["location"], int(entries.get("offset", 0))
        count = int(np.prod(tensor.dims))
        return np.fromfile(path, kind, count, offset=offset).reshape(tuple(tensor.dims))


def _applied(layer: Layer, held: _Held) -> Precision:
    topology = held.topology
    node = topology.nodes.get(layer.node)
    if node is None:
        return Precision.FP32
    weights = [name for name in node.input[:2] if name in topology.initializers]
    if not weights:
        return Precision.FP32
    data = next(name for name in node.input[:2] if name != weights[0])
    maker = _maker(data, topology)
    if maker == "QuantizeLinear" and _fits_int8(held.constant(weights[0])):
        return Precision.INT8
    if maker == "half" and _ends_in_half(node.output[0], topology) and fits_half(held.constant(weights[0])):
        return Precision.FP16
    return Precision.FP32


def _maker(tensor: str, topology: Topology) -> str:
    """The maker of the values: `QuantizeLinear`, `half` (a cast from FP16), or the operator's name."""
    while (node := topology.producer.get(tensor)) is not None:
        if node.op_type == "QuantizeLinear":
            return "QuantizeLinear"
        if node.op_type == "Cast" and _is_half(node.input[0], topology):
            return "half"
        if node.op_type not in _PASSES_CODES:
            return str(node.op_type)
        tensor = node.input[0]
    return "input"


def _is_half(tensor: str, topology: Topology) -> bool:
    node = topology.producer.get(tensor)
    return (
        node is not None and node.op_type == "Cast" and bool(attribute_of(node, "to") == TensorProto.FLOAT16)
    )


def _fits_int8(values: Values) -> bool:
    return _magnitude(values) <= LARGEST_WEIGHT and np.array_equal(values, values.astype(np.int8))


def fits_half(values: Values) -> bool:
    """Whether FP16 holds every one of the float32 values exactly."""
    if not _magnitude(values) <= FP16_MAXIMUM:
        return False
    if np.bitwise_or.reduce(values.view(np.uint32), axis=None) & DROPPED_BITS:
        return False
    # Below its smallest normal number FP16 drops more bits than the last thirteen.
    small = values[np.abs(values) < SMALLEST_NORMAL]
    return np.array_equal(small, small.astype(np.float16).astype(np.float32))


def _magnitude(values: Values) -> float:
    """The largest magnitude; NaN where there is one."""
    return float(max(values.max(), -values.min())) if values.size else 0.0


def _ends_in_half(tensor: str, topology: Topology) -> bool:
    """Whether the fused chain that starts at `tensor` is rounded to FP16 at its end."""
    # Tensors on the way may be handed out too, for maps that share them.
    while len(readers := topology.consumers.get(tensor, ())) == 1:
        (node,) = readers
        if node.op_type == "Cast":
            return bool(attribute_of(node, "to") == TensorProto.FLOAT16)
        if node.op_type not in ACTIVATIONS | {"Add"}:
            return False
        tensor = node.output[0]
    return False


_USAGE = """\
```python
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
# Leave this out on CPUs with VNNI (avx_vnni, avx512_vnni), which are faster without it and do not saturate.
options.add_session_config_entry("session.x64quantprecision", "1")
engine = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
with np.load("goldens.npz") as goldens:
    feeds = {feeds}
picture = engine.run([{picture!r}], feeds)[0]
```"""


class OnnxRuntimeBackend(Backend):
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
    targets = (
        Target(
            name="onnxruntime",
            runtime="onnxruntime",
            title="ONNX Runtime",
            flavour=Flavour.U8,
            psnr_cap_db=60.0,
            needs="`pip install onnxruntime numpy`",
            usage=_USAGE,
            fuses_clips=False,
            # It runs a convolution in INT8 only where its result is quantized too.
            placement=Placement.KERNELS,
            without_int8=("ConvTranspose",),
        ),
    )

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

    def build(self, lowered: LoweredGraph) -> Engine:
        if lowered.flavour != self.flavour:
            raise BuildError(
                f"backend {self.name} cannot run flavour {lowered.flavour!r}", f"use {self.flavour!r}"
            )
        if self.flavour == "exact":
            return self._build_exact(lowered)
        # Its `applied` is read when first asked for, which no type of an attribute can say.
        return cast("Engine", self._build_optimised(lowered))

    def _build_optimised(self, lowered: LoweredGraph) -> CpuEngine:
        try:
            with model_source(without_tail_clips(lowered).detached) as source:
                return CpuEngine(OnnxRuntimeRuntime(source, threads=self.threads), lowered)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error

    def reusing(self, lower: LowerMap) -> PrefixReuse | None:
        """A builder of engines that share work between maps; `None` where this backend runs every map whole.

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
        options = session_options(threads=self.threads, optimised=False)
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
