"""Graphs that hand out their inner tensors, for calibration."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qsens.graph.graph import Graph
from qsens.graph.topology import Topology

# Tensors handed out at once are held in memory together.
LARGEST_GROUP_BYTES = 256 * 2**20


def observing_model(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with `tensors` as its outputs; graph inputs among them are left out."""
    inputs = {value.name for value in graph.model.graph.input}
    return _with_outputs(graph.model, [name for name in tensors if name not in inputs], [])


def extremes_model(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with the (minimum, maximum) of every tensor as its outputs, shape (2,), same names.

    The extremes are computed by the runtime, so that large tensors never leave it.
    """
    pair = numpy_helper.from_array(np.array([1], np.int64), "qsens:pair")
    nodes = []
    for name in tensors:
        ends = []
        for operator in ("ReduceMin", "ReduceMax"):
            ends.append(f"{name}:{operator}")
            nodes.append(helper.make_node(operator, [name], [f"{ends[-1]}:scalar"], keepdims=0))
            nodes.append(helper.make_node("Reshape", [f"{ends[-1]}:scalar", pair.name], [ends[-1]]))
        nodes.append(helper.make_node("Concat", ends, [f"{name}:extremes"], axis=0))
    model = _with_outputs(graph.model, [f"{name}:extremes" for name in tensors], nodes)
    model.graph.initializer.append(pair)
    return model


def groups_of_tensors(graph: Graph, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Runs of tensors whose values for one sample fit in `LARGEST_GROUP_BYTES` together."""
    shapes = Topology(graph.model).shapes
    group: list[str] = []
    size_bytes = 0
    for name in tensors:
        needed = 4 * int(np.prod([side or 1 for side in shapes.get(name, ())]))
        if group and size_bytes + needed > LARGEST_GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
        group.append(name)
        size_bytes += needed
    if group:
        yield group


def _with_outputs(
    template: onnx.ModelProto, names: Sequence[str], nodes: Sequence[onnx.NodeProto]
) -> onnx.ModelProto:
    model = onnx.ModelProto(ir_version=template.ir_version)
    model.opset_import.extend(template.opset_import)
    model.graph.name = template.graph.name
    model.graph.node.extend([*template.graph.node, *nodes])
    model.graph.initializer.extend(template.graph.initializer)
    model.graph.input.extend(template.graph.input)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(names)
    )
    return model
