"""Names of a graph's nodes and tensors: all there are, new ones beside them, and how they may be shown."""

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from onnx import AttributeProto

from qsens.device.visible_text import visible_name

SEPARATORS = frozenset(":/@")


class NameMaker:
    """Makes names that nothing in a graph bears, and no two of which are alike.

    `taken` are all names of the graph. A made name does not depend on what was made before: graphs lowered
    from one plan have one name for one thing.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = frozenset(taken)

    def made(self, base: str, part: str, separator: str = ":") -> str:
        """`base:part`, or `base:part@2`, ... where the graph has that; `base` is a name, given or made."""
        # Without it, two bases could lead to one name: `a` and `b:c`, `a:b` and `c`.
        assert not SEPARATORS.intersection(part), part
        return first_free(f"{base}{separator}{part}", self._taken)


def first_free(name: str, taken: Iterable[str]) -> str:
    """`name`, or the first of `name@2`, `name@3`, ... that is not taken."""
    used = taken if isinstance(taken, (set, frozenset, dict)) else set(taken)
    count, candidate = 1, name
    while candidate in used:
        count += 1
        candidate = f"{name}@{count}"
    return candidate


def graph_names(graph: onnx.GraphProto) -> frozenset[str]:
    """All names of nodes and tensors, those inside of subgraphs included."""
    return frozenset(filter(None, _names(graph)))


def with_shown_names(model: onnx.ModelProto) -> onnx.ModelProto:
    r"""The model with an escape such as `\x1b` for each character that steers a terminal or breaks a line.

    Names stay different from each other. A model without such characters is returned itself.
    """
    names = set(_names(model.graph))
    renamed: dict[str, str] = {}
    for name in sorted(names):
        if visible_name(name) != name:
            renamed[name] = first_free(visible_name(name), names.union(renamed.values()))
    if not renamed:
        return model
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    _rename(shown.graph, renamed)
    return shown


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs inside the attributes of a control-flow node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _named(graph: onnx.GraphProto) -> Iterator[Any]:
    yield from graph.node
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from values
    for sparse in graph.sparse_initializer:
        yield sparse.values


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for entry in _named(graph):
        yield entry.name
    for node in graph.node:
        yield from node.input
        yield from node.output
        for inner in subgraphs(node):
            yield from _names(inner)


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    for entry in _named(graph):
        if entry.name in renamed:
            entry.name = renamed[entry.name]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        for inner in subgraphs(node):
            _rename(inner, renamed)
