"""Which precision each layer of a graph really runs in, read from the graph that a session holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.graph.graph import Graph
from qsens.graph.topology import ACTIVATIONS, MOVEMENTS, Topology

LARGEST_WEIGHT = 127
FP16_MAXIMUM = 65504.0
SMALLEST_NORMAL = 2.0**-14
# Bits of a float32 mantissa that FP16 has no room for.
DROPPED_BITS = 0x1FFF
Values = np.ndarray[Any, np.dtype[Any]]
_PASSES_CODES = MOVEMENTS | {"Cast", "Resize", "Relu"}


def applied_map(model: onnx.ModelProto, graph: Graph, *, folder: Path | None = None) -> PrecisionMap:
    """The precision of every layer of `graph` in the session's own `model`.

    A layer is INT8 if it reads values that a QuantizeLinear made and multiplies integer weights of at
    most 127; FP16 if its operand and its result pass through FP16 and FP16 can hold its weights; FP32
    otherwise. A layer that the session no longer has counts as FP32. `folder` holds the files of weights
    that are not inside the model.
    """
    held = _Held(Topology(model), folder)
    return PrecisionMap.over({layer.name: _applied(layer, held) for layer in graph.layers})


@dataclass(frozen=True, eq=False)
class _Held:
    """The graph of a session; weights are read one at a time."""

    topology: Topology
    folder: Path | None

    def constant(self, name: str) -> Values:
        tensor = self.topology.initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return self.topology.constant(name)
        assert self.folder is not None, "a model with external data comes with its folder"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path, offset = self.folder / entries["location"], int(entries.get("offset", 0))
        count = int(np.prod(tensor.dims))
        return np.fromfile(path, kind, count, offset=offset).reshape(tuple(tensor.dims))


def _applied(layer: Layer, held: _Held) -> Precision:
    topology = held.topology
    node = topology.nodes.get(layer.node)
    if node is None:
        return Precision.FP32
    weights = [name for name in node.input[:2] if name in topology.initializers]
    if not weights:
        return Precision.FP32
    data = next(name for name in node.input[:2] if name != weights[0])
    maker = _maker(data, topology)
    if maker == "QuantizeLinear" and _fits_int8(held.constant(weights[0])):
        return Precision.INT8
    if maker == "half" and _ends_in_half(node.output[0], topology) and fits_half(held.constant(weights[0])):
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


def _fits_int8(values: Values) -> bool:
    return _magnitude(values) <= LARGEST_WEIGHT and np.array_equal(values, values.astype(np.int8))


def fits_half(values: Values) -> bool:
    """Whether FP16 holds every one of the float32 values exactly."""
    if not _magnitude(values) <= FP16_MAXIMUM:
        return False
    if np.bitwise_or.reduce(values.view(np.uint32), axis=None) & DROPPED_BITS:
        return False
    # Below its smallest normal number FP16 drops more bits than the last thirteen.
    small = values[np.abs(values) < SMALLEST_NORMAL]
    return np.array_equal(small, small.astype(np.float16).astype(np.float32))


def _magnitude(values: Values) -> float:
    """The largest magnitude; NaN where there is one."""
    return float(max(values.max(), -values.min())) if values.size else 0.0


def _ends_in_half(tensor: str, topology: Topology) -> bool:
    """Whether the fused chain that starts at `tensor` is rounded to FP16 at its end."""
    while (node := topology.only_consumer(tensor)) is not None:
        if node.op_type == "Cast":
            return bool(_target(node) == TensorProto.FLOAT16)
        if node.op_type not in ACTIVATIONS | {"Add"}:
            return False
        tensor = node.output[0]
    return False
