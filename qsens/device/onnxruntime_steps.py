"""Which nodes of an ONNX file each step of an ONNX Runtime session computes, and in which precision."""

from __future__ import annotations

import re
from typing import Container

from qsens.device.executed import ExecutedLayer
from qsens.device.onnx_nodes import OnnxGraph, OnnxNode

_INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
    }
)
_FLOAT_OPERATORS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gemm",
        "MatMul",
        "NhwcFusedConv",
    }
)
_REFORMATS = frozenset(
    {"Cast", "DequantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput", "Transpose"}
)
# What ONNX Runtime appends to the names of nodes that it replaces.
_ADDED = re.compile(r"(_token_\d+|_nchwc|_nhwc)+$")


def executed_steps(held: OnnxGraph, original: OnnxGraph) -> tuple[ExecutedLayer, ...]:
    """The steps of a session in its own order.

    `held` is the graph that the session runs, `original` the file it was given. A step is traced to its
    nodes by the names that ONNX Runtime keeps: of the node, or of a tensor.
    """
    known = {node.name: node for node in original.nodes}
    readers: dict[str, list[OnnxNode]] = {}
    for node in held.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return tuple(
        ExecutedLayer(
            name=step_name(step.name, known),
            nodes=_nodes(step, readers, known, original),
            precision=_precision(step.operator),
            kernel=step.operator,
            is_reformat=_is_reformat(step, known),
        )
        for step in held.nodes
    )


def step_name(name: str, known: Container[str]) -> str:
    """The name of the node that a step stands for, else its own; ONNX Runtime numbers its nodes anew."""
    plain = _ADDED.sub("", name)
    return plain if name not in known and plain in known else name


def _is_reformat(step: OnnxNode, known: dict[str, OnnxNode]) -> bool:
    """A change of type or layout; the file's own transpositions and casts are work that it asks for."""
    is_asked = step.operator in {"Cast", "Transpose"} and step.name in known
    return step.operator in _REFORMATS and not is_asked


def _precision(operator: str) -> str | None:
    if operator in _INTEGER_OPERATORS or operator.startswith("QLinear"):
        return "int8"
    return "fp32" if operator in _FLOAT_OPERATORS else None


def _nodes(
    step: OnnxNode,
    readers: dict[str, list[OnnxNode]],
    known: dict[str, OnnxNode],
    original: OnnxGraph,
) -> tuple[str, ...]:
    """The nodes that a step computes in execution order; empty for one that ONNX Runtime added."""
    name = step.name if step.name in known else _ADDED.sub("", step.name)
    if _precision(step.operator) is None:
        return (name,) if name in known else ()
    ends = [*_known_results(step, readers, original), name]
    if name in known:
        ends += known[name].outputs
    chains = [original.layer_before(end, frozenset(step.inputs)) for end in ends]
    longest = max(chains, key=len)
    return tuple(node.name for node in reversed(longest)) or ((name,) if name in known else ())


def _known_results(step: OnnxNode, readers: dict[str, list[OnnxNode]], original: OnnxGraph) -> list[str]:
    """The tensors of the file that a step makes, behind changes of layout."""
    found: list[str] = []
    waiting = list(step.outputs)
    while waiting:
        name = waiting.pop()
        if name in original.producers:
            found.append(name)
            continue
        waiting += [
            output
            for reader in readers.get(name, [])
            if reader.operator in _REFORMATS
            for output in reader.outputs
        ]
    return found
