"""Which torch call computes an ONNX operator, for the operators that torch2trt converts faithfully.

Torch functions are looked up when they are called, because torch2trt replaces them while it converts.
"""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from qsens.backends import onnx_module_weighted as weighted
from qsens.backends.onnx_module_nodes import NodeView
from qsens.engines.torch2trt import shape_operators as shapes

Operation = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]


def operation_of(view: NodeView) -> Operation:
    """The torch call of a node; it takes the node's operands in order, constants included.

    Raises:
        BuildError: naming node and operator, for one that torch2trt cannot convert or silently gets wrong.
    """
    if view.operator in _REFUSED:
        raise view.refusal(_REFUSED[view.operator])
    if view.operator not in _MAKERS:
        raise view.refusal("no converter for this operator")
    return _MAKERS[view.operator](view)


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[NodeView], Operation]:
    return lambda _: function


def _binary(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[NodeView], Operation]:
    def make(view: NodeView) -> Operation:
        if len(view.inputs) != 2:
            raise view.refusal(f"it has {len(view.inputs)} operands, torch2trt takes two")
        return function

    return make


def _leaky_relu(view: NodeView) -> Operation:
    slope = float(view.attributes.get("alpha", 0.01))
    return lambda data: functional.leaky_relu(data, slope)


def _elu(view: NodeView) -> Operation:
    slope = float(view.attributes.get("alpha", 1.0))
    return lambda data: functional.elu(data, slope)


def _prelu(view: NodeView) -> Operation:
    slopes, shape = view.constant(1), view.shape(view.inputs[0])
    channels = shape[1] if len(shape) > 1 else None
    per_channel = slopes.size == channels and slopes.shape[0] == channels == slopes.size
    if slopes.size != 1 and not per_channel:
        raise view.refusal(f"its slopes of shape {slopes.shape} are not one for each channel")
    return lambda data, weight: functional.prelu(data, weight.reshape(-1))


def _clip(view: NodeView) -> Operation:
    lowest = float(view.constant(1)) if view.has(1) else None
    highest = float(view.constant(2)) if view.has(2) else None
    if lowest is None and highest is None:
        raise view.refusal("it has no bounds")
    return lambda data, *_: torch.clamp(data, min=lowest, max=highest)


def _hard_sigmoid(view: NodeView) -> Operation:
    slope = float(view.attributes.get("alpha", 0.2))
    offset = float(view.attributes.get("beta", 0.5))
    return lambda data: torch.clamp(torch.add(torch.mul(data, slope), offset), min=0.0, max=1.0)


def _gelu(view: NodeView) -> Operation:
    if view.attributes.get("approximate", "none") != "tanh":
        raise view.refusal("torch2trt computes GELU by its tanh approximation only")
    return lambda data: functional.gelu(data, approximate="tanh")


def _softmax(view: NodeView) -> Operation:
    axis = view.axis(int(view.attributes.get("axis", -1)))
    return lambda data: functional.softmax(data, axis)


def _instance_norm(view: NodeView) -> Operation:
    if view.rank() != 4:
        raise view.refusal("torch2trt normalises images only")
    epsilon = float(view.attributes.get("epsilon", 1e-5))
    return lambda data, weight, bias: functional.instance_norm(data, weight=weight, bias=bias, eps=epsilon)


def _layer_norm(view: NodeView) -> Operation:
    axis = view.axis(int(view.attributes.get("axis", -1)))
    sides = [side for side in view.shape(view.inputs[0])[axis:] if side is not None]
    if len(sides) < view.rank() - axis or any(view.outputs[1:]):
        raise view.refusal("it normalises over a free side or returns its statistics")
    epsilon = float(view.attributes.get("epsilon", 1e-5))

    def run(data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return functional.layer_norm(data, sides, weight, bias, epsilon)

    return run


def _reduction(name: str) -> Callable[[NodeView], Operation]:
    def make(view: NodeView) -> Operation:
        axes = view.integers(1, "axes") or list(range(view.rank()))
        chosen = tuple(view.axis(axis) for axis in axes)
        keeps = bool(view.attributes.get("keepdims", 1))
        return lambda data, *_: getattr(torch, name)(data, chosen, keepdim=keeps)

    return make


def _global_average(view: NodeView) -> Operation:
    axes = tuple(range(2, view.rank()))
    return lambda data: torch.mean(data, axes, keepdim=True)


_REFUSED: Mapping[str, str] = {
    "DepthToSpace": "torch2trt has no converter for pixel shuffle and would take its output for a constant",
    "SpaceToDepth": "torch2trt has no converter for pixel unshuffle and would take its output for a constant",
    "Erf": "torch2trt has no converter for erf; it computes GELU by its tanh approximation only",
    "Softplus": "torch2trt ignores the slope and the threshold of softplus",
}

_MAKERS: Mapping[str, Callable[[NodeView], Operation]] = {
    "Abs": _unary(lambda data: torch.abs(data)),
    "Add": _binary(lambda first, second: torch.add(first, second)),
    "AveragePool": weighted.average_pool,
    "Ceil": _unary(lambda data: torch.ceil(data)),
    "Clip": _clip,
    "Concat": shapes.concatenate,
    "Conv": weighted.convolution,
    "ConvTranspose": weighted.transposed_convolution,
    "Cos": _unary(lambda data: torch.cos(data)),
    "Div": _binary(lambda first, second: torch.div(first, second)),
    "Elu": _elu,
    "Exp": _unary(lambda data: torch.exp(data)),
    "Flatten": shapes.reshape,
    "Floor": _unary(lambda data: torch.floor(data)),
    "Gelu": _gelu,
    "Gemm": weighted.linear,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Log": _unary(lambda data: torch.log(data)),
    "MatMul": weighted.matrix_product,
    "Max": _binary(lambda first, second: torch.max(first, second)),
    "MaxPool": weighted.max_pool,
    "Min": _binary(lambda first, second: torch.min(first, second)),
    "Mul": _binary(lambda first, second: torch.mul(first, second)),
    "Neg": _unary(lambda data: torch.neg(data)),
    "PRelu": _prelu,
    "Pad": shapes.pad,
    "Pow": _binary(lambda first, second: torch.pow(first, second)),
    "Reciprocal": _unary(lambda data: torch.reciprocal(data)),
    "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"),
    "Relu": _unary(lambda data: torch.relu(data)),
    "Reshape": shapes.reshape,
    "Resize": shapes.resize,
    "Sigmoid": _unary(lambda data: torch.sigmoid(data)),
    "Sin": _unary(lambda data: torch.sin(data)),
    "Slice": shapes.take_slice,
    "Softmax": _softmax,
    "Softsign": _unary(lambda data: functional.softsign(data)),
    "Split": shapes.split,
    "Sqrt": _unary(lambda data: torch.sqrt(data)),
    "Squeeze": shapes.reshape,
    "Sub": _binary(lambda first, second: torch.sub(first, second)),
    "Tanh": _unary(lambda data: torch.tanh(data)),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.reshape,
}
