"""Local functions of a model, expanded into plain nodes."""

from collections.abc import Iterable

import onnx
import onnx.inliner

from qsens.core.errors import LoadError
from qsens.graph.editable_graph import all_nodes

# Twenty times what the largest generators hold; a few functions that call each other twice reach billions.
MOST_NODES = 200_000
DEEPEST_CALLS = 64
Key = tuple[str, str]


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without local functions: each call is replaced by the function's nodes.

    Raises:
        LoadError: for functions that call themselves, expand to too many nodes, or are not valid.
    """
    if not model.functions:
        return model
    _refuse_growth(model)
    try:
        return onnx.inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise LoadError(
            f"the graph's local functions cannot be expanded: {str(error).strip().splitlines()[0][:300]}",
            "the file is damaged or its exporter has a bug; export it again",
        ) from error


def _refuse_growth(model: onnx.ModelProto) -> None:
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[Key, int] = {}
    total = sum(_size_of(key, functions, sizes, 0) for key in _calls(model.graph.node))
    if total > MOST_NODES:
        raise LoadError(
            f"the graph's local functions expand to {total:,} nodes, more than {MOST_NODES:,}",
            "no generator is that large; export it without functions",
        )


def _size_of(key: Key, functions: dict[Key, onnx.FunctionProto], sizes: dict[Key, int], depth: int) -> int:
    """The number of nodes in a call. Raises `LoadError` for calls that nest too deep, or without end."""
    if key not in functions:
        return 1
    if depth > DEEPEST_CALLS:
        raise LoadError(
            f"the local function {key[1]!r} calls itself, or functions more than {DEEPEST_CALLS} deep",
            "export the generator without functions",
        )
    if key not in sizes:
        sizes[key] = sum(
            _size_of(inner, functions, sizes, depth + 1) for inner in _calls(functions[key].node)
        )
    return sizes[key]


def _calls(nodes: Iterable[onnx.NodeProto]) -> list[Key]:
    """Operators of the nodes and of those in their subgraphs."""
    return [(node.domain, node.op_type) for node in all_nodes(nodes)]
