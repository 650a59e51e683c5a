"""Folding batch normalisation into the convolution, transposed convolution or matrix product before it."""

from dataclasses import dataclass

import numpy as np
import onnx

from qsens.graph.editable_graph import Draft, Values, attribute_of

_FOLDABLE = frozenset({"Conv", "ConvTranspose", "Gemm"})


@dataclass(frozen=True)
class _Normalisation:
    """`output = scale * input + shift` by channel, float64 (C,)."""

    scale: Values
    shift: Values


def fold_batch_norms(draft: Draft) -> None:
    """Fold every inference-time batch normalisation whose only input is a layer that nothing else reads.

    The layer's node takes over the normalisation's output tensor, and keeps its own name.
    """
    producers = draft.producers()
    readers = draft.readers()
    removed: set[str] = set()
    for norm in draft.nodes:
        if norm.op_type != "BatchNormalization" or not _is_inference(norm, draft):
            continue
        node = producers.get(norm.input[0])
        if node is None or not _can_take(node, norm, draft) or len(readers[norm.input[0]]) > 1:
            continue
        _scale_weights(node, _normalisation(norm, draft), draft)
        node.output[0] = norm.output[0]
        producers[norm.output[0]] = node
        draft.folded_norms[node.name] += 1
        removed.add(norm.name)
    draft.nodes = [node for node in draft.nodes if node.name not in removed]


def _is_inference(norm: onnx.NodeProto, draft: Draft) -> bool:
    extra = [name for name in norm.output[1:] if name]
    constant = all(name in draft.initializers for name in norm.input[1:5])
    return constant and not extra and not attribute_of(norm, "training_mode", 0)


def _can_take(node: onnx.NodeProto, norm: onnx.NodeProto, draft: Draft) -> bool:
    constant = all(name in draft.initializers for name in node.input[1:] if name)
    plain = attribute_of(node, "alpha", 1.0) == attribute_of(node, "beta", 1.0) == 1.0
    if node.op_type not in _FOLDABLE or norm.input[0] in draft.output_names:
        return False
    return constant and plain and _has_its_channels(node, norm, draft)


def _has_its_channels(node: onnx.NodeProto, norm: onnx.NodeProto, draft: Draft) -> bool:
    """Whether the normalisation has a value for each output channel of the node, as valid ones do."""
    sides = draft.initializers[node.input[1]].dims
    if len(sides) < 2:
        return False
    if node.op_type == "ConvTranspose":
        channels = sides[1] * attribute_of(node, "group", 1)
    else:
        is_last = node.op_type == "Gemm" and not attribute_of(node, "transB", 0)
        channels = sides[1] if is_last else sides[0]
    return all(list(draft.initializers[name].dims) == [channels] for name in norm.input[1:5])


def _normalisation(norm: onnx.NodeProto, draft: Draft) -> _Normalisation:
    gamma, beta, mean, variance = (draft.values(name).astype(np.float64) for name in norm.input[1:5])
    scale = gamma / np.sqrt(variance + attribute_of(norm, "epsilon", 1e-5))
    return _Normalisation(scale, beta - mean * scale)


def _scale_weights(node: onnx.NodeProto, norm: _Normalisation, draft: Draft) -> None:
    """Give `node` weights and a bias of its own; tensors shared with other nodes stay as they are."""
    name = node.input[1]
    weight = draft.values(name)
    scaled = weight.astype(np.float64) * _along_outputs(norm.scale, weight, node)
    node.input[1] = draft.add_constant(name, scaled.astype(np.float32), draft.origins.get(name))
    bias_name = node.input[2] if len(node.input) > 2 and node.input[2] else ""
    bias = draft.values(bias_name).astype(np.float64) if bias_name else np.zeros(1)
    folded = np.broadcast_to(bias.reshape(-1) * norm.scale + norm.shift, norm.scale.shape)
    del node.input[2:]
    node.input.append(draft.add_constant(bias_name or f"{name}:bias", folded.astype(np.float32)))


def _along_outputs(scale: Values, weight: Values, node: onnx.NodeProto) -> Values:
    """`scale` (output channels,) shaped to multiply `weight` along its output channels.

    Convolutions keep them on axis 0. Transposed convolutions are (inputs, outputs / groups, ...): input
    channel i belongs to group i // (inputs / groups), so each block of rows has its own scales.
    """
    trailing = (1,) * (weight.ndim - 2)
    if node.op_type == "Conv":
        return scale.reshape(-1, 1, *trailing)
    if node.op_type == "Gemm":
        return scale.reshape(-1, 1) if attribute_of(node, "transB", 0) else scale.reshape(1, -1)
    groups = attribute_of(node, "group", 1)
    by_group = scale.reshape(groups, -1)
    return np.repeat(by_group, weight.shape[0] // groups, axis=0).reshape(weight.shape[0], -1, *trailing)
