"""Which precision each layer of a graph really runs in, read from the graph that a session holds."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qsens.graph.graph import Graph
from qsens.graph.topology import ACTIVATIONS, MOVEMENTS, Topology
from qsens.layer import Layer
from qsens.precision import Precision, PrecisionMap

_PASSES_CODES = MOVEMENTS | {"Cast", "Resize", "Relu"}


def applied_map(model: onnx.ModelProto, graph: Graph) -> PrecisionMap:
    """The precision of every layer of `graph` in the session's own `model`.

    A layer is INT8 if it reads values that a QuantizeLinear made and multiplies integer weights of at
    most 127; FP16 if its operand and its result pass through FP16 and FP16 can hold its weights; FP32
    otherwise. A layer that the session no longer has counts as FP32.
    """
    topology = Topology(model)
    return PrecisionMap.over({layer.name: _applied(layer, topology) for layer in graph.layers})


def _applied(layer: Layer, topology: Topology) -> Precision:
    node = topology.nodes.get(layer.node)
    if node is None:
        return Precision.FP32
    weights = [name for name in node.input[:2] if name in topology.initializers]
    if not weights:
        return Precision.FP32
    data = next(name for name in node.input[:2] if name != weights[0])
    values = topology.constant(weights[0])
    maker = _maker(data, topology)
    if maker == "QuantizeLinear" and np.array_equal(values, np.rint(values)) and np.abs(values).max() <= 127:
        return Precision.INT8
    if maker == "half" and _fits_half(values) and _ends_in_half(node.output[0], topology):
        return Precision.FP16
    return Precision.FP32


def _maker(tensor: str, topology: Topology) -> str:
    """What made the values: `QuantizeLinear`, `half` (a cast from FP16), or the operator's name."""
    while (node := topology.producer.get(tensor)) is not None:
        if node.op_type == "QuantizeLinear":
            return "QuantizeLinear"
        if node.op_type == "Cast" and _is_half(node.input[0], topology):
            return "half"
        if node.op_type not in _PASSES_CODES:
            return str(node.op_type)
        tensor = node.input[0]
    return "input"


def _is_half(tensor: str, topology: Topology) -> bool:
    node = topology.producer.get(tensor)
    return node is not None and node.op_type == "Cast" and bool(_target(node) == TensorProto.FLOAT16)


def _target(node: onnx.NodeProto) -> int:
    return next(
        int(helper.get_attribute_value(attribute)) for attribute in node.attribute if attribute.name == "to"
    )


def _fits_half(values: np.ndarray[Any, np.dtype[Any]]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values, values.astype(np.float16).astype(np.float32)))


def _ends_in_half(tensor: str, topology: Topology) -> bool:
    """Whether the fused chain that starts at `tensor` is rounded to FP16 at its end."""
    while (node := topology.only_consumer(tensor)) is not None:
        if node.op_type == "Cast":
            return bool(_target(node) == TensorProto.FLOAT16)
        if node.op_type not in ACTIVATIONS | {"Add"}:
            return False
        tensor = node.output[0]
    return False
