"""Connections between the layers of a graph: which layer's result another one works with."""

from qsens.graph.editable_graph import tensors_read
from qsens.graph.graph import Graph


def layer_connections(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The layers that each layer takes its values from, by layer name, each in order of the graph.

    What lies between layers belongs to the latest layer before it. A residual sum, for one, is part of its
    last convolution: the next layer has one connection and not one to every layer of the sums before.
    """
    layer_of = {layer.node: layer.name for layer in graph.layers}
    place = {name: number for number, name in enumerate(_in_order(graph, layer_of))}
    owner: dict[str, str] = {}
    found: dict[str, set[str]] = {layer.name: set() for layer in graph.layers}
    for node in graph.model.graph.node:
        sources = {owner[name] for name in tensors_read(node) if name in owner}
        mine = layer_of.get(node.name) or max(sources, key=place.__getitem__, default=None)
        if mine is not None:
            found[mine] |= sources - {mine}
            owner.update(dict.fromkeys(node.output, mine))
    return {name: tuple(sorted(sources, key=place.__getitem__)) for name, sources in found.items()}


def _in_order(graph: Graph, layer_of: dict[str, str]) -> list[str]:
    """Layer names in execution order, which the layers themselves need not be in."""
    return [layer_of[node.name] for node in graph.model.graph.node if node.name in layer_of]
