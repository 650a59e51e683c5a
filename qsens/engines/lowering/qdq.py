"""Flavours `u8`, `strong` and `weak`: quantization written as QuantizeLinear and DequantizeLinear pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.exact import FP16_MAXIMUM
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph
from qsens.engines.lowering.opsets import template_within
from qsens.engines.lowering.strong_types import half_nodes
from qsens.graph.placed_map import PlacedMap
from qsens.graph.quantizers import ActivationQuantizer, WeightQuantizer
from qsens.graph.tensor_types import TensorTypes
from qsens.graph.topology import moves_or_clips


@dataclass(frozen=True)
class QdqForm:
    """How a flavour writes quantization.

    `opsets` are the lowest and highest operator set it may use, `None` for the generator's own.
    `is_half` flavours hold FP16 tensors and scales. `has_unsigned` ones write non-negative activations as
    uint8. Weights are held as INT8 codes, or (`quantizes_weights`) as floats before a QuantizeLinear.
    """

    opsets: tuple[int, int] | None = None
    is_half: bool = False
    has_unsigned: bool = False
    quantizes_weights: bool = False


FORMS: Mapping[Flavour, QdqForm] = {
    Flavour.U8: QdqForm(has_unsigned=True),
    # 19 is the first operator set with FP16 scales, 20 the last one that TensorRT 10.0 reads.
    Flavour.STRONG: QdqForm(opsets=(19, 20), is_half=True),
    Flavour.WEAK: QdqForm(opsets=(17, 17), quantizes_weights=True),
}


def lower_qdq(placed: PlacedMap, flavour: Flavour) -> LoweredGraph:
    """Lower to a graph that an engine's compiler reads.

    An INT8 layer reads its operand and its weights through a pair; bias, residual add and activation follow
    without one. One pair serves all INT8 readers of a tensor, float readers read the tensor itself.

    Raises:
        BuildError: for an operator that cannot be written in the flavour's operator set, and in `strong`
            for an INT8 layer whose values pass FP16's range.
    """
    return _QdqLowering(placed, flavour).run()


class _QdqLowering:
    """One lowering in progress: walks the nodes of the template in order."""

    def __init__(self, placed: PlacedMap, flavour: Flavour) -> None:
        form = FORMS[flavour]
        self.placed = placed
        self.flavour = flavour
        self.template = template_within(placed.plan, form.opsets)
        if form.is_half:
            _check_ranges(placed)
        self.half = half_nodes(placed, self.template) if form.is_half else frozenset[str]()
        self.emitter = Emitter(self.template.topology, placed.plan.memo)
        self.types = TensorTypes(self.emitter, self.template)
        self.activations = ActivationQuantizer(
            self.emitter, placed, self.types, is_half=form.is_half, has_unsigned=form.has_unsigned
        )
        self.weights = WeightQuantizer(
            self.emitter,
            placed.options.weight_scales,
            is_half=form.is_half,
            keeps_floats=form.quantizes_weights,
        )

    def run(self) -> LoweredGraph:
        for node in self.template.nodes:
            self._lower_node(node)
        return LoweredGraph(
            detached=self.emitter.model(self.template.topology.model, []),
            flavour=self.flavour,
            requested=self.placed.map,
            graph=self.placed.plan.graph,
            fp16_lost_weights=tuple(self._lost_weights()),
            float_pins=tuple(self._float_pins()) if self.flavour is Flavour.WEAK else (),
        )

    def _lower_node(self, node: onnx.NodeProto) -> None:
        is_half = node.name in self.half
        replaced = self.types.operands(node, is_half=is_half, given=self._quantized_operands(node))
        # Tensors that stay in INT8 are computed under another name first, so that all readers of theirs
        # see the grid points.
        wide = {name: f"{name}:wide" for name in node.output if name in self.placed.dense}
        renamed = {
            name: self.types.result(wide.get(name, name), is_half=is_half) for name in node.output if name
        }
        renamed = {old: new for old, new in renamed.items() if old != new}
        self.emitter.copy(node, renamed=renamed, replaced=replaced)
        for tensor, name in wide.items():
            self.activations.keep_in_int8(tensor, name)
        self.types.finish(node.output)

    def _quantized_operands(self, node: onnx.NodeProto) -> dict[str, str]:
        layer = self.placed.layer_of.get(node.name)
        if layer is not None and self.placed.precisions[layer] is Precision.INT8:
            operation = self.placed.plan.operations[layer]
            return {
                operation.data: self.activations.quantized(operation.data),
                operation.weight: self.weights.quantized(node, operation),
            }
        skip = self.placed.quantized_skip(node)
        return {} if skip is None else {skip: self.activations.quantized(skip)}

    def _layer_at(self, node: onnx.NodeProto) -> str | None:
        """The layer that the node is, or is fused into."""
        name = self.template.origin(node)
        return self.placed.layer_of.get(name) or self.placed.chain_layer(name)

    def _lost_weights(self) -> Iterator[tuple[str, int]]:
        for node in self.template.nodes:
            layer = self._layer_at(node)
            if layer is not None and node.name in self.types.lost:
                yield layer, self.types.lost[node.name]

    def _float_pins(self) -> Iterator[tuple[str, str]]:
        """FP16 and FP32 layers with what is fused into them, and arithmetic that `exact` does in FP32."""
        floats = self.placed.plan.topology.float_tensors
        for node in self.template.nodes:
            layer = self._layer_at(node)
            if layer is not None:
                if self.placed.precisions[layer] is not Precision.INT8:
                    yield node.name, str(self.placed.precisions[layer])
            elif not moves_or_clips(node) and self.template.result_of(node) in floats:
                yield node.name, str(Precision.FP32)


def _check_ranges(placed: PlacedMap) -> None:
    """Refuse INT8 layers whose operand or result FP16 tensors cannot hold.

    `exact` computes between layers in float32, so nothing of this shows in a score.
    """
    for layer, operation in placed.plan.operations.items():
        if placed.precisions[layer] is not Precision.INT8:
            continue
        result = placed.ranges[operation.result]
        reached = max(placed.range_of(operation.data).amax, abs(result.minimum), abs(result.maximum))
        if reached > FP16_MAXIMUM:
            raise BuildError(
                f"layer {layer!r} reads or makes values up to {reached:.3g}, which FP16 cannot hold",
                f"keep it in FP32 with --pin {layer}=fp32",
            )
