"""Weighted and pooling nodes as torch calls that torch2trt converts: convolutions, linear maps, pooling.

Torch functions are looked up when they are called, because torch2trt replaces them while it converts.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from qsens.backends.onnx_module_nodes import NodeView

Operation = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
_SPATIAL_RANKS = (1, 2, 3)


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
