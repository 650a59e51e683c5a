"""The nodes of a graph that multiply and add and are no layer, with their multiply-accumulates."""

from collections.abc import Callable, Iterator, Mapping
from math import prod

import onnx

from qsens.core.other_work import OtherWork
from qsens.graph.editable_graph import Draft, attribute_of
from qsens.graph.layers import layer_nodes
from qsens.graph.names import subgraphs

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_COMPUTED = "its weights or bias are computed at run time"
_PRODUCT = "a product of two computed tensors"
_NO_MATRIX = "its constant is no matrix on the right"
_NO_FORM = "this operator has no INT8 form here"


def multiplying_nodes(draft: Draft) -> list[onnx.NodeProto]:
    """Nodes of the graph itself that multiply and add and are no layer, in execution order."""
    layers = {id(node) for node in layer_nodes(draft)}
    return [node for node in draft.nodes if id(node) not in layers and _macs_of(node) is not None]


def tensors_of_work(draft: Draft) -> dict[str, set[str]]:
    """The tensors whose shapes decide the work of these nodes, by node; constants are known."""
    return {
        node.name: {name for name in (*node.input, node.output[0]) if name and name not in draft.initializers}
        for node in multiplying_nodes(draft)
    }


def other_work(draft: Draft, shapes: Shapes, inferred: onnx.GraphProto | None) -> tuple[OtherWork, ...]:
    """All work that is no layer; `inferred` is the graph with the shapes inside its bodies, if it has any.

    What a body computes counts once, as in its first round: how often it runs is decided at run time. Of the
    branches of an If the one with most work counts.
    """
    known = {**{name: tuple(tensor.dims) for name, tensor in draft.initializers.items()}, **shapes}
    found = [_work(node, known, node.name, _reason(node, draft)) for node in multiplying_nodes(draft)]
    for node in () if inferred is None else inferred.node:
        found += _work_of_bodies(node, known, node.name)
    return tuple(found)


def has_bodies(draft: Draft) -> bool:
    """Whether a node holds graphs of its own."""
    return any(any(subgraphs(node)) for node in draft.nodes)


def _work_of_bodies(node: onnx.NodeProto, outside: Shapes, path: str) -> list[OtherWork]:
    bodies = [list(_work_inside(body, outside, path)) for body in subgraphs(node)]
    if node.op_type == "If":
        bodies = [max(bodies, key=lambda body: sum(work.macs for work in body), default=[])]
    return [work for body in bodies for work in body]


def _work_inside(body: onnx.GraphProto, outside: Shapes, path: str) -> Iterator[OtherWork]:
    known = {
        **outside,
        **{tensor.name: tuple(tensor.dims) for tensor in body.initializer},
        **{
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
            for value in (*body.input, *body.value_info, *body.output)
            if _is_known(value)
        },
    }
    for place, node in enumerate(body.node):
        name = f"{path}/{node.name or f'{node.op_type}_{place}'}"
        if _macs_of(node) is not None:
            yield _work(node, known, name, f"it is in the body of {path!r}, and counted once")
        yield from _work_of_bodies(node, known, name)


def _is_known(value: onnx.ValueInfoProto) -> bool:
    tensor_type = value.type.tensor_type
    return tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in tensor_type.shape.dim)


def _work(node: onnx.NodeProto, shapes: Shapes, name: str, reason: str) -> OtherWork:
    count = _macs_of(node)
    try:
        macs = 0 if count is None else count(node, shapes)
    except (KeyError, IndexError, ZeroDivisionError):
        return OtherWork(name, node.op_type, 0, f"{reason}; its sizes are not known")
    return OtherWork(name, node.op_type, macs, reason)


def _reason(node: onnx.NodeProto, draft: Draft) -> str:
    kind = node.op_type.removeprefix("Fused")
    constants = [name for name in node.input if name in draft.initializers]
    if kind in ("Conv", "ConvTranspose"):
        return _COMPUTED
    if kind in ("MatMul", "Gemm", "Einsum"):
        return _NO_MATRIX if constants else _PRODUCT
    return _NO_FORM


def _macs_of(node: onnx.NodeProto) -> Callable[[onnx.NodeProto, Shapes], int] | None:
    if "DeformConv" in node.op_type:
        return _deformable
    if node.op_type == "Einsum" and len(node.input) < 2:
        return None
    return _KINDS.get(node.op_type.removeprefix("Fused"))


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])


def _transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])


def _deformable(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Operators of other makers read offsets and masks before the weight, whose first side is the outputs."""
    output = shapes[node.output[0]]
    own = node.input[1:2] if node.op_type == "DeformConv" else node.input[2:]
    weight = next(shapes[name] for name in own if name and shapes[name][0] == output[1])
    return prod(output) * prod(weight[1:])


def _matrix_product(node: onnx.NodeProto, shapes: Shapes) -> int:
    is_turned = attribute_of(node, "transA", 0)
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if is_turned else -1]


def _sum_of_products(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every index takes all its values; each further tensor is one product more."""
    terms = attribute_of(node, "equation", b"").decode(errors="replace").replace(" ", "")
    sides: dict[str, int] = {}
    for term, name in zip(terms.partition("->")[0].split(","), node.input, strict=False):
        before, _, behind = term.partition("...")
        shape = shapes[name]
        spread = len(shape) - len(before) - len(behind)
        letters = [*before, *(f"...{place}" for place in range(spread, 0, -1)), *behind]
        for letter, side in zip(letters, shape, strict=False):
            sides[letter] = max(side, sides.get(letter, 1))
    return prod(sides.values()) * (len(node.input) - 1)


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Weights (directions, gates, inputs) and (directions, gates, units), once for each step and sample."""
    steps_and_samples = prod(shapes[node.input[0]][:2])
    return steps_and_samples * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Both products of attention; inputs are (batch, heads, length, width) or (batch, length, width)."""
    query, key, value = (shapes[node.input[place]] for place in range(3))
    if len(query) == 4:
        return prod(query[:3]) * key[2] * (query[3] + value[3])
    heads = attribute_of(node, "q_num_heads", 0) or attribute_of(node, "num_heads", 1)
    value_heads = attribute_of(node, "kv_num_heads", 0) or heads
    return query[0] * query[1] * key[1] * (query[2] + int(heads * value[2] // value_heads))


def _projected_attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """The contributed operator that projects its input with one weight (inputs, 3 x width) first."""
    (batch, length, _), weight = shapes[node.input[0]], shapes[node.input[1]]
    width = weight[1] // 3
    return batch * length * prod(weight) + 2 * batch * length * length * width


def _any_attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    return (_projected_attention if node.domain == "com.microsoft" else _attention)(node, shapes)


_KINDS: dict[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _matrix_product,
    "Gemm": _matrix_product,
    "Einsum": _sum_of_products,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "Attention": _any_attention,
    "MultiHeadAttention": _attention,
}
