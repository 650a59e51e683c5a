"""The layers of a prepared graph: their names, blocks, order, parameters and multiply-accumulates."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import Generator
from qsens.core.layer import Layer
from qsens.device.visible_text import visible_name
from qsens.graph.editable_graph import Draft, attribute_of
from qsens.graph.names import first_free

_SCOPES = "pkg.torch.onnx.name_scopes"
_REWRITTEN = "pkg.onnxscript.rewriter.rule_name"
_OWN_WEIGHT = re.compile(r"^(weight(_v|_g|_orig)?|parametrizations\.weight\..*)$")
_LOCAL_SUFFIX = re.compile(r"([._]weight)?$")
_CALL_AGAIN = re.compile(r"@\d+")
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
Shape = tuple[int, ...]


def in_blocks(layers: Sequence[Layer], generator: Generator) -> tuple[Layer, ...]:
    """The layers, in the blocks that the generator states for them."""
    blocks = generator.layer_blocks
    return tuple(replace(layer, block=blocks.get(layer.name, layer.block)) for layer in layers)


def in_order(layers: Sequence[Layer], generator: Generator, layer_order: str) -> tuple[Layer, ...]:
    """The layers in execution order or, as `definition`, in the order that the generator states.

    Raises:
        SpecError: if the generator states no order, or one that misses a layer.
    """
    if layer_order == "execution":
        return tuple(layers)
    places = {name: place for place, name in enumerate(generator.definition_order)}
    missing = [layer.name for layer in layers if layer.name not in places]
    if missing:
        raise SpecError(
            f"the generator {generator.name!r} does not say where {missing[0]!r} is defined",
            "use --layer-order execution",
        )
    ordered = sorted(layers, key=lambda layer: places[layer.name])
    return tuple(replace(layer, index=index) for index, layer in enumerate(ordered))


@dataclass(frozen=True)
class WeightedNode:
    """The origin of one weighted node, as far as it is known.

    `module` is the path of the innermost torch module, `None` where there is none; `call` names the
    operation inside it; `parameter` is the initializer that the weight came from, or `None`.
    """

    node: str
    module: str | None
    call: str
    parameter: str | None


def weighted_node(node: onnx.NodeProto, parameter: str | None, *, is_torch: bool) -> WeightedNode:
    """Read a node's torch scope from exporter metadata, else from a TorchScript-style node name."""
    scopes = _scopes(node)
    if scopes and parameter is not None and parameter.endswith(".weight") and _is_joined(node, scopes[-1]):
        # The exporter gives the scope of the last node it joined: of the normalisation, not of the layer.
        owner = parameter.removesuffix(".weight")
        return WeightedNode(node.name, owner, owner.rpartition(".")[2], parameter)
    if scopes:
        return WeightedNode(node.name, scopes[-2] if len(scopes) > 1 else "", scopes[-1], parameter)
    if node.name.startswith("/"):
        *path, call = node.name[1:].split("/")
        return WeightedNode(node.name, _module_of_call(path, parameter), call, parameter)
    if is_torch and parameter is not None and parameter.endswith(".weight"):
        return WeightedNode(node.name, parameter.removesuffix(".weight"), node.name, parameter)
    return WeightedNode(node.name, None, node.name, parameter)


def _is_joined(node: onnx.NodeProto, call: str) -> bool:
    return "batch_norm" in call or any(entry.key == _REWRITTEN for entry in node.metadata_props)


def _scopes(node: onnx.NodeProto) -> list[str]:
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if text else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    return (
        [_CALL_AGAIN.sub("", visible_name(str(scope))) for scope in scopes]
        if isinstance(scopes, list)
        else []
    )


def _module_of_call(path: Sequence[str], parameter: str | None) -> str:
    """`a.0 / a.0.1 / b / b.2` means module `a.0.1.b.2`; the second call of `b` is written `b_1`."""
    module = _joined(path)
    if parameter is not None and parameter.endswith(".weight"):
        owner = parameter.removesuffix(".weight")
        called = r"\.".join(rf"{re.escape(part)}(_\d+)?" for part in owner.split("."))
        if re.fullmatch(called, module):
            return owner
    return module


def _joined(path: Sequence[str]) -> str:
    parts: list[str] = []
    for component in path:
        if parts and component.startswith(parts[-1] + "."):
            parts[-1] = component
        else:
            parts.append(component)
    return ".".join(parts)


def layer_names(nodes: Sequence[WeightedNode]) -> list[str]:
    """One unique name for each node, in order; the same weights used again become `name@2`, `name@3`."""
    weights: dict[str, set[str]] = {}
    for node in nodes:
        if node.module is not None:
            weights.setdefault(node.module, set()).add(node.parameter or node.node)
    parents = {name[:place] for name in weights for place, letter in enumerate(name) if letter == "."}
    wished = [_base_name(node, weights, parents) for node in nodes]
    taken = set(wished)
    names: dict[str, None] = {}
    for name in wished:
        unique = first_free(name, taken) if name in names else name
        taken.add(unique)
        names[unique] = None
    return list(names)


def _base_name(node: WeightedNode, weights: Mapping[str, set[str]], parents: set[str]) -> str:
    """The module's path; the weight's own name is added where the path alone would be ambiguous."""
    if node.module is None:
        return node.node
    local = _local_name(node)
    if _OWN_WEIGHT.match(local) and node.module:
        return node.module
    if node.module and len(weights[node.module]) == 1 and node.module not in parents:
        return node.module
    short = _LOCAL_SUFFIX.sub("", local) or node.call
    return f"{node.module}.{short}" if node.module else short


def _local_name(node: WeightedNode) -> str:
    """The parameter's name inside its module, or the name of the call where it came from elsewhere."""
    prefix = f"{node.module}." if node.module else ""
    is_parameter = node.parameter is not None and "::" not in node.parameter
    if is_parameter and node.parameter is not None and node.parameter.startswith(prefix):
        return node.parameter[len(prefix) :]
    return node.call


def block_of(name: str) -> str:
    """The part of a layer name up to and including its first number.

    >>> block_of("face_decoder_blocks.3.0.conv_block.0"), block_of("res.0.1"), block_of("head.out")
    ('face_decoder_blocks.3', 'res.0', 'head')
    """
    base = name.partition("@")[0].strip("/")
    separator = "/" if "/" in base else "."
    parts = base.split(separator)
    number = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    if number is not None:
        return separator.join(parts[: number + 1])
    return parts[0] if parts[0] else name


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
