"""The layers of a prepared graph in execution order, with parameters and multiply-accumulates."""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx

from qsens.core.errors import LoadError
from qsens.core.layer import Layer
from qsens.graph.editable_graph import Draft, attribute_of
from qsens.graph.names import block_of, layer_names, weighted_node

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
Shape = tuple[int, ...]


def layer_nodes(draft: Draft) -> list[onnx.NodeProto]:
    """Convolutions and matrix products with constant weights, in execution order."""
    return [node for node in draft.nodes if _is_layer(node, draft)]


def _is_layer(node: onnx.NodeProto, draft: Draft) -> bool:
    if node.op_type == "MatMul":
        weight = draft.initializers.get(node.input[1])
        return weight is not None and len(weight.dims) == 2 and node.input[0] not in draft.initializers
    if node.op_type in _CONVOLUTIONS or node.op_type == "Gemm":
        constant = all(name in draft.initializers for name in node.input[1:] if name)
        return constant and not attribute_of(node, "transA", 0) and node.input[0] not in draft.initializers
    return False


def dynamic_weight_nodes(draft: Draft) -> tuple[str, ...]:
    """Convolutions whose weights (or bias) are computed from inputs, in execution order."""
    return tuple(
        node.name for node in draft.nodes if node.op_type in _CONVOLUTIONS and not _is_layer(node, draft)
    )


def enumerate_layers(draft: Draft, shapes: Mapping[str, Shape]) -> tuple[Layer, ...]:
    """Layers in execution order; `shapes` are concrete, for one sample.

    Raises:
        LoadError: if there is no layer, or a layer's weights are not finite.
    """
    nodes = layer_nodes(draft)
    if not nodes:
        raise LoadError(
            "the graph has no layer to quantize: no convolution or matrix product with constant weights",
            _reason_for_none(draft),
        )
    is_torch = draft.header.producer_name == "pytorch"
    names = layer_names(
        [weighted_node(node, draft.origins.get(node.input[1]), is_torch=is_torch) for node in nodes]
    )
    biases = _matmul_biases(draft)
    return tuple(
        _layer(index, name, node, draft, shapes, biases.get(node.name))
        for index, (name, node) in enumerate(zip(names, nodes, strict=True))
    )


def _reason_for_none(draft: Draft) -> str:
    dynamic = dynamic_weight_nodes(draft)
    if dynamic:
        return (
            f"the weights of {dynamic[0]!r} are computed from the inputs, so they cannot be quantized ahead"
        )
    kinds = sorted({node.op_type for node in draft.nodes})
    return f"it holds {', '.join(kinds[:8]) or 'no node'}; is this the generator's file?"


def _matmul_biases(draft: Draft) -> dict[str, str]:
    """Constant vectors added right after a MatMul, by the MatMul's node name."""
    producers = draft.producers()
    readers = draft.readers()
    found = {}
    for add in draft.nodes:
        if add.op_type != "Add":
            continue
        constants = [name for name in add.input if name in draft.initializers]
        made = [producers[name] for name in add.input if name in producers]
        if len(constants) != 1 or len(made) != 1 or made[0].op_type != "MatMul":
            continue
        dims = draft.initializers[constants[0]].dims
        if prod(dims) == max(dims, default=0) and len(readers[made[0].output[0]]) == 1:
            found[made[0].name] = constants[0]
    return found


def _layer(
    index: int, name: str, node: onnx.NodeProto, draft: Draft, shapes: Mapping[str, Shape], bias: str | None
) -> Layer:
    parameters = [*node.input[1:], *([] if bias is None else [bias])]
    for tensor in parameters:
        if tensor and not np.isfinite(draft.values(tensor)).all():
            raise LoadError(
                f"layer {name!r} has weights that are NaN or infinite",
                "the checkpoint is damaged or training diverged; take an earlier one",
            )
    weight = tuple(draft.initializers[node.input[1]].dims)
    output = shapes[node.output[0]]
    macs, at_output = _macs(node, weight, shapes[node.input[0]], output)
    return Layer(
        name=name,
        node=node.name,
        kind=node.op_type,
        block=block_of(name),
        index=index,
        parameters=sum(prod(draft.initializers[tensor].dims) for tensor in parameters if tensor),
        macs=macs,
        macs_torchprofile=at_output + draft.folded_norms[node.name] * prod(output),
        output_shape=output,
    )


def _macs(node: onnx.NodeProto, weight: Shape, data: Shape, output: Shape) -> tuple[int, int]:
    """True multiply-accumulates, and those of the torchprofile convention without normalisation.

    A transposed convolution multiplies every input element with `weight[0]`; torchprofile counts it like a
    convolution at output resolution, which is more where the stride is above one.
    """
    if node.op_type == "Conv":
        macs = prod(output) * prod(weight[1:])
        return macs, macs
    if node.op_type == "ConvTranspose":
        groups = attribute_of(node, "group", 1)
        return prod(data) * prod(weight[1:]), prod(output) * (weight[0] // groups) * prod(weight[2:])
    macs = prod(output) * data[-1]
    return macs, macs
