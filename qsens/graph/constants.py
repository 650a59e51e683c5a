"""Folding what can be computed without any input: shape arithmetic, transposed or normalised weights."""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from qsens.graph.editable_graph import Draft, Values, attribute_of, is_onnx_domain, subgraphs

# A folded tensor may be larger than what it was computed from only up to this size: expanded and tiled
# constants stay nodes, so that folding cannot blow up the file.
LARGEST_GROWTH_BYTES = 4 * 2**20
# The work of these does not follow from the sizes of what they read and make; no exporter leaves them on
# constants.
_COSTLY = frozenset({"NonMaxSuppression"})
_LARGEST_WINDOW = 1024
_WINDOWS = ("kernel_shape", "strides", "dilations", "pads", "output_padding", "output_shape")
_LARGEST_EINSUM = 2**33


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
