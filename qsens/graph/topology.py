"""Makers and readers of each tensor of an ONNX graph, and the nodes of a layer's fused operation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from qsens.graph.editable_graph import tensors_read
from qsens.graph.graph import Graph
from qsens.graph.names import NameMaker, graph_names

FLOAT16 = "tensor(float16)"
RELU_LIKE = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "ThresholdedRelu"})
SATURATING = frozenset(
    {"Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Softplus", "Softsign", "Mish", "Selu", "Celu"}
)
ACTIVATIONS = RELU_LIKE | SATURATING
MOVEMENTS = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_UNCHANGED = frozenset({"Cast", "Identity", "Reshape", "Slice", "Transpose"})
_DENSE_OUTPUTS = ACTIVATIONS | {
    "AveragePool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "Resize",
}


def outputs_of_tanh(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the outputs of a model that are values of a tanh, as it gives them or only moved."""
    producer = {name: node for node in model.graph.node for name in node.output}

    def is_of_tanh(name: str) -> bool:
        node = producer.get(name)
        while node is not None and node.op_type in _UNCHANGED:
            node = producer.get(node.input[0])
        return node is not None and node.op_type == "Tanh"

    return frozenset(value.name for value in model.graph.output if is_of_tanh(value.name))


def schema_of(node: onnx.NodeProto, opset: int) -> Any:
    """The schema of a node of the default domain in `opset`, `None` where there is none."""
    return _schema(node.op_type, opset) if node.domain in ("", "ai.onnx") else None


@lru_cache(maxsize=1024)
def _schema(operator: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def data_inputs(node: onnx.NodeProto, opset: int) -> frozenset[int]:
    """Positions of the inputs that have the type of the node's first output."""
    schema = schema_of(node, opset)
    if schema is None:
        return frozenset()
    kind = schema.outputs[0].type_str
    last = len(schema.inputs) - 1  # a variadic input stands for all that follow
    return frozenset(
        place for place in range(len(node.input)) if schema.inputs[min(place, last)].type_str == kind
    )


def takes_half(node: onnx.NodeProto, opset: int) -> bool:
    """Whether the node may compute in FP16."""
    schema = schema_of(node, opset)
    if schema is None:
        return False
    kind = schema.outputs[0].type_str
    allowed = next(
        (entry.allowed_type_strs for entry in schema.type_constraints if entry.type_param_str == kind), ()
    )
    return FLOAT16 in allowed


def same_signature(node: onnx.NodeProto, opset: int, older: int) -> bool:
    """Whether the operator has the same inputs and attributes in both sets, so that only types differ."""
    new, old = schema_of(node, opset), schema_of(node, older)
    return new is not None and old is not None and _signature(new) == _signature(old)


def _signature(schema: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    inputs = [(entry.name, str(entry.option)) for entry in schema.inputs]
    attributes = [
        (name, str(entry.type), str(entry.default_value)) for name, entry in sorted(schema.attributes.items())
    ]
    return inputs, attributes


@dataclass(frozen=True)
class FusedOperation:
    """One layer with the bias, residual add and activation that an engine fuses into its kernel.

    `data` is the activation the weighted node reads; `result` the tensor at the end of the fused chain;
    `skip` the other operand of a fused residual add; `pre_activation` the tensor before a final activation
    that is not ReLU-like (an INT8 engine keeps that tensor in INT8, which is where images collapse).
    """

    layer: str
    node: str
    data: str
    weight: str
    result: str
    skip: str | None = None
    pre_activation: str | None = None


@dataclass(frozen=True, eq=False)
class Topology:
    """Producer and consumers of every tensor of one graph; what a node's subgraphs read, the node reads.

    `beside` are initializers that the graph reads and `model` does not hold.
    """

    model: onnx.ModelProto
    beside: Mapping[str, onnx.TensorProto] = field(default_factory=dict, repr=False)
    initializers: Mapping[str, onnx.TensorProto] = field(init=False, repr=False)
    producer: Mapping[str, onnx.NodeProto] = field(init=False, repr=False)
    consumers: Mapping[str, tuple[onnx.NodeProto, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        consumers: dict[str, list[onnx.NodeProto]] = {}
        producer: dict[str, onnx.NodeProto] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(tensors_read(node)):
                consumers.setdefault(name, []).append(node)
            producer.update(dict.fromkeys(node.output, node))
        weights = {**self.beside, **{tensor.name: tensor for tensor in self.model.graph.initializer}}
        object.__setattr__(self, "initializers", weights)
        object.__setattr__(self, "producer", producer)
        object.__setattr__(self, "consumers", {name: tuple(nodes) for name, nodes in consumers.items()})

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph outputs."""
        return frozenset(value.name for value in self.model.graph.output)

    @cached_property
    def names(self) -> NameMaker:
        """Makes names that nothing in the graph bears."""
        return NameMaker(graph_names(self.model.graph).union(self.beside))

    @cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """Nodes by name."""
        return {node.name: node for node in self.model.graph.node}

    @cached_property
    def types(self) -> Mapping[str, int]:
        """ONNX element types of activations, as far as they are known."""
        graph = self.model.graph
        values = (*graph.input, *graph.value_info, *graph.output)
        found = {value.name: value.type.tensor_type.elem_type for value in values}
        return {name: kind for name, kind in found.items() if kind != TensorProto.UNDEFINED}

    @cached_property
    def float_tensors(self) -> frozenset[str]:
        """Activations that are known to be float32."""
        return frozenset(name for name, kind in self.types.items() if kind == TensorProto.FLOAT)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Inferred shapes by tensor; `None` for a free side; tensors without a shape are left out."""
        graph = self.model.graph
        found: dict[str, tuple[int | None, ...]] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                sides = value.type.tensor_type.shape.dim
                found[value.name] = tuple(
                    side.dim_value if side.HasField("dim_value") else None for side in sides
                )
        return found

    def constant(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Value of an initializer."""
        value: np.ndarray[Any, np.dtype[Any]] = numpy_helper.to_array(self.initializers[name])
        return value

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads `tensor`, or `None` if there are several, none, or it is a graph output."""
        readers = self.consumers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def fused_operations(graph: Graph, topology: Topology) -> dict[str, FusedOperation]:
    """The fused operation of every layer, by layer name.

    A residual add belongs to the last executed layer whose chain reaches it, as engines fuse it; the
    other operand is the skip.
    """
    order = {node.name: index for index, node in enumerate(topology.model.graph.node)}
    claimed: set[str] = set()
    found: dict[str, FusedOperation] = {}
    for layer in sorted(graph.layers, key=lambda layer: -order[layer.node]):
        found[layer.name] = _fused_operation(layer.name, topology.nodes[layer.node], topology, claimed)
    return {layer.name: found[layer.name] for layer in graph.layers}


def _fused_operation(
    layer: str, node: onnx.NodeProto, topology: Topology, claimed: set[str]
) -> FusedOperation:
    data, weight = node.input[:2]
    result, skip, pre_activation = node.output[0], None, None
    while (reader := topology.only_consumer(result)) is not None:
        if reader.op_type == "Add" and reader.name not in claimed:
            other = next((name for name in reader.input if name != result), None)
            if other is None or (
                other not in topology.initializers and not _is_residual(other, result, topology)
            ):
                break
            if other not in topology.initializers:
                if skip is not None:
                    break
                skip = other
            claimed.add(reader.name)
            result = reader.output[0]
        elif reader.op_type in ACTIVATIONS and reader.input[0] == result:
            pre_activation = result if reader.op_type in SATURATING else None
            result = reader.output[0]
            break
        else:
            break
    return FusedOperation(layer, node.name, data, weight, result, skip, pre_activation)


def _is_residual(other: str, result: str, topology: Topology) -> bool:
    """Two activations of the same known shape: an elementwise sum and not a broadcast."""
    shape = topology.shapes.get(other)
    return shape is not None and shape == topology.shapes.get(result)


def fused_chain(operation: FusedOperation, topology: Topology) -> list[onnx.NodeProto]:
    """The nodes that follow the weighted node within its fused operation, in order."""
    chain: list[onnx.NodeProto] = []
    tensor = topology.nodes[operation.node].output[0]
    while tensor != operation.result:
        chain.append(topology.consumers[tensor][0])
        tensor = chain[-1].output[0]
    return chain


def nearest_layers(graph: Graph, topology: Topology) -> dict[str, frozenset[str]]:
    """For every tensor, the layers it depends on without another layer in between."""
    layer_of = {layer.node: layer.name for layer in graph.layers}
    sources: dict[str, frozenset[str]] = {}
    for node in topology.model.graph.node:
        if node.name in layer_of:
            reached = frozenset({layer_of[node.name]})
        else:
            reached = frozenset[str]().union(*(sources.get(name, frozenset()) for name in tensors_read(node)))
        sources.update(dict.fromkeys(node.output, reached))
    return sources


def own_results(operations: Iterable[FusedOperation], topology: Topology) -> tuple[str, ...]:
    """Tensors that weighted nodes make and a fused sum or activation then changes, bends at zero left out.

    Codes that begin at zero are such a bend themselves: a kernel that fuses nothing else still gives them.
    """
    found = []
    for operation in operations:
        own = topology.nodes[operation.node].output[0]
        if own != operation.result and not _bends_at_zero(topology.consumers[own][0], topology):
            found.append(own)
    return tuple(found)


def _bends_at_zero(node: onnx.NodeProto, topology: Topology) -> bool:
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip":
        return False
    least = node.input[1] if len(node.input) > 1 else ""
    return least in topology.initializers and bool(np.all(topology.constant(least) >= 0))


def dense_tensors(operations: Iterable[FusedOperation], topology: Topology) -> dict[str, str]:
    """Tensors that `dense` placement keeps in INT8, each with the tensor whose range it uses.

    These are the results of fused operations, the inputs and outputs of activations that are not ReLU-like,
    outputs of other activations, pooling, resizing, normalisation and of sums and products of two
    activations of one shape, without those known to be no float32. Statistics inside a spelled-out
    normalisation stay in float, as in every engine. A tensor that feeds a concatenation uses the
    concatenation's range: one scale for all branches.
    """
    chosen: dict[str, None] = {}
    inside: set[str] = set()
    for operation in operations:
        chosen[operation.result] = None
        if operation.pre_activation is not None:
            chosen[operation.pre_activation] = None
        inside.update(_tensors_inside(operation, topology))
    for node in topology.model.graph.node:
        if node.op_type in SATURATING and node.input[0] not in inside:
            chosen[node.input[0]] = None
        if _is_dense_output(node, topology) and node.output[0] not in inside:
            chosen[node.output[0]] = None
    are_float = [
        name
        for name in chosen
        if name not in topology.initializers
        and topology.types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT
    ]
    return {name: _concatenation(name, topology) for name in are_float}


def _tensors_inside(operation: FusedOperation, topology: Topology) -> list[str]:
    """Tensors between the weighted node and the end of its chain, except the kept pre-activation."""
    first = topology.nodes[operation.node]
    tensors = [node.output[0] for node in (first, *fused_chain(operation, topology))]
    return [name for name in tensors if name not in (operation.result, operation.pre_activation)]


def _is_dense_output(node: onnx.NodeProto, topology: Topology) -> bool:
    if node.op_type in {"Add", "Mul", "Sub"}:
        first, second = node.input
        constants = {first, second} & topology.initializers.keys()
        return not constants and _is_residual(first, second, topology) and len(topology.shapes[first]) > 2
    return node.op_type in _DENSE_OUTPUTS


def _concatenation(tensor: str, topology: Topology) -> str:
    """The output of the last concatenation that `tensor` feeds directly, or `tensor` itself."""
    while True:
        readers = topology.consumers.get(tensor, ())
        following = next((node for node in readers if node.op_type == "Concat"), None)
        if following is None:
            return tensor
        tensor = following.output[0]


def moves_values(node: onnx.NodeProto) -> bool:
    """Whether the node only moves, copies or picks values, so that rounded inputs give rounded outputs."""
    if node.op_type == "Resize":
        modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
        return modes in ([], [b"nearest"])
    return node.op_type in MOVEMENTS or node.op_type == "Relu"


def moves_or_clips(node: onnx.NodeProto) -> bool:
    """Whether the node only moves values or bends them at a bound, as ReLU and its kin do."""
    return moves_values(node) or node.op_type in RELU_LIKE
