"""Nodes that move values and do not compute: reshapes, slices, concatenation, resizing, padding.

Target shapes come from shape inference, never from a tensor while it runs: only the batch axis stays free.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch.nn import functional

from qsens.core.errors import BuildError
from qsens.graph.topology import Topology

OTHER_BACKEND = "use backend tensorrt, which takes the ONNX graph itself"
Values = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]
Operation = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
_LINEAR_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")


@dataclass(frozen=True, eq=False)
class NodeView:
    """Read-only view of a node of a prepared graph; `inputs` and `outputs` are tensor names.

    An omitted optional input is the empty name.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    topology: Topology = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, node: onnx.NodeProto, topology: Topology) -> "NodeView":
        """The view of `node`."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        return cls(
            node.name, node.op_type, tuple(node.input), tuple(node.output), topology, _decoded(attributes)
        )

    def refusal(self, reason: str, hint: str = OTHER_BACKEND) -> BuildError:
        """The error that says why this node cannot be expressed."""
        return BuildError(
            f"backend torch2trt cannot express node {self.name!r} ({self.operator}): {reason}", hint
        )

    def has(self, place: int) -> bool:
        """Whether the optional input is given."""
        return len(self.inputs) > place and bool(self.inputs[place])

    def is_constant(self, place: int) -> bool:
        """Whether the input is given and does not depend on the graph's inputs."""
        return self.has(place) and self.inputs[place] in self.topology.initializers

    def constant(self, place: int) -> Values:
        """Value of a constant input. Raises `BuildError` where it is computed from the graph's inputs."""
        if not self.is_constant(place):
            raise self.refusal(f"its input {place} is not constant")
        return self.topology.constant(self.inputs[place])

    def integers(self, place: int, attribute: str) -> list[int] | None:
        """Integers that newer operator sets give as an input and older ones as an attribute."""
        if self.has(place):
            return [int(value) for value in self.constant(place).reshape(-1)]
        found = self.attributes.get(attribute)
        return None if found is None else [int(value) for value in found]

    def shape(self, tensor: str) -> Shape:
        """Inferred shape, `None` for a free side. Raises `BuildError` where even the rank is unknown."""
        if tensor in self.topology.initializers:
            return tuple(self.topology.initializers[tensor].dims)
        if tensor not in self.topology.shapes:
            raise self.refusal(f"the shape of {tensor!r} is unknown before it runs")
        return self.topology.shapes[tensor]

    def rank(self, place: int = 0) -> int:
        """Number of axes of an input."""
        return len(self.shape(self.inputs[place]))

    def axis(self, value: int) -> int:
        """An axis of the first input, counted from the front."""
        return value % self.rank()

    def refuse_attributes(self, usual: Mapping[str, Sequence[Any]]) -> None:
        """Raise `BuildError` for an attribute whose value is none of those listed for it."""
        for attribute, allowed in usual.items():
            value = self.attributes.get(attribute, allowed[0])
            if value not in allowed:
                raise self.refusal(f"{attribute} is {value!r}")


def _decoded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}


def reshape(view: NodeView) -> Operation:
    """`Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`: all are the inferred shape of their output."""
    shape = view.shape(view.outputs[0])
    if shape.count(None) > 1:
        raise view.refusal(f"more than one side of its output {shape} is free")
    target = tuple(-1 if side is None else side for side in shape)
    return lambda data, *_: data.reshape(target)


def transpose(view: NodeView) -> Operation:
    """`Transpose`."""
    order = view.attributes.get("perm", list(reversed(range(view.rank()))))
    axes = tuple(int(axis) for axis in order)
    return lambda data: data.permute(axes)


def concatenate(view: NodeView) -> Operation:
    """`Concat`."""
    axis = view.axis(int(view.attributes["axis"]))
    return lambda *parts: torch.cat(list(parts), axis)


def take_slice(view: NodeView) -> Operation:
    """`Slice` with constant bounds and positive steps."""
    starts, stops = view.integers(1, "starts") or [], view.integers(2, "ends") or []
    axes = view.integers(3, "axes") or list(range(len(starts)))
    steps = view.integers(4, "steps") or [1] * len(starts)
    chosen = [slice(None)] * view.rank()
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        chosen[view.axis(axis)] = _bounds(view, start, stop, view.axis(axis), step)
    picked = tuple(chosen)
    return lambda data, *_: data[picked]


def _bounds(view: NodeView, start: int, stop: int, axis: int, step: int) -> slice:
    """The slice with bounds counted from the front, as torch2trt needs them."""
    side = view.shape(view.inputs[0])[axis]
    if step < 1:
        raise view.refusal(f"it steps by {step}")
    if side is not None:
        return slice(*slice(start, stop, step).indices(side))
    if start < 0 or stop < 0:
        raise view.refusal(f"it counts from the end of axis {axis}, whose size is free")
    return slice(start, None if stop >= 2**31 - 1 else stop, step)


def split(view: NodeView) -> Operation:
    """`Split` into slices whose sizes shape inference knows."""
    axis = view.axis(int(view.attributes.get("axis", 0)))
    picks, start = [], 0
    for output in view.outputs:
        side = view.shape(output)[axis]
        if side is None:
            raise view.refusal(f"the size of {output!r} along axis {axis} is free")
        picks.append((slice(None),) * axis + (slice(start, start + side, 1),))
        start += side
    return lambda data, *_: tuple(data[pick] for pick in picks)


def resize(view: NodeView) -> Operation:
    """`Resize` of the spatial axes by nearest neighbour or linear interpolation."""
    mode = view.attributes.get("mode", "nearest")
    factors = _factors(view)
    view.refuse_attributes({"antialias": (0,), "exclude_outside": (0,)})
    if mode == "nearest":
        _check_nearest(view, factors)
        return lambda data, *_: functional.interpolate(data, scale_factor=factors, mode="nearest")
    position = view.attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode != "linear" or view.rank() not in _LINEAR_MODES:
        raise view.refusal(f"mode {mode!r} of {view.rank()} axes")
    if position not in (*_HALF_PIXEL, "align_corners"):
        raise view.refusal(f"coordinate_transformation_mode is {position!r}")
    name, keeps_corners = _LINEAR_MODES[view.rank()], position == "align_corners"
    return lambda data, *_: functional.interpolate(
        data, scale_factor=factors, mode=name, align_corners=keeps_corners
    )


def _factors(view: NodeView) -> list[float]:
    """Factors of the spatial axes, by which every size comes out as shape inference has it."""
    before, after = view.shape(view.inputs[0]), view.shape(view.outputs[0])
    if before[:2] != after[:2]:
        raise view.refusal("it resizes the batch or the channels")
    if view.has(2):
        factors = [float(value) for value in view.constant(2).reshape(-1)][2:]
    elif None in (*before[2:], *after[2:]):
        raise view.refusal("its sizes are free")
    else:
        factors = [after[axis] / before[axis] for axis in range(2, len(before))]  # type: ignore[operator]
    for old, new, factor in zip(before[2:], after[2:], factors, strict=True):
        if old is not None and new is not None and math.floor(old * factor) != new:
            raise view.refusal(f"{old} times {factor:g} does not come out as {new}")
    return factors


def _check_nearest(view: NodeView, factors: list[float]) -> None:
    """Whole factors pick the same neighbour under every rounding rule; others need torch's own."""
    position = view.attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = view.attributes.get("nearest_mode", "round_prefer_floor")
    if (position, rounding) == ("asymmetric", "floor"):
        return
    is_whole = all(factor >= 1 and factor == int(factor) for factor in factors)
    is_nearest = position in _HALF_PIXEL and rounding.startswith("round_prefer")
    if not is_whole or not is_nearest:
        raise view.refusal(f"nearest by {factors} with {position!r} and {rounding!r}")


def pad(view: NodeView) -> Operation:
    """`Pad` with zeros, or by reflection, of the last two of four axes."""
    mode = view.attributes.get("mode", "constant")
    pads = view.integers(1, "pads") or []
    rank = view.rank()
    if view.has(3):
        raise view.refusal("it names axes")
    if rank != 4 or any(pads[:2]) or any(pads[rank : rank + 2]):
        raise view.refusal("torch2trt pads height and width of images only")
    top, left, bottom, right = pads[2], pads[3], pads[rank + 2], pads[rank + 3]
    sides = (left, right, top, bottom)
    if mode == "reflect":
        # The module and not the function: torch2trt's plugin replaces its forward.
        reflection = torch.nn.ReflectionPad2d(sides)
        return lambda data, *_: reflection(data)
    if mode != "constant" or (view.has(2) and float(view.constant(2)) != 0.0) or min(sides) < 0:
        raise view.refusal(f"torch2trt ignores mode and value of a padding, this one is {mode!r}")
    return lambda data, *_: functional.pad(data, sides)
