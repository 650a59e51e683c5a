"""A graph with its quantizers in torch: it computes what INT8 does, and rounding lets gradients through."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from qsens.core.precision import Precision
from qsens.engines.lowering.int8 import LARGEST_CODE, output_channel_axis
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, PlacedMap, WeightScales
from qsens.engines.torch2trt.operators import operation_of
from qsens.engines.torch2trt.shape_operators import NodeView
from qsens.repair.channel_scales import Array, ScaleLayout

Operation = Callable[..., Any]
# Compensated codes leave about 11 dB less error than the nearest ones (docs/repair.md).
LEFT_OF_ROUNDING = 0.3
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


class GradientGraph:
    """The prepared graph of a plan, with the channels of `layout` to scale.

    Raises:
        BuildError: naming the node that has no form in torch.
    """

    def __init__(self, plan: LoweringPlan, options: LoweringOptions, layout: ScaleLayout) -> None:
        self.plan = plan
        self.views = [NodeView.of(node, plan.topology) for node in plan.graph.model.graph.node]
        self.operations = [_operation(view) for view in self.views]
        read = {name for view in self.views for name in view.inputs if name in plan.topology.initializers}
        self.constants = {name: torch.tensor(plan.topology.constant(name)) for name in sorted(read)}
        self._scaled = {
            name: (torch.from_numpy(raised.copy()), torch.from_numpy(lowered.copy()))
            for name, (raised, lowered) in layout.constants.items()
        }
        self._is_per_channel = options.weight_scales is WeightScales.PER_CHANNEL

    def run(
        self,
        feed: Mapping[str, Array],
        placed: PlacedMap,
        thresholds: Mapping[str, torch.Tensor],
        exponents: torch.Tensor,
    ) -> Mapping[str, torch.Tensor]:
        """All tensors by name, where the layers that `placed` has in INT8 are quantized.

        `thresholds` are binary logarithms by quantized tensor, `exponents` a vector as its layout says.
        Layers in FP16 compute in FP32.
        """
        constants = dict(self.constants)
        for name, (raised, lowered) in self._scaled.items():
            constants[name] = constants[name] * torch.exp2(exponents[raised] - exponents[lowered])
        quantizers = _Quantizers(placed, thresholds, constants)
        for name, values in feed.items():
            quantizers.keep(name, torch.from_numpy(values))
        for view, operation in zip(self.views, self.operations, strict=True):
            results = operation(*self._operands(view, quantizers))
            for name, values in zip(view.outputs, _as_tuple(results), strict=False):
                quantizers.keep(name, values)
        return quantizers.values

    def _operands(self, view: NodeView, quantizers: "_Quantizers") -> Iterator[torch.Tensor | None]:
        placed = quantizers.placed
        layer = placed.layer_of.get(view.name)
        is_int8 = layer is not None and placed.precisions[layer] is Precision.INT8
        skip = placed.quantized_skip(self.plan.topology.nodes[view.name])
        for place, name in enumerate(view.inputs):
            if (is_int8 and place == 0) or (name and name == skip):
                yield quantizers.quantized(name)
            elif is_int8 and place == 1:
                yield self._quantized_weight(view, quantizers.values[name])
            else:
                yield quantizers.values[name] if name else None

    def _quantized_weight(self, view: NodeView, weight: torch.Tensor) -> torch.Tensor:
        """The weight with a part of its rounding errors, as many as compensation leaves."""
        node = self.plan.topology.nodes[view.name]
        axis = output_channel_axis(node, weight.dim()) if self._is_per_channel else None
        others = [place for place in range(weight.dim()) if place != axis]
        scale = (weight.abs().amax(others, keepdim=True) / LARGEST_CODE).clamp_min(_SMALLEST_SCALE)
        return weight + LEFT_OF_ROUNDING * (rounded(weight / scale) * scale - weight)


class _Quantizers:
    """The tensors of one run, and what INT8 operations read of them."""

    def __init__(
        self, placed: PlacedMap, thresholds: Mapping[str, torch.Tensor], constants: Mapping[str, torch.Tensor]
    ) -> None:
        self.placed = placed
        self.values = dict(constants)
        self._thresholds = thresholds
        self._quantized: dict[str, torch.Tensor] = {}

    def keep(self, name: str, values: torch.Tensor) -> None:
        """Keep a tensor that was just computed, on its grid if it stays in INT8 between layers."""
        self.values[name] = self._on_grid(name, values) if name in self.placed.dense else values

    def quantized(self, name: str) -> torch.Tensor:
        """The tensor as an INT8 operation reads it."""
        if name in self.placed.dense:
            return self.values[name]
        if name not in self._quantized:
            self._quantized[name] = self._on_grid(name, self.values[name])
        return self._quantized[name]

    def _on_grid(self, name: str, values: torch.Tensor) -> torch.Tensor:
        least, largest = self.placed.grid(name).ends
        threshold = self._thresholds[self.placed.dense.get(name, name)]
        result: torch.Tensor = _StraightThrough.apply(values, torch.exp2(threshold) / largest, least, largest)
        return result


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not looked at
    """Quantization whose step learns (Esser et al. 2020, "Learned Step Size Quantization", equation 3)."""

    @staticmethod
    def forward(
        context: Any, values: torch.Tensor, scale: torch.Tensor, least: int, largest: int
    ) -> torch.Tensor:
        steps = values / scale
        context.save_for_backward(steps)
        context.ends = (least, largest)
        return torch.clamp(torch.round(steps), least, largest) * scale

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (steps,) = context.saved_tensors
        least, largest = context.ends
        is_inside = (steps >= least) & (steps <= largest)
        of_scale = torch.clamp(torch.round(steps), least, largest) - steps * is_inside
        return gradient * is_inside, (gradient * of_scale).sum(), None, None


def check_operators(plan: LoweringPlan) -> None:
    """Raise `BuildError`, naming the node, where one has no form in torch."""
    for node in plan.graph.model.graph.node:
        _operation(NodeView.of(node, plan.topology))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, with the gradient of the values themselves."""
    return values + (torch.round(values) - values).detach()


def _operation(view: NodeView) -> Operation:
    if view.operator in _FURTHER:
        return _FURTHER[view.operator](view)
    return operation_of(view)


def _pixel_shuffle(view: NodeView) -> Operation:
    if view.attributes.get("mode", "DCR") != "CRD":
        raise view.refusal("its channels are in another order than torch has them")
    size = int(view.attributes["blocksize"])
    return lambda values: functional.pixel_shuffle(values, size)


def _as_tuple(results: Any) -> tuple[torch.Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


# Operators that torch2trt cannot convert, though torch has them.
_FURTHER: Mapping[str, Callable[[NodeView], Operation]] = {
    "DepthToSpace": _pixel_shuffle,
    "Erf": lambda _: torch.erf,
    "Identity": lambda _: lambda values: values,
    "Softplus": lambda _: functional.softplus,
}
