"""Converters of our own for what torch2trt silently gets wrong: transposed convolutions and padding.

torch2trt takes the input channels of a transposed convolution for its output channels and ignores output
padding; it pads with zeros whatever the mode, through a function that TensorRT 10 no longer has.
"""

from collections.abc import Sequence
from typing import Any

from qsens.backends.torch2trt_libraries import Libraries

_SPATIAL_RANKS = (1, 2, 3)


def register_converters(libraries: Libraries) -> None:
    """Put our converters in the place of torch2trt's, for the whole process.

    Their errors are `NotImplementedError`, with the reason.
    """
    get_arg = libraries.torch2trt.get_arg

    def transposed_convolution(context: Any) -> None:
        _convert_transposed_convolution(context, get_arg)

    def padding(context: Any) -> None:
        _convert_padding(context, get_arg)

    for rank in _SPATIAL_RANKS:
        name = f"torch.nn.functional.conv_transpose{rank}d"
        libraries.torch2trt.tensorrt_converter(name)(transposed_convolution)
    libraries.torch2trt.tensorrt_converter("torch.nn.functional.pad")(padding)


def _convert_transposed_convolution(context: Any, get_arg: Any) -> None:
    """Deconvolution of (N, C, ...) data.

    TensorRT's output has (in - 1) * stride + dilation * (kernel - 1) + 1 - pre - post elements along an
    axis, torch's has output_padding - padding more than - pre: a shorter pad at the end is output padding.
    """
    data = get_arg(context, "input", pos=0, default=None)
    weight = get_arg(context, "weight", pos=1, default=None)
    bias = get_arg(context, "bias", pos=2, default=None)
    groups = int(get_arg(context, "groups", pos=6, default=1))
    rank = weight.dim() - 2
    strides, pads, extra, dilations = (
        _per_axis(get_arg(context, name, pos=place, default=default), rank)
        for name, place, default in (
            ("stride", 3, 1),
            ("padding", 4, 0),
            ("output_padding", 5, 0),
            ("dilation", 7, 1),
        )
    )
    after = tuple(pad - more for pad, more in zip(pads, extra, strict=True))
    if min(after) < 0:
        raise NotImplementedError(
            f"output padding {extra} is more than the padding {pads}: TensorRT cannot grow an output"
        )
    network = context.network
    flat = rank == 1
    source = _reshaped(network, data._trt, (0, 0, 0, 1)) if flat else data._trt
    values = {"kernel": _array(weight)}
    if flat:
        values["kernel"] = values["kernel"][..., None]
    if bias is not None:
        values["bias"] = _array(bias)
    layer = network.add_deconvolution_nd(
        input=source,
        num_output_maps=int(weight.shape[1]) * groups,
        kernel_shape=_flat_sides(tuple(weight.shape[2:]), 1, flat=flat),
        **values,
    )
    if layer is None:
        raise NotImplementedError(f"TensorRT refuses weights of shape {tuple(weight.shape)}")
    if max(dilations) > 1 and not hasattr(layer, "dilation_nd"):
        raise NotImplementedError(f"this TensorRT cannot dilate a deconvolution, this one by {dilations}")
    layer.stride_nd = _flat_sides(strides, 1, flat=flat)
    layer.pre_padding = _flat_sides(pads, 0, flat=flat)
    layer.post_padding = _flat_sides(after, 0, flat=flat)
    if max(dilations) > 1:
        layer.dilation_nd = _flat_sides(dilations, 1, flat=flat)
    layer.num_groups = groups
    output = layer.get_output(0)
    context.method_return._trt = _reshaped(network, output, (0, 0, 0)) if flat else output


def _convert_padding(context: Any, get_arg: Any) -> None:
    """Zeros around height and width; with torch2trt's plugin a reflection never comes here."""
    mode = get_arg(context, "mode", pos=2, default="constant")
    value = get_arg(context, "value", pos=3, default=None)
    sides = get_arg(context, "pad", pos=1, default=())
    if mode != "constant" or value not in (None, 0) or len(sides) != 4:
        raise NotImplementedError(
            f"torch2trt would pad with zeros instead of {mode} (its plugin library, which knows "
            "reflection of images, is not loaded)"
        )
    left, right, top, bottom = (int(side) for side in sides)
    data = get_arg(context, "input", pos=0, default=None)
    layer = context.network.add_padding_nd(data._trt, (top, left), (bottom, right))
    context.method_return._trt = layer.get_output(0)


def _per_axis(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    sides = tuple(value) if isinstance(value, Sequence) else (value,)
    return tuple(int(side) for side in (sides * rank if len(sides) == 1 else sides))


def _flat_sides(sides: tuple[int, ...], filler: int, *, flat: bool) -> tuple[int, ...]:
    """TensorRT knows two and three spatial axes: one axis gets a second of size one."""
    return (*sides, filler) if flat else sides


def _reshaped(network: Any, tensor: Any, shape: tuple[int, ...]) -> Any:
    """A shuffle; a 0 keeps that side."""
    layer = network.add_shuffle(tensor)
    layer.reshape_dims = shape
    return layer.get_output(0)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()
