"""Where a precision map quantizes and rounds: the decisions that all flavours of the lowered graph share."""

from collections.abc import Mapping

import numpy as np
import onnx

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, Placement


class PlacedMap:
    """A precision map laid over a graph; read-only.

    `dense` maps every tensor that this map keeps in INT8 under `dense` placement to the tensor whose range
    it uses. All other quantized tensors are quantized on the edge to the INT8 layer that reads them.
    """

    def __init__(
        self, plan: LoweringPlan, precision_map: PrecisionMap, ranges: Ranges, options: LoweringOptions
    ) -> None:
        self.plan = plan
        self.map = precision_map
        self.ranges = ranges
        self.options = options
        self.layer_of = {layer.node: layer.name for layer in plan.graph.layers}
        self.precisions = precision_map.assignment(self.layer_of.values())
        self.dense = self._dense()

    def _dense(self) -> Mapping[str, str]:
        if self.options.placement is not Placement.DENSE:
            return {}
        return {
            tensor: source
            for tensor, source in self.plan.dense.items()
            if (layers := self.plan.sources.get(tensor, frozenset()))
            and all(self.precisions[layer] is Precision.INT8 for layer in layers)
        }

    def range_of(self, tensor: str) -> TensorRange:
        """The range that `tensor` is quantized with: branches of a concatenation share its range."""
        return self.ranges[self.dense.get(tensor, tensor)]

    def scale(self, tensor: str) -> np.float32:
        """The activation scale of `tensor`, amax / 127 in float32."""
        return np.float32(self.range_of(tensor).amax) / np.float32(127)

    def chain_layer(self, node_name: str) -> str | None:
        """The layer into whose kernel this bias add, residual add or activation is fused."""
        return self.plan.chains.get(node_name)

    def fused_skip(self, node: onnx.NodeProto) -> str | None:
        """The skip operand that this node adds to a layer's sum, `None` where it is no residual add."""
        layer = self.chain_layer(node.name)
        if layer is None or node.op_type != "Add":
            return None
        skip = self.plan.operations[layer].skip
        return skip if skip in node.input else None

    def quantized_skip(self, node: onnx.NodeProto) -> str | None:
        """The skip operand that this node reads in INT8."""
        layer = self.chain_layer(node.name)
        if layer is None or self.precisions[layer] is not Precision.INT8:
            return None
        return None if self.options.placement is Placement.INPUTS else self.fused_skip(node)
