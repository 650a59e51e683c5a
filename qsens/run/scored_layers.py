"""Layers that no score depends on: they stay in float, as nothing would notice what INT8 does to them."""

from collections.abc import Sequence
from dataclasses import replace

from qsens.core.errors import SpecError
from qsens.core.layer import ALL_PRECISIONS, Layer
from qsens.core.precision import Precision
from qsens.graph.editable_graph import tensors_read
from qsens.graph.graph import Graph
from qsens.graph.topology import Topology

MOST_NAMED = 6
UNREACHED = "does not reach "


def scored_graph(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The graph, its layers held in float that reach none of the scored `outputs`, unless they are pinned.

    Raises:
        SpecError: if no layer reaches them: all maps would be the same.
    """
    reaching = _reaching(Topology(graph.model), outputs)
    unscored = [layer for layer in graph.layers if layer.node not in reaching]
    if not unscored:
        return graph
    named = ", ".join(map(repr, outputs))
    scored = f"the scored output {named}" if len(outputs) == 1 else f"the scored outputs {named}"
    if len(unscored) == len(graph.layers):
        raise SpecError(
            f"none of the {len(unscored)} layers reaches {scored}",
            f"name another with --output NAME: the graph's outputs are {', '.join(graph.outputs)}",
        )
    held = {layer.name for layer in unscored if layer.allowed == ALL_PRECISIONS}
    layers = tuple(
        replace(layer, allowed=layer.allowed - {Precision.INT8}, float_reason=f"{UNREACHED}{scored}")
        if layer.name in held
        else layer
        for layer in graph.layers
    )
    risked = [layer.name for layer in unscored if layer.allowed == {Precision.INT8}]
    return replace(graph, layers=layers, notes=(*graph.notes, *_risk_notes(risked)))


def _reaching(topology: Topology, outputs: Sequence[str]) -> frozenset[str]:
    """Names of the nodes whose results the outputs depend on."""
    found: set[str] = set()
    waiting = list(outputs)
    while waiting:
        node = topology.producer.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting.extend(tensors_read(node))
    return frozenset(found)


def _risk_notes(risked: Sequence[str]) -> list[str]:
    if not risked:
        return []
    return [f"pinned to INT8 although no score notices: {_listed(risked)} {_do(risked)} not reach it"]


def unscored_notes(layers: Sequence[Layer]) -> list[str]:
    """Sentences on the layers that are held in float because they reach no scored output."""
    held = [layer for layer in layers if layer.float_reason.startswith(UNREACHED)]
    if not held:
        return []
    names, scored = [layer.name for layer in held], held[0].float_reason.removeprefix(UNREACHED)
    return [
        f"not offered in INT8, because no score would notice: {_listed(names)} "
        f"{_do(names)} not reach {scored} (a pin to INT8 says otherwise)"
    ]


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
