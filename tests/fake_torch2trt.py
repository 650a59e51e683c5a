"""TensorRT networks that are filled layer by layer, and a torch2trt that fills them, both in Python.

The TensorRT of `fake_tensorrt` (exactly the names of a version's binding) gets a network that records its
layers and computes their shapes by TensorRT's documented rules. The torch2trt follows the interface of the
real one: functions of torch are replaced while a context is open, each call adds layers, and the tensors of
torch carry the network's in `_trt`. Its converters have the faults of the real ones on purpose; they use
the names of TensorRT's interface only, so they fill a real network as well.
"""

import functools
import importlib
import json
import types

import numpy as np
import torch
from fake_tensorrt import FakeModule, _Builder, _Machine, table

# The tables list a part of what networks of 8.5 and 8.6 have.
_KINDS = (
    *("input", "activation", "elementwise", "concatenation", "shuffle", "constant", "pooling_nd", "unary"),
    *("convolution_nd", "deconvolution_nd", "padding_nd", "resize", "plugin_v2"),
)
_ADDED = {f"add_{kind}" for kind in _KINDS} | {"mark_output"}
_VALUES = (
    *("stride_nd", "padding_nd", "pre_padding", "post_padding", "dilation_nd", "num_groups", "alpha", "axis"),
    *("reshape_dims", "second_transpose", "scales", "resize_mode"),
)
_OF_LAYERS = {name + mark for name in _VALUES for mark in ("", "=")}


def fake_tensorrt_with_networks(version, *, graph=None, without=(), **behaviour):
    """The module of a version; its plans run `graph` (an ONNX model) in ONNX Runtime, in FP32.

    `without` are attributes of layers that this TensorRT lacks; see `fake_tensorrt` for `behaviour`.
    """
    names = table(version)
    module = FakeModule(names, _Machine(**behaviour))
    module.graph = graph
    module.DeviceType = types.SimpleNamespace(GPU="GPU", DLA="DLA")
    for owner in (
        "ActivationType",
        "ElementWiseOperation",
        "PoolingType",
        "ReduceOperation",
        "UnaryOperation",
    ):
        setattr(module, owner, _AnyName(owner))
    allowed = {owner: set(names["classes"][owner]) for owner in names["classes"]}
    allowed["INetworkDefinition"] |= _ADDED
    allowed["ILayer"] |= _OF_LAYERS - {name + mark for name in without for mark in ("", "=")}
    for owner, kind in (
        ("Builder", _NetworkBuilder),
        ("INetworkDefinition", _FilledNetwork),
        ("ILayer", _AddedLayer),
        ("ITensor", _NetworkTensor),
    ):
        setattr(module, owner, module._restricted(owner, kind, allowed[owner]))
    module.InterpolationMode = _AnyName("InterpolationMode")
    return module


class _AnyName:
    """An enumeration whose members are their names."""

    def __init__(self, owner):
        self._owner = owner

    def __getattr__(self, name):
        return f"{self._owner}.{name}"


class _NetworkBuilder(_Builder):
    def build_serialized_network(self, network, config):
        module = self._module
        module.builds.append((network, config))
        if module.machine.build_error:
            module.log(self._logger, "ERROR", module.machine.build_error)
            return None
        shapes = {name: shapes for profile in config._profiles for name, shapes in profile._shapes.items()}
        layers = [_inspected(layer) for layer in network._layers if layer._kind.endswith("CONVOLUTION")]
        text = json.dumps({"shapes": shapes, "layers": layers}).encode()
        return module.IHostMemory(len(text).to_bytes(4, "big") + text + module.graph.SerializeToString())


def _inspected(layer):
    """A convolution as the inspector of TensorRT 8.5 to 10 writes it, in the precision it was given."""
    word = {"INT8": "Int8", "HALF": "FP16", "FLOAT": "FP32"}[layer._precision.name]
    kind = {"INT8": "Int8", "HALF": "Half", "FLOAT": "Float"}[layer._precision.name]
    return {
        "Name": layer._name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Dimensions": [1, 3], "Format/Datatype": f"Row major linear {word} format"}],
        "Outputs": [],
        "Weights": {"Type": kind, "Count": 1},
        "Metadata": layer._metadata,
    }


class _FilledNetwork:
    def __init__(self, flags):
        self._flags, self._layers, self._inputs, self._outputs = flags, [], [], []

    num_layers = property(lambda self: len(self._layers))

    def get_layer(self, index):
        return self._layers[index]

    def add_input(self, name, dtype, shape):
        tensor = self._module.ITensor(lambda: tuple(shape), dtype.name)
        tensor._name = name
        self._inputs.append(tensor)
        return tensor

    def mark_output(self, tensor):
        tensor._is_output = True
        self._outputs.append(tensor)

    def _add(self, kind, inputs, shape, **values):
        layer = self._module.ILayer(kind, inputs, shape, values)
        layer._name = f"(Unnamed Layer* {len(self._layers)}) [{kind}]"
        layer._outputs[0]._name = f"{layer._name}_output"
        self._layers.append(layer)
        return layer

    def add_activation(self, input, type):
        return self._add("ACTIVATION", [input], lambda layer: input.shape, mode=type)

    def add_unary(self, input, op):
        return self._add("UNARY", [input], lambda layer: input.shape, mode=op)

    def add_elementwise(self, first, second, op):
        return self._add("ELEMENTWISE", [first, second], lambda layer: _broadcast(first, second), mode=op)

    def add_concatenation(self, inputs):
        def shape(layer):
            sides = list(inputs[0].shape)
            sides[layer._values["axis"]] = sum(tensor.shape[layer._values["axis"]] for tensor in inputs)
            return tuple(sides)

        return self._add("CONCATENATION", list(inputs), shape)

    def add_shuffle(self, input):
        return self._add("SHUFFLE", [input], functools.partial(_shuffled, input), reshape_dims=None)

    def add_constant(self, shape, weights):
        assert np.asarray(weights).size == np.prod(shape, dtype=int)
        return self._add("CONSTANT", [], lambda layer: tuple(shape))

    def add_resize(self, input):
        def shape(layer):
            factors = layer._values["scales"]
            return tuple(
                side if factor == 1 else int(side * factor)
                for side, factor in zip(input.shape, factors, strict=True)
            )

        return self._add("RESIZE", [input], shape)

    def add_pooling_nd(self, input, type, window_size):
        return self._add(
            "POOLING", [input], functools.partial(_windowed, input, None, window_size), mode=type
        )

    def add_convolution_nd(self, input, num_output_maps, kernel_shape, kernel, bias=None):
        shape = functools.partial(_windowed, input, num_output_maps, kernel_shape)
        return self._add("CONVOLUTION", [input], shape, kernel=kernel, bias=bias)

    def add_deconvolution_nd(self, input, num_output_maps, kernel_shape, kernel, bias=None):
        def shape(layer):
            found = layer._values
            expected = num_output_maps * input.shape[1] * int(np.prod(kernel_shape))
            given = kernel.size * (found.get("num_groups") or 1)
            assert given == expected, f"{given} weights given, {expected} expected"
            assert bias is None or len(bias) == num_output_maps
            before = found.get("pre_padding") or found.get("padding_nd")
            after = found.get("post_padding") or found.get("padding_nd")
            gaps = found.get("dilation_nd") or (1,) * len(kernel_shape)
            sides = zip(input.shape[2:], kernel_shape, found["stride_nd"], before, after, gaps, strict=True)
            return (
                input.shape[0],
                num_output_maps,
                *(
                    (side - 1) * step + gap * (taps - 1) + 1 - start - end
                    for side, taps, step, start, end, gap in sides
                ),
            )

        return self._add("DECONVOLUTION", [input], shape, kernel=kernel, bias=bias)

    def add_padding_nd(self, input, pre_padding, post_padding):
        def shape(layer):
            *outer, height, width = input.shape
            return (
                *outer,
                height + pre_padding[0] + post_padding[0],
                width + pre_padding[1] + post_padding[1],
            )

        return self._add("PADDING", [input], shape)

    def add_plugin_v2(self, inputs, plugin):
        left, right, top, bottom = plugin
        *outer, height, width = inputs[0].shape
        shape = (*outer, height + top + bottom, width + left + right)
        return self._add("PLUGIN_V2", list(inputs), lambda layer: shape)


def _windowed(input, maps, window, layer):
    found = layer._values
    gaps = found.get("dilation_nd") or (1,) * len(window)
    steps, pads = found["stride_nd"], found["padding_nd"]
    sides = zip(input.shape[2:], window, steps, pads, gaps, strict=True)
    return (
        input.shape[0],
        input.shape[1] if maps is None else maps,
        *((side + 2 * pad - gap * (taps - 1) - 1) // step + 1 for side, taps, step, pad, gap in sides),
    )


def _shuffled(input, layer):
    order = layer._values.get("second_transpose")
    if order:
        return tuple(input.shape[axis] for axis in order)
    sides = layer._values["reshape_dims"]
    sides = [input.shape[axis] if side == 0 else side for axis, side in enumerate(sides)]
    if -1 in sides and -1 not in input.shape:
        known = int(np.prod([side for side in sides if side != -1]))
        sides[sides.index(-1)] = int(np.prod(input.shape)) // known
    return tuple(sides)


def _broadcast(first, second):
    assert len(first.shape) == len(second.shape), "TensorRT broadcasts tensors of one rank"
    return tuple(right if left == 1 else left for left, right in zip(first.shape, second.shape, strict=True))


class _AddedLayer:
    def __init__(self, kind, inputs, shape, values):
        self._kind, self._inputs, self._values = kind, inputs, values
        self._outputs = [self._module.ITensor(lambda: shape(self), "FLOAT")]
        self._name = self._metadata = ""
        self._precision, self._types = None, {}

    type = property(lambda self: self._module.LayerType[self._kind])
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    name = property(lambda self: self._name, lambda self, text: setattr(self, "_name", text))
    metadata = property(lambda self: self._metadata, lambda self, text: setattr(self, "_metadata", text))
    precision = property(lambda self: self._precision, lambda self, kind: setattr(self, "_precision", kind))

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def set_output_type(self, index, kind):
        self._types[index] = kind


def _value(name):
    return property(
        lambda self: self._values.get(name), lambda self, value: self._values.__setitem__(name, value)
    )


for _name in _VALUES:
    setattr(_AddedLayer, _name, _value(_name))


class _NetworkTensor:
    def __init__(self, shape, kind):
        self._make_shape, self._kind = shape, kind
        self._name, self._is_output, self._range = "", False, None

    name = property(lambda self: self._name, lambda self, text: setattr(self, "_name", text))
    shape = property(lambda self: self._make_shape())
    dtype = property(lambda self: self._module.DataType[self._kind])
    is_network_output = property(lambda self: self._is_output)

    def set_dynamic_range(self, lowest, highest):
        self._range = (lowest, highest)
        return highest > 0


# torch2trt


def fake_torch2trt(trt, *, has_plugin=False, leaves_out=()):
    """A torch2trt for that TensorRT; `has_plugin`: its library of plugins, which knows reflection, is there.

    `leaves_out` are functions without a converter.
    """
    module = types.ModuleType("torch2trt")
    module.CONVERTERS = {}
    module.get_arg = _get_arg
    module.tensorrt_converter = functools.partial(_register, module.CONVERTERS)
    for names, converter in _CONVERTERS.items():
        for name in names.split():
            if name not in leaves_out:
                module.tensorrt_converter(name)(functools.partial(converter, trt))
    if has_plugin:
        module.tensorrt_converter("torch.nn.ReflectionPad2d.forward")(_convert_reflection)

    def context(network, converters=module.CONVERTERS, torch2trt_kwargs=None, builder_config=None):
        return _Context(network, converters, torch2trt_kwargs, builder_config)

    module.ConversionContext = context
    return module


def _register(converters, name):
    def keep(converter):
        converters[name] = converter
        return converter

    return keep


def _get_arg(context, name, pos, default):
    if name in context.method_kwargs:
        return context.method_kwargs[name]
    return context.method_args[pos] if len(context.method_args) > pos else default


class _Context:
    """While it is open, calls of torch add layers; the outermost call decides."""

    def __init__(self, network, converters, options, config):
        self.network = _NamingNetwork(self, network)
        self.options, self.builder_config = options, config
        self.stack, self._handles, self._restored = [], [], []
        self._converters, self._is_inside = converters, False
        self._names = {module: name for name, module in options["module"].named_modules()}

    def __enter__(self):
        assert self.options["device_types"] == {}, "torch2trt looks devices up by module"
        for name, converter in self._converters.items():
            owner, attribute = _owner(name)
            self._restored.append((owner, attribute, owner.__dict__.get(attribute)))
            setattr(owner, attribute, self._replaced(getattr(owner, attribute), converter))
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(lambda m, _: self.stack.append(m)))
            self._handles.append(module.register_forward_hook(lambda *_: self.stack.pop() and None))
        return self

    def __exit__(self, *_):
        for owner, attribute, before in reversed(self._restored):
            if before is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, before)
        for handle in self._handles:
            handle.remove()

    def _replaced(self, function, converter):
        @functools.wraps(function)
        def call(*args, **kwargs):
            if self._is_inside:
                return function(*args, **kwargs)
            self._is_inside = True
            try:
                self.method_return = function(*args, **kwargs)
                self.method_args, self.method_kwargs = args, kwargs
                converter(self)
                return self.method_return
            finally:
                self._is_inside = False

        return call

    def current_module_name(self):
        return self._names[self.stack[-1]]


def _owner(name):
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise AssertionError(name)


class _NamingNetwork:
    """Names every layer after the module that is running."""

    def __init__(self, context, network):
        self._context, self._network, self._counts = context, network, {}

    def __getattr__(self, name):
        method = getattr(self._network, name)
        if not name.startswith("add_"):
            return method

        def add(*args, **kwargs):
            layer = method(*args, **kwargs)
            if layer is not None and hasattr(layer, "type"):
                path = self._context.current_module_name()
                number = self._counts[path] = self._counts.get(path, -1) + 1
                layer.name = f"{path}:{number}:{layer.type.name}:GPU"
            return layer

        return add


def _trt_of(context, value, ndim):
    """The network's tensor of a value, broadcast to `ndim`; what the network does not know is a constant."""
    network = context.network
    if not isinstance(value, torch.Tensor):
        value = torch.full((1,), float(value))
    if not hasattr(value, "_trt"):
        value._trt = network.add_constant(tuple(value.shape), value.detach().numpy()).get_output(0)
    tensor = value._trt
    if len(tensor.shape) == ndim:
        return tensor
    layer = network.add_shuffle(tensor)
    layer.reshape_dims = (1,) * (ndim - len(tensor.shape)) + tuple(tensor.shape)
    return layer.get_output(0)


def _all_sides(value, rank):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank


def _convert_convolution(trt, context):
    data, weight = (_get_arg(context, name, place, None) for place, name in enumerate(("input", "weight")))
    bias = _get_arg(context, "bias", 2, None)
    rank = weight.dim() - 2
    values = {} if bias is None else {"bias": bias.detach().numpy()}
    sides = {"stride_nd": (3, 1), "padding_nd": (4, 0), "dilation_nd": (5, 1)}
    found = {
        name: _all_sides(_get_arg(context, name[:-3], place, default), rank)
        for name, (place, default) in sides.items()
    }
    kernel, source = weight.detach().numpy(), data._trt
    if rank == 1:
        kernel = kernel[..., None]
        found = {name: (*values, int(name != "padding_nd")) for name, values in found.items()}
        source = _shuffle(context, source, (0, 0, 0, 1))
    layer = context.network.add_convolution_nd(
        input=source, num_output_maps=kernel.shape[0], kernel_shape=kernel.shape[2:], kernel=kernel, **values
    )
    for name, value in found.items():
        setattr(layer, name, value)
    layer.num_groups = _get_arg(context, "groups", 6, 1)
    output = layer.get_output(0)
    context.method_return._trt = _shuffle(context, output, (0, 0, 0)) if rank == 1 else output


def _shuffle(context, tensor, shape):
    layer = context.network.add_shuffle(tensor)
    layer.reshape_dims = shape
    return layer.get_output(0)


def _convert_wrong_deconvolution(trt, context):
    """As the real one: the input's channels for the output's, no output padding."""
    data, weight = context.method_args[:2]
    layer = context.network.add_deconvolution_nd(
        input=data._trt,
        num_output_maps=weight.shape[0],
        kernel_shape=tuple(weight.shape[2:]),
        kernel=weight.detach().numpy(),
    )
    layer.stride_nd = context.method_args[3]
    layer.padding_nd = context.method_args[4]
    context.method_return._trt = layer.get_output(0)


def _convert_wrong_padding(trt, context):
    """As the real one: zeros, whatever the mode."""
    left, right, top, bottom = context.method_args[1]
    layer = context.network.add_padding_nd(context.method_args[0]._trt, (top, left), (bottom, right))
    context.method_return._trt = layer.get_output(0)


def _convert_reflection(context):
    pad, data = context.method_args
    layer = context.network.add_plugin_v2([data._trt], pad.padding)
    context.method_return._trt = layer.get_output(0)


def _convert_activation(kind, trt, context):
    layer = context.network.add_activation(context.method_args[0]._trt, getattr(trt.ActivationType, kind))
    if kind == "LEAKY_RELU":
        layer.alpha = context.method_args[1]
    context.method_return._trt = layer.get_output(0)


def _convert_elementwise(kind, trt, context):
    ndim = context.method_return.dim()
    first, second = (_trt_of(context, value, ndim) for value in context.method_args[:2])
    layer = context.network.add_elementwise(first, second, getattr(trt.ElementWiseOperation, kind))
    context.method_return._trt = layer.get_output(0)


def _convert_prelu(trt, context):
    """The sum of two rectified halves: five layers."""
    data, slopes = context.method_args
    network, shape = context.network, [1] * data.dim()
    shape[1] = slopes.numel()
    negative = network.add_constant(tuple(shape), -slopes.detach().reshape(shape).numpy()).get_output(0)
    upper = network.add_activation(data._trt, trt.ActivationType.RELU).get_output(0)
    lower = network.add_unary(data._trt, trt.UnaryOperation.NEG).get_output(0)
    lower = network.add_activation(lower, trt.ActivationType.RELU).get_output(0)
    lower = network.add_elementwise(lower, negative, trt.ElementWiseOperation.PROD).get_output(0)
    both = network.add_elementwise(upper, lower, trt.ElementWiseOperation.SUM)
    context.method_return._trt = both.get_output(0)


def _convert_cat(trt, context):
    parts, axis = context.method_args
    layer = context.network.add_concatenation([part._trt for part in parts])
    layer.axis = axis
    context.method_return._trt = layer.get_output(0)


def _convert_reshape(trt, context):
    data = context.method_args[0]
    if hasattr(data, "_trt"):
        shape = (
            context.method_args[1] if isinstance(context.method_args[1], tuple) else context.method_args[1:]
        )
        context.method_return._trt = _shuffle(context, data._trt, shape)


def _convert_permute(trt, context):
    layer = context.network.add_shuffle(context.method_args[0]._trt)
    layer.second_transpose = context.method_args[1]
    context.method_return._trt = layer.get_output(0)


def _convert_interpolate(trt, context):
    data = context.method_args[0]
    layer = context.network.add_resize(data._trt)
    layer.scales = [1, 1, *context.method_kwargs["scale_factor"]]
    layer.resize_mode = getattr(
        trt.InterpolationMode, context.method_kwargs["mode"].upper()[-7:].replace("BI", "")
    )
    context.method_return._trt = layer.get_output(0)


def _convert_max_pool(trt, context):
    data, window, steps, pads = context.method_args
    layer = context.network.add_pooling_nd(data._trt, trt.PoolingType.MAX, window)
    layer.stride_nd, layer.padding_nd = steps, pads
    context.method_return._trt = layer.get_output(0)


_CONVERTERS = {
    "torch.nn.functional.conv1d torch.nn.functional.conv2d torch.nn.functional.conv3d": _convert_convolution,
    "torch.nn.functional.conv_transpose1d torch.nn.functional.conv_transpose2d "
    "torch.nn.functional.conv_transpose3d": _convert_wrong_deconvolution,
    "torch.nn.functional.pad": _convert_wrong_padding,
    "torch.relu": functools.partial(_convert_activation, "RELU"),
    "torch.sigmoid": functools.partial(_convert_activation, "SIGMOID"),
    "torch.tanh": functools.partial(_convert_activation, "TANH"),
    "torch.nn.functional.leaky_relu": functools.partial(_convert_activation, "LEAKY_RELU"),
    "torch.nn.functional.prelu": _convert_prelu,
    "torch.add": functools.partial(_convert_elementwise, "SUM"),
    "torch.mul": functools.partial(_convert_elementwise, "PROD"),
    "torch.sub": functools.partial(_convert_elementwise, "SUB"),
    "torch.cat": _convert_cat,
    "torch.Tensor.reshape": _convert_reshape,
    "torch.Tensor.permute": _convert_permute,
    "torch.nn.functional.interpolate": _convert_interpolate,
    "torch.nn.functional.max_pool2d": _convert_max_pool,
}
