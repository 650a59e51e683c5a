"""Cutting a lowered graph: the part behind tensors that are known already, as a model of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qsens.engines.lowering.tensor_graph import Frontier
from qsens.graph.detached import DetachedModel


def rest_model(
    whole: DetachedModel,
    frontier: Frontier,
    *,
    types: Mapping[str, "np.dtype[Any]"],
    outputs: Iterable[str],
) -> DetachedModel:
    """The nodes of `frontier`, as they are; its tensors become inputs of the dtypes `types`.

    `outputs` are made by these nodes; graph outputs among them keep their declared types. Weights are
    shared with `whole`.
    """
    source = whole.skeleton.graph
    nodes = [source.node[index] for index in frontier.nodes]
    read = {name for node in nodes for name in node.input}
    graph = onnx.GraphProto(name=source.name)
    graph.node.extend(nodes)
    graph.input.extend(value for value in source.input if value.name in read)
    graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(types[name]), None)
        for name in frontier.tensors
        if name in read
    )
    _declare_outputs(graph, source, outputs)
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in read)
    model = onnx.ModelProto(ir_version=whole.skeleton.ir_version, graph=graph)
    model.opset_import.extend(whole.skeleton.opset_import)
    return DetachedModel(model, {name: value for name, value in whole.weights.items() if name in read})


def with_outputs(whole: DetachedModel, extra: Iterable[str]) -> DetachedModel:
    """The model with more of its tensors handed out, after its own outputs."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(whole.skeleton)
    own = [value.name for value in skeleton.graph.output]
    del skeleton.graph.output[:]
    _declare_outputs(skeleton.graph, whole.skeleton.graph, [*own, *extra])
    return DetachedModel(skeleton, whole.weights)


def _declare_outputs(graph: onnx.GraphProto, source: onnx.GraphProto, names: Iterable[str]) -> None:
    declared = {value.name: value for value in source.output}
    for name in dict.fromkeys(names):
        if name in declared:
            graph.output.append(declared[name])
        else:
            graph.output.add(name=name)  # the runtime infers its type
