"""Types of a strongly typed graph: the nodes that compute in FP16, and the casts between them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qsens.core.precision import Precision
from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.opsets import Template
from qsens.engines.lowering.plan import PlacedMap
from qsens.graph.topology import data_inputs, moves_or_clips, takes_half

Values = np.ndarray[Any, np.dtype[Any]]


class TensorTypes:
    """Knows in which type every tensor was made; casts it once for readers of the other type.

    A tensor keeps its name in the type it is made in. Graph outputs, and tensors that branches capture by
    name, keep it in float32. `lost` counts constants of a node that became infinite in FP16.
    """

    def __init__(self, emitter: Emitter, template: Template) -> None:
        self.emitter = emitter
        self.template = template
        self.lost: dict[str, int] = {}
        self._half_names: dict[str, str] = {}

    def operands(self, node: onnx.NodeProto, *, is_half: bool, given: Mapping[str, str]) -> dict[str, str]:
        """Inputs to be replaced so that the node computes in FP16 or FP32; `given` ones are taken over."""
        replaced = dict(given)
        positions = data_inputs(node, self.template.opset) if is_half else frozenset[int]()
        for place, name in enumerate(node.input):
            if not name or name in replaced:
                continue
            if name not in self.emitter.topology.initializers:
                replaced[name] = self.name(name, is_half=place in positions)
            elif place in positions:
                replaced[name] = self._half_constant(node, name)
        return {old: new for old, new in replaced.items() if old != new}

    def name(self, tensor: str, *, is_half: bool) -> str:
        """The name of `tensor` in the type, cast if it was made in the other one."""
        if is_half and tensor not in self._half_names:
            return self._cast(tensor, self.emitter.made(tensor, "half"), TensorProto.FLOAT16)
        if is_half:
            return self._half_names[tensor]
        if self._half_names.get(tensor) == tensor:
            return self._cast(tensor, self.emitter.made(tensor, "float"), TensorProto.FLOAT)
        return tensor

    def result(self, tensor: str, *, is_half: bool) -> str:
        """The name under which `tensor` is made in the type."""
        if not is_half:
            return tensor
        is_fixed = tensor in self.template.fixed_names
        self._half_names[tensor] = self.emitter.made(tensor, "half") if is_fixed else tensor
        return self._half_names[tensor]

    def finish(self, tensors: Iterable[str]) -> None:
        """Cast the tensors among `tensors`, just made in FP16, whose own name is float32."""
        for tensor in tensors:
            half = self._half_names.get(tensor, tensor)
            if half != tensor:
                self.emitter.node("Cast", [half], tensor, to=TensorProto.FLOAT)

    def _cast(self, tensor: str, output: str, kind: int) -> str:
        return self.emitter.once(output, lambda name: self.emitter.node("Cast", [tensor], name, to=kind))

    def _half_constant(self, node: onnx.NodeProto, name: str) -> str:
        """The FP16 twin of a float32 initializer; other types are left as they are."""
        if self.emitter.topology.initializers[name].data_type != TensorProto.FLOAT:
            return name
        half, lost = self.emitter.half_constant(name)
        if lost:
            self.lost[node.name] = self.lost.get(node.name, 0) + lost
        return self.emitter.constant(self.emitter.made(name, "fp16"), half)


def half_nodes(placed: PlacedMap, template: Template) -> frozenset[str]:
    """Names of the nodes that compute in FP16.

    These are FP16 and INT8 layers with what is fused into them, and nodes that only move, copy or clip
    values: after FP16 nodes, and before nodes that would all round to FP16 anyway. Other arithmetic
    between layers keeps FP32, as `exact` computes it, and so do FP32 layers.
    """
    return _HalfNodes(placed, template).chosen()


class _HalfNodes:
    def __init__(self, placed: PlacedMap, template: Template) -> None:
        self.placed = placed
        self.template = template
        self.topology = template.topology
        self.half = {node.name for node in template.nodes if self._is_fused(node)}

    def chosen(self) -> frozenset[str]:
        if self.half:
            # In execution order what follows a mover sees it already; backwards so does what comes before.
            self._add_movers(self.template.nodes, self._reads_half)
            self._add_movers(self.template.nodes[::-1], self._is_rounded)
        return frozenset(self.half)

    def _is_fused(self, node: onnx.NodeProto) -> bool:
        name = self.template.origin(node)
        layer = self.placed.layer_of.get(name) or self.placed.chain_layer(name)
        wants_half = layer is not None and self.placed.precisions[layer] is not Precision.FP32
        return wants_half and takes_half(node, self.template.opset)

    def _add_movers(self, nodes: Sequence[onnx.NodeProto], is_half: Callable[[onnx.NodeProto], bool]) -> None:
        floats = self.placed.plan.topology.float_tensors
        for node in nodes:
            if (
                node.name not in self.half
                and moves_or_clips(node)
                and floats.issuperset(filter(None, node.output))
                and not self._has_fp32_layer(node)
                and takes_half(node, self.template.opset)
                and is_half(node)
            ):
                self.half.add(node.name)

    def _has_fp32_layer(self, node: onnx.NodeProto) -> bool:
        """Whether the node is fused into a layer that computes in FP32."""
        return self.placed.chain_layer(node.name) is not None

    def _reads_half(self, node: onnx.NodeProto) -> bool:
        positions = data_inputs(node, self.template.opset)
        names = [name for place, name in enumerate(node.input) if place in positions and name]
        computed = [name for name in names if name not in self.topology.initializers]
        return bool(computed) and all(self._is_half(name) for name in computed)

    def _is_half(self, tensor: str) -> bool:
        producer = self.topology.producer.get(tensor)
        return tensor in self.placed.dense or (producer is not None and producer.name in self.half)

    def _is_rounded(self, node: onnx.NodeProto) -> bool:
        return all(self._is_read_in_half(name) for name in node.output if name)

    def _is_read_in_half(self, tensor: str) -> bool:
        if tensor in self.placed.dense:
            return True
        readers = self.topology.consumers.get(tensor, ())
        is_fixed = tensor in self.template.fixed_names
        return bool(readers) and not is_fixed and all(reader.name in self.half for reader in readers)
