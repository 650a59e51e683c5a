"""The torch call that computes an ONNX operator, for the operators that torch2trt converts faithfully.

Torch functions are looked up when they are called, because torch2trt replaces them while it converts.
"""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from qsens.engines.torch2trt import operators as weighted
from qsens.engines.torch2trt import shape_operators as shapes
from qsens.engines.torch2trt.shape_operators import NodeView

_SPATIAL_RANKS = (1, 2, 3)
Operation = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
_REFUSED: Mapping[str, str] = {
    "DepthToSpace": "torch2trt has no converter for pixel shuffle and would take its output for a constant",
    "SpaceToDepth": "torch2trt has no converter for pixel unshuffle and would take its output for a constant",
    "Erf": "torch2trt has no converter for erf; it computes GELU by its tanh approximation only",
    "Softplus": "torch2trt ignores the slope and the threshold of softplus",
}


def convolution(view: NodeView) -> Operation:
    """`Conv` of one to three spatial axes, padded alike at both ends."""
    rank = _spatial_rank(view)
    before, after = _pads(view, rank)
    if before != after:
        raise view.refusal(f"it pads {before} before and {after} after, torch2trt pads both ends alike")
    strides, dilations = _per_axis(view, "strides", rank), _per_axis(view, "dilations", rank)
    groups, name = int(view.attributes.get("group", 1)), f"conv{rank}d"

    def run(data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return getattr(functional, name)(data, weight, bias, strides, before, dilations, groups)

    return run


def transposed_convolution(view: NodeView) -> Operation:
    """`ConvTranspose`; a shorter pad at the end is torch's output padding."""
    if "output_shape" in view.attributes:
        raise view.refusal("it states output_shape", "export it with output_padding instead")
    rank = _spatial_rank(view)
    before, after = _pads(view, rank)
    stated = view.attributes.get("output_padding", [0] * rank)
    extra = tuple(int(grown) + start - end for grown, start, end in zip(stated, before, after, strict=True))
    strides, dilations = _per_axis(view, "strides", rank), _per_axis(view, "dilations", rank)
    if any(not 0 <= more < max(step, gap) for more, step, gap in zip(extra, strides, dilations, strict=True)):
        raise view.refusal(f"its output is padded by {extra}, torch needs 0 to below the stride {strides}")
    groups, name = int(view.attributes.get("group", 1)), f"conv_transpose{rank}d"

    def run(data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return getattr(functional, name)(data, weight, bias, strides, before, extra, groups, dilations)

    return run


def matrix_product(view: NodeView) -> Operation:
    """`MatMul`: a linear map where the second operand is a constant matrix, else a product of activations."""
    if view.is_constant(1) and view.rank(1) == 2:
        return lambda data, weight: functional.linear(data, weight.t().contiguous())
    if view.is_constant(0) or view.is_constant(1) or view.rank(0) != view.rank(1):
        raise view.refusal("TensorRT multiplies activations of one rank only")
    return lambda first, second: torch.matmul(first, second)


def linear(view: NodeView) -> Operation:
    """`Gemm` with a constant matrix and a bias vector, as a convolution of single pixels.

    TensorRT quantizes the weights of a convolution in every version; the layer that torch2trt makes of a
    linear map is gone from TensorRT 10 or takes its weights for an activation.
    """
    view.refuse_attributes({"alpha": (1.0,), "beta": (1.0,), "transA": (0,)})
    is_transposed = bool(view.attributes.get("transB", 0))
    rows, columns = view.constant(1).shape[:: 1 if is_transposed else -1]
    if view.has(2) and view.constant(2).size != rows:
        raise view.refusal(f"its bias has {view.constant(2).size} values for {rows} outputs")

    def run(data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        matrix = weight if is_transposed else weight.t().contiguous()
        kernel = matrix.reshape((rows, columns, 1, 1))
        vector = None if bias is None else bias.reshape((rows,))
        return functional.conv2d(data.reshape((-1, columns, 1, 1)), kernel, vector).reshape((-1, rows))

    return run


def max_pool(view: NodeView) -> Operation:
    """`MaxPool`; torch2trt ignores dilation, so a dilated one is refused."""
    kernel, strides, pads, rank = _window(view)
    if any(gap != 1 for gap in _per_axis(view, "dilations", rank)):
        raise view.refusal("torch2trt ignores the dilation of a pooling")
    return lambda data: getattr(functional, f"max_pool{rank}d")(data, kernel, strides, pads)


def average_pool(view: NodeView) -> Operation:
    """`AveragePool`."""
    kernel, strides, pads, rank = _window(view)
    counts_pads = bool(view.attributes.get("count_include_pad", 0))
    name = f"avg_pool{rank}d"
    return lambda data: getattr(functional, name)(data, kernel, strides, pads, False, counts_pads)  # noqa: FBT003


def _window(view: NodeView) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Kernel, strides, pads and number of spatial axes of a pooling."""
    view.refuse_attributes({"ceil_mode": (0,)})
    if len(view.outputs) > 1 and view.outputs[1]:
        raise view.refusal("it also returns indices")
    kernel = tuple(int(side) for side in view.attributes["kernel_shape"])
    before, after = _pads(view, len(kernel))
    if before != after or len(kernel) not in _SPATIAL_RANKS:
        raise view.refusal(f"it pools {kernel} with pads {before} before and {after} after")
    return kernel, _per_axis(view, "strides", len(kernel)), before, len(kernel)


def _spatial_rank(view: NodeView) -> int:
    rank = view.rank(1) - 2
    if rank not in _SPATIAL_RANKS:
        raise view.refusal(f"it has {rank} spatial axes")
    if not view.is_constant(1) or (view.has(2) and not view.is_constant(2)):
        raise view.refusal("its weights are computed from the inputs")
    return rank


def _pads(view: NodeView, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    view.refuse_attributes({"auto_pad": ("NOTSET", "VALID")})
    pads = tuple(int(value) for value in view.attributes.get("pads", [0] * (2 * rank)))
    return pads[:rank], pads[rank:]


def _per_axis(view: NodeView, attribute: str, rank: int) -> tuple[int, ...]:
    return tuple(int(value) for value in view.attributes.get(attribute, [1] * rank))


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
