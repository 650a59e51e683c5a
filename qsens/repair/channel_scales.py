"""Channel scales that leave FP32 as it is: powers of two, moved from a layer's outputs to its readers."""

from collections.abc import Iterator, Mapping, Sequence
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
# 2^3: channels have steps up to eight times finer or coarser than their tensor's.
LARGEST_EXPONENT = 3
LEARNING_STEPS = 150


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


@dataclass(frozen=True, eq=False)
class ScaleLayout:
    """All channel scales as one vector, whose place 0 is that of channels without: its value is 0.

    `first` is the place of a layer's first output channel. `constants` are weights and biases by name: values
    are multiplied by 2^(vector[raised] - vector[lowered]), two arrays of places that broadcast over them.
    """

    size: int
    first: Mapping[str, int]
    constants: Mapping[str, tuple[Array, Array]]

    @classmethod
    def of(cls, plan: LoweringPlan, entries: Sequence[ScalableLayer]) -> "ScaleLayout":
        """The layout of the channels of those layers."""
        starts = np.cumsum([1, *(entry.channels for entry in entries)]).tolist()
        first = dict(zip((entry.layer for entry in entries), starts, strict=False))
        inputs: dict[str, list[tuple[int, Array]]] = {}
        for entry in entries:
            for reader in entry.readers:
                places = first[entry.layer] + np.arange(entry.channels)
                inputs.setdefault(reader.layer, []).append((reader.first, places))
        constants: dict[str, tuple[Array, Array]] = {}
        for name in dict.fromkeys([*first, *inputs]):
            node = plan.topology.nodes[plan.operations[name].node]
            lowered, raised = (np.zeros(count, np.int64) for count in _channels(plan, node))
            if name in first:
                lowered += first[name] + np.arange(len(lowered))
                constants |= {bias: (np.zeros_like(lowered), lowered) for bias in node.input[2:] if bias}
            for start, places in inputs.get(name, ()):
                raised[start : start + len(places)] = places
            shape = plan.topology.constant(node.input[1]).shape
            constants[node.input[1]] = _over_weight(node, shape, lowered, raised)
        return cls(starts[-1], first, constants)


def scaled_plan(plan: LoweringPlan, exponents: Mapping[str, Array]) -> LoweringPlan:
    """The plan of the graph whose layers' output channels are divided by 2^exponent; readers take it back.

    `exponents`, int (output channels,) by layer name, are of `scalable_layers`. FP32 computes the same bits,
    and FP16 too where no weight or value overflows or becomes subnormal (Nagel et al. 2019, "Data-Free
    Quantization Through Weight Equalization and Bias Correction", section 4.1, with powers of two).
    """
    if not exponents:
        return plan
    entries = [entry for entry in scalable_layers(plan) if entry.layer in exponents]
    layout = ScaleLayout.of(plan, entries)
    vector = np.concatenate([[0], *(exponents[entry.layer] for entry in entries)]).astype(np.int32)
    changed = {
        name: np.ldexp(plan.topology.constant(name), vector[raised] - vector[lowered])
        for name, (raised, lowered) in layout.constants.items()
    }
    return _with_constants(plan, changed)


def _with_constants(plan: LoweringPlan, changed: Mapping[str, Array]) -> LoweringPlan:
    model = onnx.ModelProto()
    model.CopyFrom(plan.graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    # What was computed of the weights before must not be found again.
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
        # That mode fills in a value of its own, which has no scale.
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


def _over_weight(
    node: onnx.NodeProto, shape: tuple[int, ...], outputs: Array, inputs: Array
) -> tuple[Array, Array]:
    """Places of its input and of its output channels, both broadcasting over a weight of that shape."""
    groups = int(attribute_of(node, "group", 1))
    by_output, by_input = outputs.reshape(groups, -1), inputs.reshape(groups, -1)
    sides = (*shape[:2], *[1] * (len(shape) - 2))
    if _outputs_first(node):
        pair = np.broadcast_arrays(by_input[:, None, :], by_output[:, :, None])
    else:
        pair = np.broadcast_arrays(by_input[:, :, None], by_output[:, None, :])
    return pair[0].reshape(sides), pair[1].reshape(sides)
