"""From a lowered graph to a TensorRT plan: what the backends `tensorrt` and `tensorrt-rtx` share."""

from typing import Any

from qsens.core.errors import BuildError
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import BuiltPlan, PlanOptions, compile_plan
from qsens.engines.lowering.lowered_graph import LoweredGraph

# Protobuf cannot read more, and the parsers of all versions take serialised graphs.
LARGEST_MODEL = 2**31 - 2**20


def compile_lowered(
    trt: Any, lowered: LoweredGraph, options: PlanOptions, *, keeps_log: bool = False
) -> BuiltPlan:
    """Build the plan with the TensorRT module `trt`.

    Raises:
        BuildError: in TensorRT's own words, or for a graph that is too large to be handed over.
    """
    model = lowered.detached.serialized()
    if len(model) > LARGEST_MODEL:
        raise BuildError(
            f"the graph has {len(model) / 2**30:.1f} GiB, more than TensorRT's parser takes at once",
            "sweep a smaller generator, or the part of it that matters",
        )
    names = [node.name for node in lowered.detached.skeleton.graph.node]
    try:
        return compile_plan(trt, model, options, node_names=names, keeps_log=keeps_log)
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error


def check_flavour(backend: str, flavour: str, lowered: LoweredGraph) -> None:
    """Raises `BuildError` for a graph of another flavour than the backend builds."""
    if lowered.flavour != flavour:
        raise BuildError(
            f"backend {backend} cannot build flavour '{lowered.flavour}'", f"lower the map as '{flavour}'"
        )


def three_batches(max_batch: int) -> tuple[int, int, int]:
    """Smallest, usual and largest batch of an engine."""
    return (1, max(1, max_batch // 2), max_batch)
