"""Builds a TensorRT plan of a lowered graph through torch2trt: populate, type, optimise, serialise."""

from dataclasses import dataclass
from typing import Any

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import open_or_explain
from qsens.device.tensorrt_module import collecting_logger
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.torch2trt.implicit_types import ImplicitTypes, implicit_types
from qsens.engines.torch2trt.libraries import Libraries
from qsens.graph.graph import Graph

# The first that this TensorRT has: 8.2 replaced one flag by the two others.
_OBEY = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "STRICT_TYPES")


@dataclass(frozen=True)
class Torch2TrtOptions:
    """How plans are built.

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
    from qsens.backends.torch2trt_precisions import write_types
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
