"""Passes that make a graph plainer with the same result: batch normalisation and constants are folded."""

import math
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from qsens.graph.editable_graph import Draft, Values, attribute_of, is_onnx_domain, tensors_read
from qsens.graph.names import subgraphs

_FOLDABLE = frozenset({"Conv", "ConvTranspose", "Gemm"})
# A folded tensor may be larger than what it was computed from only up to this size: expanded and tiled
# constants stay nodes, so that folding cannot blow up the file.
LARGEST_GROWTH_BYTES = 4 * 2**20
# The work of these does not follow from the sizes of what they read and make; no exporter leaves them on
# constants.
_COSTLY = frozenset({"NonMaxSuppression"})
_LARGEST_WINDOW = 1024
_WINDOWS = ("kernel_shape", "strides", "dilations", "pads", "output_padding", "output_shape")
_LARGEST_EINSUM = 2**33


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


def fold_constants(draft: Draft, types: Mapping[str, onnx.TypeProto]) -> None:
    """Replace every node whose inputs are all constant by its value.

    `types` are inferred tensor types: they settle `CastLike` and the `Shape` of tensors of fixed shape.
    """
    kept = []
    for node in draft.nodes:
        _settle_cast_like(node, types)
        if not (_fold_fixed_shape(node, draft, types) or _fold(node, draft)):
            kept.append(node)
    draft.nodes = kept


def _settle_cast_like(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> None:
    """Turn `CastLike` into `Cast` where the other tensor's type is known."""
    if node.op_type != "CastLike" or node.input[1] not in types:
        return
    target = types[node.input[1]].tensor_type.elem_type
    if target == TensorProto.UNDEFINED:
        return
    node.op_type = "Cast"
    del node.input[1]
    node.attribute.append(helper.make_attribute("to", target))


def _fold_fixed_shape(node: onnx.NodeProto, draft: Draft, types: Mapping[str, onnx.TypeProto]) -> bool:
    """Fold `Shape` of an activation whose sides are all fixed."""
    if node.op_type != "Shape" or node.input[0] not in types:
        return False
    tensor_type = types[node.input[0]].tensor_type
    sides = tensor_type.shape.dim
    if not tensor_type.HasField("shape"):
        return False
    picked = list(sides)[attribute_of(node, "start", 0) : attribute_of(node, "end", len(sides))]
    if not all(side.HasField("dim_value") for side in picked):
        return False
    _store(draft, node.output[0], np.array([side.dim_value for side in picked], np.int64), None)
    return True


def _fold(node: onnx.NodeProto, draft: Draft) -> bool:
    names = [name for name in node.input if name]
    if not names or not is_onnx_domain(node.domain) or any(subgraphs(node)):
        return False
    if not all(name in draft.initializers for name in names) or not _is_small(node, names, draft):
        return False
    results = _evaluate(node, names, draft)
    if results is None:
        return False
    origin = _origin(names, draft)
    for name, value in zip(node.output, results, strict=True):
        if name:
            _store(draft, name, value, origin)
    return True


def _store(draft: Draft, name: str, value: Values, origin: str | None) -> None:
    draft.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
    if origin is not None:
        draft.origins[name] = origin


def _origin(names: list[str], draft: Draft) -> str | None:
    """The parameter behind the largest of the constants a node reads."""
    known = [name for name in names if name in draft.origins]
    largest = max(known, key=lambda name: np.prod(draft.initializers[name].dims), default=None)
    return None if largest is None else draft.origins[largest]


def _is_small(node: onnx.NodeProto, names: list[str], draft: Draft) -> bool:
    """Whether folding keeps the size of the file within bounds."""
    constants = [draft.initializers[name] for name in dict.fromkeys(names)]
    if any(tensor.data_type == TensorProto.STRING for tensor in constants) or not _is_quick(node, draft):
        return False
    bound = max(LARGEST_GROWTH_BYTES, sum(_bytes_of(tensor) for tensor in constants))
    try:
        schema = onnx.defs.get_schema(node.op_type, draft.opset, "")
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {
                tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
                for tensor in constants
            },
            {tensor.name: tensor for tensor in constants if _bytes_of(tensor) < 4096},
            opset_imports=list(draft.header.opset_import),
            ir_version=draft.header.ir_version,
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        return False
    return all(_type_bytes(value) <= bound for value in inferred.values())


def _is_quick(node: onnx.NodeProto, draft: Draft) -> bool:
    """Whether the work of a node is in proportion to what it reads and makes."""
    windows = (size for name in _WINDOWS for size in attribute_of(node, name, ()))
    if node.op_type in _COSTLY or any(abs(size) > _LARGEST_WINDOW for size in windows):
        return False
    return node.op_type != "Einsum" or _einsum_products(node, draft) <= _LARGEST_EINSUM


def _einsum_products(node: onnx.NodeProto, draft: Draft) -> int:
    """Products that the sum runs over: every index takes all its values."""
    terms = attribute_of(node, "equation", b"").decode(errors="replace").partition("->")[0].split(",")
    sides = {
        letter: side
        for term, name in zip(terms, node.input, strict=False)
        for letter, side in zip(term.replace(" ", ""), draft.initializers[name].dims, strict=False)
    }
    return math.prod(sides.values())


def _bytes_of(tensor: onnx.TensorProto) -> int:
    return 8 * int(math.prod(tensor.dims))


def _type_bytes(value: onnx.TypeProto) -> float:
    sides = value.tensor_type.shape.dim
    if not value.HasField("tensor_type") or not all(side.HasField("dim_value") for side in sides):
        return float("inf")
    return float(np.prod([float(side.dim_value) for side in sides])) * 8


def _evaluate(node: onnx.NodeProto, names: list[str], draft: Draft) -> list[Values] | None:
    """Outputs of one node on constants; `None` where the reference implementation cannot tell."""
    values = {name: draft.values(name) for name in names}
    inputs = [
        helper.make_tensor_value_info(name, draft.initializers[name].data_type, None) for name in values
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    model = onnx.ModelProto(ir_version=draft.header.ir_version)
    model.opset_import.extend(draft.header.opset_import)
    model.graph.CopyFrom(helper.make_graph([node], "constant", inputs, outputs))
    try:
        results = ReferenceEvaluator(model).run(None, values)
    except Exception:
        # The reference operators raise whatever numpy raises; a node that stays is still correct.
        return None
    return results if all(isinstance(value, np.ndarray) for value in results) else None


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
