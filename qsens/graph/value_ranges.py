"""Ranges of values that the graph itself proves: what a tensor can hold for any input it may ever meet."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qsens.graph.editable_graph import attribute_of
from qsens.graph.topology import Topology

Attributes = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Interval:
    """All values from `low` to `high`, both included; infinite ends where nothing is known."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def is_non_negative(self) -> bool:
        """Whether no value is negative."""
        return self.low >= 0

    def hull(self, other: "Interval") -> "Interval":
        """The least interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def through(self, monotone: Callable[[float], float]) -> "Interval":
        """The values of a function that never falls."""
        return Interval(monotone(self.low), monotone(self.high))

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low)

    def __mul__(self, other: "Interval") -> "Interval":
        corners = [_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))


def _product(first: float, second: float) -> float:
    return 0.0 if 0.0 in (first, second) else first * second


ANYTHING = Interval()
ZERO = Interval(0.0, 0.0)
UNIT = Interval(0.0, 1.0)
NOT_NEGATIVE = Interval(0.0, math.inf)
AROUND_ZERO = Interval(-1.0, 1.0)

_ALWAYS = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "Hardmax"), UNIT),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), UNIT),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "IsNaN", "IsInf"), UNIT),
    **dict.fromkeys(("Sin", "Cos"), AROUND_ZERO),
    **dict.fromkeys(("Exp", "Sqrt", "Softplus", "Shape", "Size"), NOT_NEGATIVE),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "LpPool", "GlobalLpPool"), NOT_NEGATIVE),
}
# They move, pick or average values, or drop some.
_KEEPS_RANGE = frozenset(
    {
        *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
        *("MaxPool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin"),
        *("Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
_KEEPS_NON_NEGATIVE = frozenset({"PRelu", "Elu", "Celu", "HardSwish", "ReduceSum", "ReduceProd"})
_UNSIGNED = {
    TensorProto.BOOL: UNIT,
    TensorProto.UINT8: Interval(0.0, 255.0),
    **dict.fromkeys((TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64), NOT_NEGATIVE),
}
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})


def proved_ranges(topology: Topology, promised: Mapping[str, Interval]) -> Mapping[str, Interval]:
    """The interval of every tensor that nodes make, and of the graph's inputs.

    Inputs are bounded by their type, and by what is `promised` of them. A sample's extremes prove nothing.
    """
    found: dict[str, Interval] = {}
    for value in topology.model.graph.input:
        of_type = _UNSIGNED.get(value.type.tensor_type.elem_type, ANYTHING)
        found[value.name] = promised.get(value.name, of_type)
    for node in topology.model.graph.node:
        interval = _NodeRange(node, topology, found).result()
        # Only the first output of a pool or a normalisation holds its values.
        kept = node.output if node.op_type == "Split" else node.output[:1]
        found.update(dict.fromkeys(node.output, ANYTHING))
        found.update(dict.fromkeys(kept, interval))
    return found


class _NodeRange:
    """The interval of one node's result, from those of its operands."""

    def __init__(self, node: onnx.NodeProto, topology: Topology, found: Mapping[str, Interval]) -> None:
        self.node = node
        self.topology = topology
        self.found = found

    def result(self) -> Interval:
        kind = self.node.op_type
        if self.node.domain not in ("", "ai.onnx"):
            return ANYTHING
        if kind in _ALWAYS:
            return _ALWAYS[kind]
        if kind in _KEEPS_RANGE:
            return self.operand(0)
        if kind in _KEEPS_NON_NEGATIVE:
            return NOT_NEGATIVE if self.operand(0).is_non_negative else ANYTHING
        rule = _RULES.get(kind)
        return ANYTHING if rule is None else rule(self)

    def operand(self, place: int) -> Interval:
        """The values that an operand can hold; any where it is left out."""
        name = self.node.input[place] if place < len(self.node.input) else ""
        if name in self.found:
            return self.found[name]
        return _of_constant(self.topology.constant(name)) if name in self.topology.initializers else ANYTHING

    def operands(self) -> list[Interval]:
        return [self.operand(place) for place in range(len(self.node.input))]

    def has(self, place: int) -> bool:
        return place < len(self.node.input) and bool(self.node.input[place])

    def attribute(self, name: str, default: Any) -> Any:
        value = attribute_of(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value


def _of_constant(value: np.ndarray[Any, np.dtype[Any]]) -> Interval:
    if not value.size or value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        return ANYTHING
    return Interval(float(value.min()), float(value.max()))


def _of_relu(node: _NodeRange) -> Interval:
    return node.operand(0).through(lambda value: max(value, 0.0))


def _of_leaky_relu(node: _NodeRange) -> Interval:
    slope = float(node.attribute("alpha", 0.01))
    given = node.operand(0)
    if slope < 0:
        return given if given.is_non_negative else ANYTHING
    return given.through(lambda value: value if value >= 0 else _product(slope, value))


def _of_thresholded_relu(node: _NodeRange) -> Interval:
    is_above_zero = float(node.attribute("alpha", 1.0)) >= 0
    return (_of_relu(node) if is_above_zero else node.operand(0)).hull(ZERO)


def _of_clip(node: _NodeRange) -> Interval:
    # In older operator sets the bounds are attributes.
    given = node.operand(0)
    low = node.operand(1) if node.has(1) else _at(float(node.attribute("min", -math.inf)))
    high = node.operand(2) if node.has(2) else _at(float(node.attribute("max", math.inf)))
    return Interval(min(max(given.low, low.low), high.low), min(max(given.high, low.high), high.high))


def _at(value: float) -> Interval:
    return Interval(value, value)


def _of_odd_saturation(node: _NodeRange) -> Interval:
    return UNIT if node.operand(0).is_non_negative else AROUND_ZERO


def _of_absolute(node: _NodeRange) -> Interval:
    given = node.operand(0)
    return Interval(max(given.low, -given.high, 0.0), max(-given.low, given.high))


def _of_product(node: _NodeRange) -> Interval:
    first, second = node.node.input
    if first == second:
        of_magnitude = _of_absolute(node)
        return of_magnitude * of_magnitude
    return node.operand(0) * node.operand(1)


def _of_quotient(node: _NodeRange) -> Interval:
    divided, by = node.operand(0), node.operand(1)
    return NOT_NEGATIVE if divided.is_non_negative and by.low > 0 else ANYTHING


def _of_power(node: _NodeRange) -> Interval:
    exponent = node.operand(1)
    is_even = exponent.low == exponent.high and exponent.low % 2 == 0
    return NOT_NEGATIVE if is_even or node.operand(0).is_non_negative else ANYTHING


def _of_sum(node: _NodeRange) -> Interval:
    total = ZERO
    for entry in node.operands():
        total += entry
    return total


def _of_mean(node: _NodeRange) -> Interval:
    return _hull_of(node.operands())


def _of_maximum(node: _NodeRange) -> Interval:
    given = node.operands()
    return Interval(max(entry.low for entry in given), max(entry.high for entry in given))


def _of_minimum(node: _NodeRange) -> Interval:
    given = node.operands()
    return Interval(min(entry.low for entry in given), min(entry.high for entry in given))


def _of_choice(node: _NodeRange) -> Interval:
    return node.operand(1).hull(node.operand(2))


def _of_average_pool(node: _NodeRange) -> Interval:
    given = node.operand(0)
    return given.hull(ZERO) if node.attribute("count_include_pad", 0) else given


def _of_pad(node: _NodeRange) -> Interval:
    if node.attribute("mode", "constant") != "constant":
        return node.operand(0)
    value = float(node.attribute("value", 0.0))
    filled = node.operand(2) if node.has(2) else _at(value)
    return node.operand(0).hull(filled)


def _of_resize(node: _NodeRange) -> Interval:
    if node.attribute("mode", "nearest") not in ("nearest", "linear"):
        return ANYTHING  # a cubic kernel overshoots
    outside = float(node.attribute("extrapolation_value", 0.0))
    is_cropped = node.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return node.operand(0).hull(_at(outside)) if is_cropped else node.operand(0)


def _of_grid_sample(node: _NodeRange) -> Interval:
    if node.attribute("mode", "linear") in ("bicubic", "cubic"):
        return ANYTHING
    return node.operand(0).hull(ZERO)


def _of_cast(node: _NodeRange) -> Interval:
    kind = int(node.attribute("to", TensorProto.UNDEFINED))
    # Integers wrap around, and FP16 is not reached here: lowering writes its own casts.
    return node.operand(0) if kind in _FLOATS else _UNSIGNED.get(kind, ANYTHING)


def _hull_of(intervals: list[Interval]) -> Interval:
    joined = intervals[0]
    for entry in intervals[1:]:
        joined = joined.hull(entry)
    return joined


_RULES: Mapping[str, Callable[[_NodeRange], Interval]] = {
    "Abs": _of_absolute,
    "Add": _of_sum,
    "AveragePool": _of_average_pool,
    "Cast": _of_cast,
    "Clip": _of_clip,
    "Concat": _of_mean,
    "Div": _of_quotient,
    "Erf": _of_odd_saturation,
    "GridSample": _of_grid_sample,
    "LeakyRelu": _of_leaky_relu,
    "Max": _of_maximum,
    "Mean": _of_mean,
    "Min": _of_minimum,
    "Mul": _of_product,
    "Neg": lambda node: -node.operand(0),
    "Pad": _of_pad,
    "Pow": _of_power,
    "Relu": _of_relu,
    "Resize": _of_resize,
    "Softsign": _of_odd_saturation,
    "Sub": lambda node: node.operand(0) + -node.operand(1),
    "Sum": _of_sum,
    "Tanh": _of_odd_saturation,
    "ThresholdedRelu": _of_thresholded_relu,
    "Upsample": _of_resize,
    "Where": _of_choice,
}
