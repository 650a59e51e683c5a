"""Steps of a model that OpenVINO compiled: which ONNX nodes each computes, and in which precision."""

from __future__ import annotations

import re
from typing import Any, Mapping

from qsens.device.audit import ExecutedLayer
from qsens.device.onnx_nodes import WEIGHTED, OnnxGraph

# OpenVINO's types of operations that may hold a layer's weights.
_WEIGHTED_TYPES = frozenset(
    {
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MatMul",
    }
)
# What OpenVINO calls the steps that compute them.
_WEIGHTED_STEPS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
# Added to the operation behind a weighted one that shares its ONNX node: the bias.
_BIAS = "/Bias"
# That, and OpenVINO's own suffixes where it moves a scale behind an operation.
_ADDED = re.compile(rf"(_original|{_BIAS}|/DequantizationMultiply|/DequantizationSubtract)+$")
# The steps that only change type or layout, and those that are no work at all.
_REFORMATS = frozenset({"Reorder", "Convert"})
_NO_WORK = frozenset({"Input", "Output", "Parameter", "Result"})
# Neighbouring operations in one kernel, matrix products too, whose arithmetic OpenVINO does not tell.
_JOINED = "Subgraph"
_JOINED_NOTE = "joined with its neighbours: OpenVINO does not tell its precision"
_INTEGER_TYPES = frozenset({"i8", "u8"})
_FLOAT_PRECISIONS = {"f32": "fp32", "f16": "fp16"}


def name_operations(model: Any, graph: OnnxGraph) -> None:
    """Name the operations of an `openvino.Model` after the ONNX nodes that they were made of.

    OpenVINO names an operation that makes a graph output after the output, and numbers the ones it adds;
    the numbers change from one reading of the file to the next.
    """
    operations = model.get_ordered_ops()
    for operation in operations:
        node = _node_of(operation, graph)
        if node is not None:
            operation.set_friendly_name(_escaped(node))
    for operation in operations:
        if operation.get_type_name() not in _WEIGHTED_TYPES or _node_of(operation, graph) is not None:
            continue
        last = _named_after(operation, graph)
        if last is not None:
            operation.set_friendly_name(last.get_friendly_name())
            last.set_friendly_name(last.get_friendly_name() + _BIAS)


class CompiledSteps:
    """The steps of one compiled model (`get_runtime_model`), in execution order, without constants."""

    def __init__(self, runtime_model: Any, graph: OnnxGraph) -> None:
        self._nodes = frozenset(node.name for node in graph.nodes)
        self._weighted = frozenset(node.name for node in graph.nodes if node.operator in WEIGHTED)
        self._steps = [step for step in _working(runtime_model) if _fact(step, "layerType") not in _NO_WORK]
        self._folded = self._folded_nodes(graph)

    def hidden_layers(self) -> frozenset[str]:
        """Weighted nodes that are only found joined with other operations in one kernel."""
        joined: set[str] = set()
        apart: set[str] = set()
        for step in self._steps:
            (joined if _fact(step, "layerType") == _JOINED else apart).update(self._nodes_of(step))
        return self._weighted & (joined - apart)

    def executed(self, notes: Mapping[str, str]) -> tuple[ExecutedLayer, ...]:
        """Every step; `notes` says what a reader must know of an INT8 step, by weighted node."""
        hidden = self.hidden_layers()
        return tuple(self._executed(step, hidden, notes) for step in self._steps)

    def _executed(self, step: Any, hidden: frozenset[str], notes: Mapping[str, str]) -> ExecutedLayer:
        nodes = self._nodes_of(step)
        kernel = _fact(step, "primitiveType")
        precision, note = _precision(kernel, _fact(step, "runtimePrecision"))
        if not hidden.isdisjoint(nodes):
            precision, note = None, _JOINED_NOTE
        if precision == "int8":
            note = next((notes[name] for name in nodes if name in notes), note)
        return ExecutedLayer(
            name=step_name(step.get_friendly_name()),
            nodes=nodes,
            precision=precision,
            kernel=kernel,
            is_reformat=_fact(step, "layerType") in _REFORMATS,
            note=note,
        )

    def _nodes_of(self, step: Any) -> tuple[str, ...]:
        named = self._named_nodes(step)
        return (*(self._folded[name] for name in named if name in self._folded), *named)

    def _named_nodes(self, step: Any) -> tuple[str, ...]:
        names = [step_name(part) for part in _fact(step, "originalLayersNames").split(",")]
        return tuple(dict.fromkeys(name for name in names if name in self._nodes))

    def _folded_nodes(self, graph: OnnxGraph) -> dict[str, str]:
        """Weighted nodes whose name OpenVINO dropped, by the node behind them that names their step.

        A product with constants, folded into the weights, leaves its own name on the kernel.
        """
        named = {name: step for step in self._steps for name in self._named_nodes(step)}
        holders = {name for name, step in named.items() if _fact(step, "layerType") in _WEIGHTED_STEPS}
        taken = {id(named[name]) for name in self._weighted if name in named}
        found: dict[str, str] = {}
        for node in graph.nodes:
            if node.name not in self._weighted or node.name in named:
                continue
            last = next((name for name in graph.names_behind(node) if name in holders), None)
            if last is not None and id(named[last]) not in taken:
                found[last] = node.name
        return found


def step_name(friendly: str) -> str:
    """The name of a compiled step: that of its first node, where it has one."""
    return _ADDED.sub("", friendly).replace("%2C", ",").replace("%25", "%")


def _escaped(name: str) -> str:
    """OpenVINO separates the names of a step by commas."""
    return name.replace("%", "%25").replace(",", "%2C")


def _node_of(operation: Any, graph: OnnxGraph) -> str | None:
    if operation.get_type_name() == "Result" or operation.get_output_size() != 1:
        return None
    made = [graph.producers[name].name for name in operation.output(0).get_names() if name in graph.producers]
    return made[0] if made else None


def _named_after(operation: Any, graph: OnnxGraph) -> Any | None:
    """The first operation with an ONNX node's name on the way from one that has none."""
    while operation.get_output_size():
        readers = list(operation.output(0).get_target_inputs())
        if not readers:
            return None
        operation = readers[0].get_node()
        if _node_of(operation, graph) is not None:
            return operation
    return None


def _working(runtime_model: Any) -> list[Any]:
    """The steps that read something else than constants, or nothing at all: inputs."""
    constant: set[str] = set()
    working = []
    for step in runtime_model.get_ordered_ops():
        sources = [step.input_value(place).get_node() for place in range(step.get_input_size())]
        of_constants = bool(sources) and all(one.get_friendly_name() in constant for one in sources)
        if of_constants or _fact(step, "layerType") == "Const":
            constant.add(step.get_friendly_name())
        else:
            working.append(step)
    return working


def _precision(kernel: str, runtime_precision: str) -> tuple[str | None, str]:
    """The arithmetic of a step and what must be said of it, from its kernel and its data type.

    Either alone overstates: a kernel in f32 can have the data type i8.
    """
    arithmetic = kernel.rpartition("_")[2].lower()
    if arithmetic in _INTEGER_TYPES:
        return ("int8", "") if runtime_precision in _INTEGER_TYPES else ("fp32", "")
    if arithmetic in _FLOAT_PRECISIONS:
        return _FLOAT_PRECISIONS[arithmetic], ""
    return None, arithmetic


def _fact(step: Any, key: str) -> str:
    """One entry of a compiled step's description, empty where it has none."""
    facts = step.get_rt_info()
    return str(facts[key].value) if key in facts else ""
