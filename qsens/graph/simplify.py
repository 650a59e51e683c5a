"""Passes that make a graph plainer without changing what it computes."""

from collections.abc import MutableSequence

import numpy as np
import onnx

from qsens.graph.editable_graph import Draft, Values, attribute_of, subgraphs, tensors_read


def remove_copies(draft: Draft) -> None:
    """Remove `Identity` and inference-time `Dropout`; readers then read the source.

    A copy between a graph input or a constant and a graph output stays: both names are needed.
    """
    captured = {name for node in draft.nodes for name in tensors_read(node) if any(subgraphs(node))}
    outputs = set(draft.output_names)
    movable = set(draft.producers()) - outputs - captured
    renamed: dict[str, str] = {}
    kept = []
    for node in draft.nodes:
        _rename(node.input, renamed)
        if not _is_copy(node, draft) or node.output[0] in captured:
            kept.append(node)
        elif node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        elif node.input[0] in movable:
            _rename_everywhere(kept, node.input[0], node.output[0])
            renamed[node.input[0]] = node.output[0]
            movable.discard(node.input[0])
        else:
            kept.append(node)
    draft.nodes = kept


def _is_copy(node: onnx.NodeProto, draft: Draft) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or (len(node.output) > 1 and node.output[1]):
        return False
    mode = node.input[2] if len(node.input) > 2 else ""
    return not mode or (mode in draft.initializers and not draft.values(mode).any())


def _rename_everywhere(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        _rename(node.input, {old: new})
        _rename(node.output, {old: new})


def _rename(names: MutableSequence[str], renamed: dict[str, str]) -> None:
    for index, name in enumerate(names):
        final = name
        while final in renamed:
            final = renamed[final]
        names[index] = final


def settle_gemms(draft: Draft, ranks: dict[str, int]) -> None:
    """Bake alpha and beta into constant Gemm operands; rank-2 MatMul with constant weights becomes Gemm."""
    readers = draft.readers()
    for node in list(draft.nodes):
        if node.op_type == "Gemm":
            _bake_factors(node, draft)
        elif node.op_type == "MatMul" and _is_linear(node, draft, ranks):
            node.op_type = "Gemm"
            _absorb_bias(node, draft, readers.get(node.output[0], []))


def _is_linear(node: onnx.NodeProto, draft: Draft, ranks: dict[str, int]) -> bool:
    weight = draft.initializers.get(node.input[1])
    return weight is not None and len(weight.dims) == 2 and ranks.get(node.input[0]) == 2


def _bake_factors(node: onnx.NodeProto, draft: Draft) -> None:
    for position, attribute in ((1, "alpha"), (2, "beta")):
        factor = attribute_of(node, attribute, 1.0)
        name = node.input[position] if len(node.input) > position else ""
        if factor != 1.0 and name in draft.initializers:
            scaled = draft.values(name) * np.float32(factor)
            node.input[position] = draft.add_constant(name, scaled, draft.origins.get(name))
            _remove_attribute(node, attribute)


def _remove_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _absorb_bias(node: onnx.NodeProto, draft: Draft, readers: list[onnx.NodeProto]) -> None:
    """Give a Gemm the constant vector that a following Add adds to its output."""
    output = node.output[0]
    if len(readers) != 1 or readers[0].op_type != "Add" or output in draft.output_names:
        return
    add = readers[0]
    other = next((name for name in add.input if name != output), None)
    columns = draft.initializers[node.input[1]].dims[1]
    if other not in draft.initializers or list(draft.initializers[other].dims) not in (
        [columns],
        [1, columns],
    ):
        return
    node.input.append(other)
    node.output[0] = add.output[0]
    draft.nodes.remove(add)


def drop_zero_biases(draft: Draft) -> None:
    """Remove biases that the exporter made up: zeros that are no parameter of the generator."""
    for node in draft.nodes:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3:
            name = node.input[2]
            if name in draft.initializers and not _is_parameter(name, draft) and _is_zero(draft.values(name)):
                del node.input[2]


def _is_parameter(name: str, draft: Draft) -> bool:
    return draft.origins.get(name) == name


def _is_zero(values: Values) -> bool:
    return not values.any()
