"""Backend `torch2trt`: implicit INT8 on TensorRT 8 and 10, for those who deploy with torch2trt.

INT8 is implicit here: a layer is asked to run in INT8 and every tensor that it touches has a range, as it
was done before graphs carried QuantizeLinear nodes. TensorRT quantizes the weights itself. It may lose a
precision where it fuses a layer with its neighbour, so the audit is read before any number is believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsens.core.errors import BuildError, PluginError
from qsens.core.interfaces import Backend
from qsens.core.precision import Precision
from qsens.device.cuda_memory import Cuda
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import WORKSPACE_MIB, open_or_explain
from qsens.device.tensorrt_module import collecting_logger, pack_plan
from qsens.device.tensorrt_runtime import TensorRtRuntime, origin_here
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.tensorrt import TensorRtEngine, check_flavour, three_batches
from qsens.engines.torch2trt.implicit_types import ImplicitTypes, NodeTypes, implicit_types
from qsens.engines.torch2trt.libraries import Libraries, float_outputs, load_libraries, main_layer, problem
from qsens.graph.graph import Graph

if TYPE_CHECKING:
    from qsens.engines.torch2trt.network import ConvertedNetwork

# Steps that compute nothing: they take the type of what they move.
_UNTYPED = frozenset({"CONSTANT", "SHAPE", "SHUFFLE"})
_TYPES = {Precision.INT8: "INT8", Precision.FP16: "HALF", Precision.FP32: "FLOAT"}
# The first that this TensorRT has: 8.2 replaced one flag by the two others.
_OBEY = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "STRICT_TYPES")
__all__ = ["Torch2TrtBackend", "problem"]


def write_types(converted: "ConvertedNetwork", types: ImplicitTypes, trt: Any) -> None:
    """Precision and output types of every layer, and the range of every tensor that INT8 needs.

    The outputs of the network stay float32.

    Raises:
        BuildError: for a range that TensorRT refuses, or an INT8 node that became several computing layers.
    """
    for node, wanted in types.nodes.items():
        _write_node(node, converted.layers[node], wanted, trt)
    ranges = _Ranges()
    for name, amax in types.amax.items():
        ranges.give(converted.tensors[name], amax)
    for node, wanted in types.nodes.items():
        if wanted.precision is Precision.INT8:
            ranges.spread(converted.layers[node])


def _write_node(node: str, layers: Sequence[Any], wanted: NodeTypes, trt: Any) -> None:
    computing = [layer for layer in layers if layer.type.name not in _UNTYPED and float_outputs(layer)]
    if wanted.precision is Precision.INT8 and len(computing) > 1:
        raise BuildError(
            f"torch2trt makes {len(computing)} layers of node {node!r}: INT8 takes one",
            "pin the layer with --pin LAYER=fp16, or use backend tensorrt",
        )
    for layer in computing:
        if wanted.precision is not None:
            layer.precision = getattr(trt.DataType, _TYPES[wanted.precision])
    if wanted.output is None or not layers:
        return
    kind = getattr(trt.DataType, _TYPES[wanted.output])
    # In INT8, what is shuffled before the convolution is its operand, and has the operand's type.
    first = layers.index(main_layer(layers)) if wanted.precision is Precision.INT8 else 0
    for layer in layers[first:]:
        for place in float_outputs(layer):
            if layer.type.name != "CONSTANT" and not layer.get_output(place).is_network_output:
                layer.set_output_type(place, kind)


class _Ranges:
    """Ranges given so far, by tensor name."""

    def __init__(self) -> None:
        self._given: dict[str, float] = {}

    def give(self, tensor: Any, amax: float) -> None:
        """Set the range, -amax to amax."""
        if not tensor.set_dynamic_range(-amax, amax):
            raise BuildError(
                f"TensorRT refuses the range {amax:g} of tensor {tensor.name!r}",
                "calibrate again with samples that reach this layer",
            )
        self._given[tensor.name] = amax

    def spread(self, layers: Sequence[Any]) -> None:
        """A shuffle has one range on both its sides."""
        shuffles = [layer for layer in layers if layer.type.name == "SHUFFLE"]
        for layer in [*shuffles, *reversed(shuffles)]:
            ends = (layer.get_input(0), layer.get_output(0))
            known = [end for end in ends if end.name in self._given]
            for end in ends:
                if known and end.name not in self._given:
                    self.give(end, self._given[known[0].name])


@dataclass(frozen=True)
class Torch2TrtOptions:
    """Settings for building plans.

    `batches` are the smallest, the usual and the largest batch of a graph whose batch is free.
    `optimisation_level` is 0 to 5, `None` leaves TensorRT's own. `must_obey`: a precision that cannot be
    kept fails the build, else it is a wish. `allows_tf32` lets FP32 layers round their operands to TF32.
    """

    batches: tuple[int, int, int]
    workspace_mib: int
    optimisation_level: int | None = None
    must_obey: bool = True
    allows_tf32: bool = False


def build_converted_plan(lowered: LoweredGraph, libraries: Libraries, options: Torch2TrtOptions) -> bytes:
    """The serialised engine of a graph of flavour `weak`.

    Raises:
        BuildError: with TensorRT's own words, for a node that cannot be converted, a layer that has no
            kernel in its precision, or where there is no GPU.
    """
    # Torch takes a second to load, and doctor reads this package without it.
    from qsens.engines.torch2trt.network import populate_network

    trt = libraries.trt
    types = implicit_types(lowered)
    logger = collecting_logger(trt)
    try:
        builder = open_or_explain(lambda: trt.Builder(logger), logger, "a builder")
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error
    network = builder.create_network(_network_flags(trt))
    config = builder.create_builder_config()
    converted = populate_network(lowered.graph, libraries, network, config)
    write_types(converted, types, trt)
    _configure(trt, config, types, options)
    config.add_optimization_profile(_profile(builder, lowered.graph, options))
    plan = builder.build_serialized_network(converted.network, config)
    if plan is None:
        raise BuildError(
            f"TensorRT built no engine: {logger.errors()}",
            "a layer may have no kernel of its precision: try --option backend.must_obey=false, which "
            "makes precisions wishes, and read the audit",
        )
    return bytes(plan)


def _network_flags(trt: Any) -> int:
    """Without implicit batches, which torch2trt does not use and TensorRT 10 no longer has."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0


def _configure(trt: Any, config: Any, types: ImplicitTypes, options: Torch2TrtOptions) -> None:
    """Flags and limits; torch2trt's own default workspace of 32 MiB starves the choice of kernels."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    # Without details the inspector tells names only, and nothing can be audited.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.allows_tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.optimisation_level is not None:
        if not hasattr(trt.IBuilderConfig, "builder_optimization_level"):
            raise BuildError(
                f"TensorRT {trt.__version__} has no optimisation levels", "leave optimisation_level out"
            )
        config.builder_optimization_level = options.optimisation_level
    if types.uses(Precision.INT8):
        config.set_flag(trt.BuilderFlag.INT8)
    if types.uses(Precision.FP16):
        config.set_flag(trt.BuilderFlag.FP16)
    names = _OBEY if options.must_obey else _OBEY[1:]
    known = [name for name in names if hasattr(trt.BuilderFlag, name)]
    config.set_flag(getattr(trt.BuilderFlag, known[0]))


def _profile(builder: Any, graph: Graph, options: Torch2TrtOptions) -> Any:
    """The three batches for every input with a free batch axis."""
    profile = builder.create_optimization_profile()
    shapes = dict(graph.example_shapes)
    for spec in graph.inputs:
        if spec.is_batched and graph.can_batch:
            profile.set_shape(spec.name, *((batch, *shapes[spec.name][1:]) for batch in options.batches))
    return profile


class Torch2TrtBackend(Backend):
    """Builds engines of implicit INT8 on TensorRT 8.5 to 10 from graphs of flavour `weak`.

    `max_batch` is the largest batch of a graph whose batch is free. `optimisation_level` is 0 to 5. `tf32`
    lets FP32 layers round their operands to TF32, which TensorRT's own default does. `must_obey`: a layer
    that cannot keep its precision fails the build.

    Raises:
        PluginError: where TensorRT or torch2trt is missing, TensorRT is 11 or later, or there is no GPU.
    """

    name = "torch2trt"
    flavour = "weak"

    def __init__(
        self,
        *,
        max_batch: int = 16,
        workspace_mib: int = WORKSPACE_MIB,
        optimisation_level: int | None = None,
        tf32: bool = False,
        must_obey: bool = True,
    ) -> None:
        self._libraries = load_libraries()
        try:
            self._cuda = Cuda()
            self._origin = origin_here(self._libraries.trt, self._cuda)
        except DeviceError as error:
            raise PluginError(error.message, error.hint) from error
        self.options = Torch2TrtOptions(
            batches=three_batches(max_batch),
            workspace_mib=workspace_mib,
            optimisation_level=optimisation_level,
            allows_tf32=tf32,
            must_obey=must_obey,
        )

    def build(self, lowered: LoweredGraph) -> TensorRtEngine:
        check_flavour(self.name, self.flavour, lowered)
        built = build_converted_plan(lowered, self._libraries, self.options)
        plan = pack_plan(built, self._origin)
        try:
            runtime = TensorRtRuntime(plan, trt=self._libraries.trt, cuda=self._cuda)
            return TensorRtEngine(runtime, plan, lowered)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error
