"""Layers that no score depends on: they stay in float, as nothing would notice what INT8 does to them."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from qsens.core.errors import SpecError
from qsens.core.layer import ALL_PRECISIONS, Layer
from qsens.core.precision import Precision
from qsens.graph.editable_graph import tensors_read
from qsens.graph.graph import Graph
from qsens.graph.topology import Topology

MOST_NAMED = 6


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
        replace(layer, allowed=layer.allowed - {Precision.INT8}, float_reason=f"does not reach {scored}")
        if layer.name in held
        else layer
        for layer in graph.layers
    )
    return replace(graph, layers=layers, notes=(*graph.notes, *_notes(unscored, held, scored)))


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


def _notes(unscored: Sequence[Layer], held: Collection[str], scored: str) -> list[str]:
    kept = [layer.name for layer in unscored if layer.name in held]
    risked = [layer.name for layer in unscored if layer.allowed == {Precision.INT8}]
    notes = []
    if kept:
        notes.append(
            f"not offered in INT8, because no score would notice: {_listed(kept)} "
            f"{_do(kept)} not reach {scored} (a pin to INT8 says otherwise)"
        )
    if risked:
        notes.append(
            f"pinned to INT8 although no score notices: {_listed(risked)} {_do(risked)} not reach it"
        )
    return notes


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
