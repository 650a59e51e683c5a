"""Lowering: graph, precision map, ranges and options to the ONNX graph of one flavour. A pure function."""

from qsens.calibration.ranges import Ranges
from qsens.core.errors import BuildError
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.exact import lower_exact
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, PlacedMap
from qsens.engines.lowering.qdq import FORMS, layers_beyond_half, lower_qdq
from qsens.graph.graph import Graph

__all__ = ["LoweredGraph", "lower_graph", "unfit_layers"]


def lower_graph(
    plan: LoweringPlan,
    precision_map: PrecisionMap,
    ranges: Ranges,
    options: LoweringOptions,
    flavour: str = Flavour.EXACT,
) -> LoweredGraph:
    """The map as a graph in one flavour; what is quantized, where and with which scale is the same in all.

    `exact` is what every float32 runtime gets right and what scores are made of. `u8` is for engines of
    CPUs, `strong` for TensorRT 10 and later, `weak` for TensorRT 8.

    Raises:
        BuildError: for an unknown flavour, a map that names an unknown layer or a precision that a layer
            does not allow, and for what the flavour cannot express, with the layer or node named.
    """
    if flavour not in list(Flavour):
        raise BuildError(f"no flavour named {flavour!r}", f"there are {', '.join(Flavour)}")
    _check_map(plan.graph, precision_map)
    placed = PlacedMap(plan, precision_map, ranges, options)
    if flavour == Flavour.EXACT:
        return lower_exact(placed)
    return lower_qdq(placed, Flavour(flavour))


def unfit_layers(
    plan: LoweringPlan,
    precision_map: PrecisionMap,
    ranges: Ranges,
    options: LoweringOptions,
    flavour: str,
) -> dict[str, str]:
    """The INT8 layers of a map that the flavour cannot express with these ranges, each with the reason."""
    form = FORMS.get(Flavour(flavour))
    if form is None or not form.is_half:
        return {}
    return layers_beyond_half(PlacedMap(plan, precision_map, ranges, options))


def _check_map(graph: Graph, precision_map: PrecisionMap) -> None:
    if precision_map == PrecisionMap(Precision.FP32):
        return  # what all maps are compared with, also where layers are pinned to something else
    known = {layer.name: layer for layer in graph.layers}
    for name, _ in precision_map.overrides:
        if name not in known:
            raise BuildError(f"the map names layer {name!r}, which the graph does not have")
    for layer in graph.layers:
        if precision_map[layer.name] not in layer.allowed:
            allowed = ", ".join(sorted(layer.allowed))
            raise BuildError(
                f"layer {layer.name!r} cannot run in {precision_map[layer.name]}", f"it allows {allowed}"
            )
