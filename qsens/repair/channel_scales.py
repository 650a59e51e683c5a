"""Channel scales that leave FP32 as it is: powers of two, moved from a layer's outputs to its readers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qsens.engines.lowering.plan import LoweringPlan
from qsens.graph.editable_graph import attribute_of
from qsens.graph.topology import Topology

Array = np.ndarray[Any, np.dtype[Any]]
# Their outputs double where their inputs double, channel by channel; slopes of a PRelu stay.
_HOMOGENEOUS = frozenset(
    {
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"),
        *("LeakyRelu", "MaxPool", "PRelu", "Relu", "Resize"),
    }
)
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})
CHANNEL_AXIS = 1


@dataclass(frozen=True)
class ChannelReader:
    """A layer whose input has another's output channels, from its channel `first` on."""

    layer: str
    first: int


@dataclass(frozen=True)
class ScalableLayer:
    """A layer whose output channels may be scaled: all that they reach are layers, which take it back.

    `result` is the tensor at the end of its fused operation.
    """

    layer: str
    result: str
    channels: int
    readers: tuple[ChannelReader, ...]


def scalable_layers(plan: LoweringPlan) -> tuple[ScalableLayer, ...]:
    """The layers whose output channels may be scaled, in the graph's order.

    On the way to its readers a tensor passes ReLU-like activations, concatenations of channels, pooling and
    resizing. Layers whose weight or bias another node reads too are left out.
    """
    found = []
    for name, operation in plan.operations.items():
        node = plan.topology.nodes[operation.node]
        readers = _readers(plan, node.output[0], 0) if _owns_parameters(plan, node) else None
        if readers:
            found.append(ScalableLayer(name, operation.result, _channels(plan, node)[0], readers))
    return tuple(found)


def scaled_plan(plan: LoweringPlan, exponents: Mapping[str, Array]) -> LoweringPlan:
    """The plan of the graph whose layers' output channels are divided by 2^exponent; readers take it back.

    `exponents`, int (output channels,) by layer name, are of `scalable_layers`. FP32 computes the same bits,
    and FP16 too where no weight or value overflows or becomes subnormal (Nagel et al. 2019, "Data-Free
    Quantization Through Weight Equalization and Bias Correction", section 4.1, with powers of two).
    """
    if not exponents:
        return plan
    scalable = {entry.layer: entry for entry in scalable_layers(plan)}
    changed: dict[str, Array] = {}
    readers = {reader.layer for name in exponents for reader in scalable[name].readers}
    for name in dict.fromkeys([*exponents, *readers]):
        node = plan.topology.nodes[plan.operations[name].node]
        outputs, inputs = (np.zeros(count, np.int32) for count in _channels(plan, node))
        if name in exponents:
            outputs -= exponents[name]
            changed |= {
                bias: np.ldexp(plan.topology.constant(bias), outputs) for bias in node.input[2:] if bias
            }
        for source, values in exponents.items():
            for reader in scalable[source].readers:
                if reader.layer == name:
                    inputs[reader.first : reader.first + len(values)] += values
        weight = plan.topology.constant(node.input[1])
        changed[node.input[1]] = np.ldexp(weight, _by_weight(node, weight.shape, outputs, inputs))
    return _with_constants(plan, changed)


def _with_constants(plan: LoweringPlan, changed: Mapping[str, Array]) -> LoweringPlan:
    model = onnx.ModelProto()
    model.CopyFrom(plan.graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return replace(plan, graph=replace(plan.graph, model=model), topology=Topology(model), memo={})


def _readers(plan: LoweringPlan, tensor: str, first: int) -> tuple[ChannelReader, ...] | None:
    """The readers where a tensor's channels end; `None` where more than layers need their values."""
    nodes = plan.topology.consumers.get(tensor, ())
    if tensor in plan.topology.outputs or not nodes:
        return None
    found: list[ChannelReader] = []
    for node in nodes:
        reached = _through(plan, node, tensor, first)
        if reached is None:
            return None
        found += reached
    return tuple(found)


def _through(
    plan: LoweringPlan, node: onnx.NodeProto, tensor: str, first: int
) -> tuple[ChannelReader, ...] | None:
    layer = plan.layer_of.get(node.name)
    if layer is not None:
        is_reader = _owns_parameters(plan, node) and tensor == node.input[0]
        return (ChannelReader(layer, first),) if is_reader else None
    starts = [first + start for start in _starts(plan, node, tensor)]
    found: list[ChannelReader] = []
    for start in starts:
        reached = _readers(plan, node.output[0], start)
        if reached is None:
            return None
        found += reached
    return tuple(found) or None


def _starts(plan: LoweringPlan, node: onnx.NodeProto, tensor: str) -> Iterator[int]:
    """The channels of the node's output at which those of `tensor` begin; none where they are not kept."""
    if node.op_type in _HOMOGENEOUS:
        is_plain = attribute_of(node, "coordinate_transformation_mode") != b"tf_crop_and_resize"
        keeps = _width(plan, tensor) == _width(plan, node.output[0]) > 0
        if keeps and is_plain and list(node.input).index(tensor) == 0:
            yield 0
    elif node.op_type == "Concat":
        widths = [_width(plan, name) for name in node.input]
        axis, rank = attribute_of(node, "axis"), len(plan.topology.shapes.get(tensor, ()))
        if all(widths) and axis in (CHANNEL_AXIS, CHANNEL_AXIS - rank):
            yield from (sum(widths[:at]) for at, name in enumerate(node.input) if name == tensor)


def _width(plan: LoweringPlan, tensor: str) -> int:
    """Channels of a tensor; 0 where they are not known."""
    return next(iter(plan.topology.shapes.get(tensor, ())[CHANNEL_AXIS : CHANNEL_AXIS + 1]), None) or 0


def _owns_parameters(plan: LoweringPlan, node: onnx.NodeProto) -> bool:
    """Whether the node is a layer with channels on `CHANNEL_AXIS`, whose constants nothing else reads."""
    constants = list(filter(None, node.input[1:]))
    return (
        node.op_type in _LAYERS
        and not attribute_of(node, "transA", 0)
        and len(set(constants)) == len(constants)
        and all(name in plan.topology.initializers for name in constants)
        and all(plan.topology.only_consumer(name) is not None for name in constants)
    )


def _channels(plan: LoweringPlan, node: onnx.NodeProto) -> tuple[int, int]:
    """Output and input channels of a layer."""
    sides = plan.topology.constant(node.input[1]).shape[:2]
    groups = int(attribute_of(node, "group", 1))
    return (sides[0], sides[1] * groups) if _outputs_first(node) else (sides[1] * groups, sides[0])


def _outputs_first(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" or (node.op_type == "Gemm" and bool(attribute_of(node, "transB", 0)))


def _by_weight(node: onnx.NodeProto, shape: tuple[int, ...], outputs: Array, inputs: Array) -> Array:
    """Exponents that broadcast over a weight, from those of its output and input channels."""
    groups = int(attribute_of(node, "group", 1))
    by_output, by_input = outputs.reshape(groups, -1), inputs.reshape(groups, -1)
    first, second = (by_output, by_input) if _outputs_first(node) else (by_input, by_output)
    summed = first[:, :, None] + second[:, None, :]
    return summed.reshape(*shape[:2], *[1] * (len(shape) - 2))
