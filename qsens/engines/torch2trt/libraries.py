"""TensorRT and torch2trt, loaded when asked for and probed; our converters where torch2trt's are wrong."""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from qsens.core.errors import PluginError, install_hint
from qsens.device.cuda_memory import driver_problem
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_module import features_of, import_tensorrt

INSTALL_HINT = (
    "install torch2trt from its git checkout beside TensorRT 8 or 10, without build isolation "
    "(it is not on PyPI under this name; torch2trt-unofficial is another, older program)"
)
_NEEDED = ("ConversionContext", "tensorrt_converter", "get_arg")
_KEYWORDS = frozenset({"network", "torch2trt_kwargs", "builder_config"})
_SPATIAL_RANKS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Libraries:
    """The two modules; `has_layer_metadata`: layers of a network can carry a note (TensorRT 8.6)."""

    trt: Any
    torch2trt: Any
    has_layer_metadata: bool


def load_libraries() -> Libraries:
    """Import TensorRT, then torch2trt.

    Raises:
        PluginError: saying which is missing, too old or too new, and what to do.
    """
    if find_spec("torch") is None:
        raise PluginError("backend torch2trt needs torch", install_hint("torch"))
    try:
        trt = import_tensorrt()
    except DeviceError as error:
        raise PluginError(error.message, error.hint) from error
    features = features_of(trt)
    # torch2trt dies while it is imported beside TensorRT 11, so this comes first.
    if not features.has_weak_typing:
        raise PluginError(
            f"torch2trt ends at TensorRT 10, this is {trt.__version__}: "
            "precisions of single layers can no longer be set",
            "use backend tensorrt",
        )
    return Libraries(trt, _import_torch2trt(), features.has_layer_metadata)


def _import_torch2trt() -> Any:
    if find_spec("torch2trt") is None:
        raise PluginError("torch2trt is not installed", INSTALL_HINT)
    try:
        module = importlib.import_module("torch2trt")
    except Exception as error:  # it runs code of its own against TensorRT while it is imported
        raise PluginError(
            f"torch2trt is installed but cannot be imported: {type(error).__name__}: {error}", INSTALL_HINT
        ) from error
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if not missing:
        missing = sorted(_KEYWORDS - inspect.signature(module.ConversionContext).parameters.keys())
    if missing:
        raise PluginError(f"this torch2trt is too old: it has no {', '.join(missing)}", INSTALL_HINT)
    return module


def problem() -> str | None:
    """The reason that this machine cannot build and run engines with torch2trt; `None` where it can."""
    for name in ("tensorrt", "torch2trt"):
        if find_spec(name) is None:
            return f"{name} is not installed" + (f" ({INSTALL_HINT})" if name == "torch2trt" else "")
    try:
        load_libraries()
    except PluginError as error:
        return f"{error.message} ({error.hint})"
    return driver_problem()


def register_converters(libraries: Libraries) -> None:
    """Put our converters in the place of torch2trt's, for the whole process.

    torch2trt takes the input channels of a transposed convolution for its output channels and ignores output
    padding; it pads with zeros whatever the mode, through a function that TensorRT 10 no longer has. None of
    this it reports. Errors of our converters are `NotImplementedError`, with the reason.
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


@dataclass(frozen=True)
class _Geometry:
    """A transposed convolution along its spatial axes; `after` is the padding at the end."""

    strides: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def of_call(cls, context: Any, get_arg: Any, rank: int) -> "_Geometry":
        """TensorRT's form of torch's arguments.

        TensorRT's output has (in - 1) * stride + dilation * (kernel - 1) + 1 - before - after elements
        along an axis, torch's the same with the padding at both ends and output_padding more: a shorter
        padding at the end is output padding.
        """
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
        return cls(strides, pads, after, dilations)

    def with_flat_axis(self) -> "_Geometry":
        """TensorRT knows two and three spatial axes: one axis gets a second of size one."""
        return _Geometry((*self.strides, 1), (*self.before, 0), (*self.after, 0), (*self.dilations, 1))


def _convert_transposed_convolution(context: Any, get_arg: Any) -> None:
    """Deconvolution of (N, C, ...) data."""
    data = get_arg(context, "input", pos=0, default=None)
    weight = get_arg(context, "weight", pos=1, default=None)
    bias = get_arg(context, "bias", pos=2, default=None)
    groups = int(get_arg(context, "groups", pos=6, default=1))
    geometry = _Geometry.of_call(context, get_arg, weight.dim() - 2)
    source, kernel = data._trt, _array(weight)
    is_flat = weight.dim() == 3
    if is_flat:
        source, kernel = _reshaped(context.network, source, (0, 0, 0, 1)), kernel[..., None]
        geometry = geometry.with_flat_axis()
    layer = context.network.add_deconvolution_nd(
        input=source,
        num_output_maps=int(kernel.shape[1]) * groups,
        kernel_shape=tuple(kernel.shape[2:]),
        kernel=kernel,
        **({} if bias is None else {"bias": _array(bias)}),
    )
    if layer is None:
        raise NotImplementedError(f"TensorRT refuses weights of shape {kernel.shape}")
    _set_geometry(layer, geometry)
    layer.num_groups = groups
    output = layer.get_output(0)
    context.method_return._trt = _reshaped(context.network, output, (0, 0, 0)) if is_flat else output


def _set_geometry(layer: Any, geometry: _Geometry) -> None:
    layer.stride_nd = geometry.strides
    layer.pre_padding = geometry.before
    layer.post_padding = geometry.after
    if max(geometry.dilations) > 1:
        if not hasattr(layer, "dilation_nd"):
            raise NotImplementedError(
                f"this TensorRT cannot dilate a deconvolution, this one by {geometry.dilations}"
            )
        layer.dilation_nd = geometry.dilations


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


def _reshaped(network: Any, tensor: Any, shape: tuple[int, ...]) -> Any:
    """A shuffle; a 0 keeps that side."""
    layer = network.add_shuffle(tensor)
    layer.reshape_dims = shape
    return layer.get_output(0)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()


def main_layer(layers: Sequence[Any]) -> Any:
    """The layer that computes a node: its convolution where it has one, else the last that makes floats."""
    convolutions = [layer for layer in layers if layer.type.name in ("CONVOLUTION", "DECONVOLUTION")]
    if convolutions:
        return convolutions[0]
    # Shapes of reshapes are computed by layers of integers, some of them added last.
    return next((layer for layer in reversed(layers) if float_outputs(layer)), layers[-1])


def float_outputs(layer: Any) -> list[int]:
    """Places of the outputs that hold floats."""
    return [
        place for place in range(layer.num_outputs) if layer.get_output(place).dtype.name in ("FLOAT", "HALF")
    ]
