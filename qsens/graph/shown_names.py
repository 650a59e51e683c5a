"""Names of nodes and tensors as they may be shown: in one line, without characters that steer a terminal."""

from collections.abc import Iterator
from typing import Any

import onnx

from qsens.device.visible_text import visible_name
from qsens.graph.editable_graph import first_free, subgraphs


def with_shown_names(model: onnx.ModelProto) -> onnx.ModelProto:
    r"""The model with an escape such as `\x1b` for each such character, itself where no name has any.

    Names stay different from each other.
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
