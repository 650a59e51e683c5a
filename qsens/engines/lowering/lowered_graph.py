"""What lowering hands to a backend: the graph in one flavour, and how to read it."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import onnx

from qsens.core.precision import Precision, PrecisionMap
from qsens.graph.detached import DetachedModel
from qsens.graph.graph import Graph


class Flavour(StrEnum):
    """Forms of the lowered graph (design section 2); all carry the same scales at the same places."""

    EXACT = "exact"
    U8 = "u8"
    STRONG = "strong"
    WEAK = "weak"


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """The graph a backend builds, and how to read layers and overflow counts back from it.

    `detached` keeps the name of every weighted node, and graph inputs and outputs are float32 under the
    generator's names and in its order. `overflow_outputs` maps an extra graph output of `exact` (float32
    scalar: values that FP16 could not hold) to its layer. `fp16_lost_weights` counts weights per layer
    that FP16 cannot hold. `split_layers` had an accumulator bound of 2^24 or more and were summed in
    float64. `float_pins` of `weak`: ONNX nodes that must not run in INT8, with `fp16` or `fp32`.
    """

    detached: DetachedModel
    flavour: str
    requested: PrecisionMap
    graph: Graph
    overflow_outputs: tuple[tuple[str, str], ...] = ()
    fp16_lost_weights: tuple[tuple[str, int], ...] = ()
    split_layers: tuple[str, ...] = ()
    float_pins: tuple[tuple[str, str], ...] = ()

    @property
    def model(self) -> onnx.ModelProto:
        """The graph with its weights, made anew at every access."""
        return self.detached.attached()

    @cached_property
    def expected(self) -> PrecisionMap:
        """What an engine of this flavour should run: `u8` has no FP16, the others are what was requested."""
        if self.flavour != Flavour.U8:
            return self.requested
        asked = self.requested.assignment(layer.name for layer in self.graph.layers)
        return PrecisionMap.over(
            {
                layer: Precision.FP32 if precision is Precision.FP16 else precision
                for layer, precision in asked.items()
            }
        )
