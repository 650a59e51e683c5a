"""Which nodes of a strongly typed graph compute in FP16."""

from collections.abc import Callable, Sequence

import onnx

from qsens.core.precision import Precision
from qsens.engines.lowering.opsets import Template
from qsens.graph.placed_map import PlacedMap
from qsens.graph.topology import data_inputs, moves_or_clips, takes_half


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
                and node.output[0] in floats
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
