"""Nodes rewritten for an older ONNX operator set, one rule an operator; what has no rule is refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qsens.core.errors import BuildError
from qsens.graph.editable_graph import attribute_of
from qsens.graph.names import subgraphs
from qsens.graph.topology import Topology, same_signature, schema_of

Values = np.ndarray[Any, np.dtype[Any]]
Nodes = list[onnx.NodeProto]


class Downgrade:
    """Rewrites nodes of `topology` from operator set `own` to `target`; collects the constants they need."""

    def __init__(self, topology: Topology, own: int, target: int) -> None:
        self.topology = topology
        self.own = own
        self.target = target
        self.constants: list[onnx.TensorProto] = []

    def rewritten(self, node: onnx.NodeProto) -> Nodes:
        """The same computation in the older set; the last node keeps name and outputs.

        Raises:
            BuildError: naming the node, its operator and why it cannot be written.
        """
        for graph in subgraphs(node):
            for inner in graph.node:
                if self.rewritten(inner) != [inner]:
                    raise self.refusal(inner, f"it is inside a branch of {node.name!r}")
        schema = schema_of(node, self.own)
        if schema is None or schema.since_version <= self.target:
            return [node]
        rule = RULES.get(node.op_type)
        if rule is None and not same_signature(node, self.own, self.target):
            raise self.refusal(node, "the operator is newer, or has changed since")
        pieces = [node] if rule is None else rule(node, self)
        for piece in pieces:
            # The checker misses what a subgraph reads from around it; the nodes inside were checked above.
            if not any(subgraphs(piece)):
                self._check(piece, node)
        return pieces

    def _check(self, piece: onnx.NodeProto, node: onnx.NodeProto) -> None:
        context = onnx.checker.C.CheckerContext()
        context.ir_version = 8
        context.opset_imports = {"": self.target}
        try:
            onnx.checker.check_node(piece, context)
        except onnx.checker.ValidationError as error:
            raise self.refusal(node, str(error).strip().splitlines()[0]) from error

    def refusal(self, node: onnx.NodeProto, reason: str) -> BuildError:
        """The error for a node that cannot be written."""
        return BuildError(
            f"node {node.name!r} ({node.op_type}) cannot be written in ONNX operator set {self.target}: "
            f"{reason}",
            f"export the generator with opset_version={self.target}, or ship it for a newer runtime",
        )

    def constant(self, node: onnx.NodeProto, part: str, value: Values) -> str:
        """Add an initializer that belongs to `node` and return its name."""
        name = self.topology.names.made(node.name, part, "/")
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def fixed(self, node: onnx.NodeProto, place: int) -> Values | None:
        """The constant at an input, `None` where the input is absent.

        Raises:
            BuildError: if the input is computed.
        """
        name = node.input[place] if len(node.input) > place else ""
        if not name:
            return None
        if name not in self.topology.initializers:
            raise self.refusal(node, f"its input {place} is computed")
        return self.topology.constant(name)

    def shape(self, node: onnx.NodeProto) -> tuple[int | None, ...]:
        """Shape of the first input.

        Raises:
            BuildError: if not even the number of axes is known.
        """
        shape = self.topology.shapes.get(node.input[0])
        if shape is None:
            raise self.refusal(node, "the shape of its input is not known")
        return shape


def _twin(
    node: onnx.NodeProto, inputs: Sequence[str], *, without: Sequence[str] = (), **attributes: Any
) -> Nodes:
    """The node with other inputs and attributes."""
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    twin.input[:] = inputs
    kept = [entry for entry in node.attribute if entry.name not in {*without, *attributes}]
    del twin.attribute[:]
    twin.attribute.extend(kept)
    twin.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return [twin]


def _reduce(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    axes = to.fixed(node, 1)
    if axes is not None and axes.size:
        return _twin(node, node.input[:1], without=["noop_with_empty_axes"], axes=axes.tolist())
    if attribute_of(node, "noop_with_empty_axes", 0):
        raise to.refusal(node, "it reduces no axis")
    return _twin(node, node.input[:1], without=["noop_with_empty_axes"])


def _split(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if len(node.input) > 1 and node.input[1]:
        return _twin(node, node.input, without=["num_outputs"])
    side = to.shape(node)[int(attribute_of(node, "axis", 0))]
    if side is None:
        raise to.refusal(node, "the size of the axis that it splits is not known")
    # As `num_outputs` has it: equal parts, and the last one takes what is left.
    chunk = -(-side // len(node.output))
    sizes = [min(chunk, side - start) for start in range(0, side, chunk)]
    name = to.constant(node, "sizes", np.array(sizes, np.int64))
    return _twin(node, [node.input[0], name], without=["num_outputs"])


def _pad(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if attribute_of(node, "mode", b"constant") == b"wrap":
        raise to.refusal(node, "its mode is 'wrap'")
    axes = to.fixed(node, 3)
    if axes is None:
        return [node]
    pads = to.fixed(node, 1)
    assert pads is not None, "a Pad without pads is not valid ONNX"
    rank, count = len(to.shape(node)), len(axes)
    full = np.zeros(2 * rank, np.int64)
    for place, axis in enumerate(axes % rank):
        full[axis], full[rank + axis] = pads[place], pads[count + place]
    name = to.constant(node, "pads", full)
    return _twin(node, [node.input[0], name, *node.input[2:3]])


def _resize(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if attribute_of(node, "antialias", 0):
        raise to.refusal(node, "it filters against aliasing")
    if attribute_of(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise to.refusal(node, "it keeps the aspect ratio")
    if attribute_of(node, "coordinate_transformation_mode", b"half_pixel") == b"half_pixel_symmetric":
        raise to.refusal(node, "its coordinates are 'half_pixel_symmetric'")
    added = ["antialias", "keep_aspect_ratio_policy", "axes"]
    axes = attribute_of(node, "axes", [])
    if not axes:
        return _twin(node, node.input, without=added)
    shape = to.shape(node)
    scales, sizes = to.fixed(node, 2), to.fixed(node, 3)
    if scales is not None and scales.size:
        full = np.ones(len(shape), np.float32)
        full[list(axes)] = scales
        return _twin(node, [*node.input[:2], to.constant(node, "scales", full)], without=added)
    raise to.refusal(node, f"it resizes some axes only, to sizes {None if sizes is None else sizes.tolist()}")


def _pool(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if any(side != 1 for side in attribute_of(node, "dilations", [])):
        raise to.refusal(node, "it is dilated")
    if node.op_type == "LpPool" and attribute_of(node, "ceil_mode", 0):
        raise to.refusal(node, "it rounds its size up")
    without = ["dilations"] + (["ceil_mode"] if node.op_type == "LpPool" else [])
    return _twin(node, node.input, without=without)


def _cast(node: onnx.NodeProto, _: Downgrade) -> Nodes:
    # Both attributes speak of types with eight bits only, which the older sets do not have.
    return _twin(node, node.input, without=["saturate", "round_mode"])


_GRID_MODES = {b"linear": "bilinear", b"cubic": "bicubic", b"nearest": "nearest"}


def _grid_sample(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if to.target >= 20:
        return [node]
    if len(to.shape(node)) != 4:
        raise to.refusal(node, "it samples volumes")
    return _twin(node, node.input, mode=_GRID_MODES[attribute_of(node, "mode", b"linear")])


def _scatter(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if attribute_of(node, "reduction", b"none") in (b"max", b"min"):
        raise to.refusal(node, "it reduces by maximum or minimum")
    return [node]


def _space_to_depth(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if attribute_of(node, "mode", b"DCR") != b"DCR":
        raise to.refusal(node, "its mode is 'CRD'")
    return _twin(node, node.input, without=["mode"])


class _Pieces:
    """Several nodes that stand for one; each is named after it."""

    def __init__(self, node: onnx.NodeProto, to: Downgrade) -> None:
        self.node = node
        self.to = to
        self.made: Nodes = []

    def add(self, operator: str, inputs: Sequence[str], part: str, **attributes: Any) -> str:
        names = self.to.topology.names
        output = names.made(self.node.output[0], part, "/")
        name = names.made(self.node.name, part, "/")
        self.made.append(helper.make_node(operator, inputs, [output], name, **attributes))
        return output

    def number(self, part: str, value: float) -> str:
        return self.to.constant(self.node, part, np.array(value, np.float32))

    def last(self, operator: str, inputs: Sequence[str]) -> Nodes:
        self.made.append(helper.make_node(operator, inputs, list(self.node.output[:1]), self.node.name))
        return self.made


def _gelu(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    pieces, x = _Pieces(node, to), node.input[0]
    half, one = pieces.number("half", 0.5), pieces.number("one", 1.0)
    if attribute_of(node, "approximate", b"none") == b"tanh":
        square = pieces.add("Mul", [x, x], "square")
        weighed = pieces.add("Mul", [square, pieces.number("cubic", 0.044715)], "weighed")
        factor = pieces.add("Add", [weighed, one], "factor")
        bent = pieces.add("Mul", [x, factor], "bent")
        scaled = pieces.add("Mul", [bent, pieces.number("scale", math.sqrt(2 / math.pi))], "scaled")
        curve = pieces.add("Tanh", [scaled], "curve")
    else:
        scaled = pieces.add("Mul", [x, pieces.number("scale", math.sqrt(0.5))], "scaled")
        curve = pieces.add("Erf", [scaled], "curve")
    raised = pieces.add("Add", [curve, one], "raised")
    halved = pieces.add("Mul", [raised, half], "halved")
    return pieces.last("Mul", [x, halved])


def _mish(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    if to.target >= 18:
        return [node]
    pieces, x = _Pieces(node, to), node.input[0]
    curve = pieces.add("Tanh", [pieces.add("Softplus", [x], "softplus")], "curve")
    return pieces.last("Mul", [x, curve])


def _swish(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    pieces, x = _Pieces(node, to), node.input[0]
    alpha = float(attribute_of(node, "alpha", 1.0))
    scaled = x if alpha == 1.0 else pieces.add("Mul", [x, pieces.number("alpha", alpha)], "scaled")
    return pieces.last("Mul", [x, pieces.add("Sigmoid", [scaled], "gate")])


def _group_norm(node: onnx.NodeProto, to: Downgrade) -> Nodes:
    """Instance normalisation of the groups, then scale and bias for each channel."""
    pieces, x = _Pieces(node, to), node.input[0]
    shape, groups = to.shape(node), int(attribute_of(node, "num_groups", 1))
    scale, bias = to.fixed(node, 1), to.fixed(node, 2)
    channels = shape[1]
    if channels is None or scale is None or bias is None:
        raise to.refusal(node, "its number of channels is not known")
    grouped_shape = to.constant(node, "grouped_shape", np.array([0, groups, -1], np.int64))
    whole_shape = pieces.add("Shape", [x], "shape")
    grouped = pieces.add("Reshape", [x, grouped_shape], "grouped")
    ones = to.constant(node, "ones", np.ones(groups, np.float32))
    zeros = to.constant(node, "zeros", np.zeros(groups, np.float32))
    epsilon = float(attribute_of(node, "epsilon", 1e-5))
    normal = pieces.add("InstanceNormalization", [grouped, ones, zeros], "normal", epsilon=epsilon)
    whole = pieces.add("Reshape", [normal, whole_shape], "whole")
    parts = [
        to.constant(node, part, _for_channels(value, channels, len(shape)))
        for part, value in (("scale", scale), ("bias", bias))
    ]
    return pieces.last("Add", [pieces.add("Mul", [whole, parts[0]], "scaled"), parts[1]])


def _for_channels(value: Values, channels: int, rank: int) -> Values:
    """One value a channel, shaped to broadcast; before operator set 21 there was one a group."""
    each = np.repeat(value, channels // value.size).astype(np.float32)
    return each.reshape(channels, *([1] * (rank - 2)))


RULES: Mapping[str, Callable[[onnx.NodeProto, Downgrade], Nodes]] = {
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"), _reduce
    ),
    **dict.fromkeys(("ReduceMin", "ReduceProd", "ReduceSumSquare"), _reduce),
    "AveragePool": _pool,
    "Cast": _cast,
    "Gelu": _gelu,
    "GridSample": _grid_sample,
    "GroupNormalization": _group_norm,
    "LpPool": _pool,
    "Mish": _mish,
    "Pad": _pad,
    "Resize": _resize,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Swish": _swish,
}
