"""TensorRT modules in Python that have exactly the names of a real version's binding, and record their use.

Networks are parsed with onnx and engines run in ONNX Runtime, so that the code that builds, runs and
inspects engines can be run whole. A name that the version's table lacks raises AttributeError, as in the
real binding; what kernels a real TensorRT would choose is not known here.
"""

import json
from enum import IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path

import onnx
from fake_tensorrt_engine import TYPES, Context, Engine, Inspector, Runtime, shape_of, type_of

TABLES = Path(__file__).parent / "data" / "tensorrt"
VERSIONS = ("8.5.3", "8.6.0", "10.3.0", "10.16.1", "11.4.0")
_WORDS = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}
_KINDS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Relu": "ACTIVATION",
    "Sigmoid": "ACTIVATION",
    "Add": "ELEMENTWISE",
}
_OWN_VALUES = {"11": {"STRONGLY_TYPED": 0}}


def table(version):
    return json.loads((TABLES / f"names-{version}.json").read_text())


def fake_tensorrt(version, *, removed=(), **behaviour):
    """The module of a version; `removed` are names (`Class.name`) that it has lost; see `_Machine`."""
    names = table(version)
    for entry in removed:
        owner, _, name = entry.partition(".")
        names["classes"][owner].remove(name)
    return FakeModule(names, _Machine(**behaviour))


class _Machine:
    """What the fake does: `has_gpu`, `build_error` (said instead of an engine), `refused_operator`."""

    def __init__(self, *, has_gpu=True, build_error=None, refused_operator=None, context_error=None):
        self.has_gpu = has_gpu
        self.build_error = build_error
        self.refused_operator = refused_operator
        self.context_error = context_error


class FakeModule:
    def __init__(self, names, machine):
        self.__name__ = "tensorrt"
        self.__spec__ = ModuleSpec("tensorrt", None)  # torch looks for it before it exports
        self.__version__ = names["version"]
        self._names = names
        self.machine = machine
        self.used = set()
        self.builds = []
        for owner, members in names["classes"].items():
            if owner not in _CLASSES and owner not in ("ILogger", "IProfiler"):
                setattr(self, owner, self._enumeration(owner, members))
        severities = ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]
        self.ILogger = type("ILogger", (), {"Severity": IntEnum("Severity", severities, start=0)})
        self.IProfiler = type("IProfiler", (), {})
        for owner, kind in _CLASSES.items():
            setattr(self, owner, self._restricted(owner, kind, set(names["classes"][owner])))

    def _enumeration(self, owner, members):
        values = _OWN_VALUES.get(self.__version__.partition(".")[0], {})
        kept = [name for name in members if name not in ("name", "value", "itemsize")]
        return IntEnum(owner, {name: values.get(name, place) for place, name in enumerate(kept)})

    def _restricted(self, owner, kind, allowed):
        """`kind` with only the names of the table, for instances and for the class itself."""
        module = self

        def check(name):
            if not name.startswith("_"):
                if name.rstrip("=") not in allowed or name not in allowed:
                    raise AttributeError(f"{owner} of TensorRT {module.__version__} has no {name!r}")
                module.used.add(f"{owner}.{name}")

        class Meta(type):
            def __getattribute__(cls, name):
                check(name)
                return (
                    getattr(kind, name, None) if not name.startswith("_") else super().__getattribute__(name)
                )

        class Restricted(kind, metaclass=Meta):
            def __getattribute__(self, name):
                check(name)
                return super().__getattribute__(name)

            def __setattr__(self, name, value):
                check(name if name.startswith("_") else f"{name}=")
                super().__setattr__(name, value)

            _module = module

        return Restricted

    def log(self, logger, severity, text):
        logger.log(self.ILogger.Severity[severity], text)


class _Builder:
    def __init__(self, logger):
        self._logger = logger
        if not self._module.machine.has_gpu:
            self._module.log(logger, "INTERNAL_ERROR", "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags=0):
        return self._module.INetworkDefinition(flags)

    def create_builder_config(self):
        return self._module.IBuilderConfig()

    def create_optimization_profile(self):
        return self._module.IOptimizationProfile()

    def build_serialized_network(self, network, config):
        module = self._module
        module.builds.append((network, config))
        if module.machine.build_error:
            module.log(self._logger, "ERROR", module.machine.build_error)
            return None
        shapes = {name: shapes for profile in config._profiles for name, shapes in profile._shapes.items()}
        text = json.dumps({"shapes": shapes, "layers": _inspected(network, module)}).encode()
        return module.IHostMemory(len(text).to_bytes(4, "big") + text + network._model.SerializeToString())


class _Network:
    def __init__(self, flags):
        self._flags = flags
        self._layers = []

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._model.graph.input))

    def get_layer(self, index):
        return self._layers[index]

    def get_input(self, index):
        value = self._model.graph.input[index]
        return self._module.ITensor(value.name, "FLOAT", shape_of(value))


class _Parser:
    def __init__(self, network, logger):
        self._network = network
        self._errors = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]

    def parse(self, content):
        module, network = self._module, self._network
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
        graph = model.graph
        network._model = model
        types = {value.name: type_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}
        types |= {tensor.name: TYPES[tensor.data_type] for tensor in graph.initializer}
        outputs = {value.name for value in graph.output}
        for place, node in enumerate(graph.node):
            if node.op_type == module.machine.refused_operator:
                self._errors.append(module.ParserError(place, node))
                continue
            network._layers.append(module.ILayer(node, types, outputs))
        return not self._errors


class _ParserError:
    def __init__(self, place, node):
        self._place, self._node = place, node

    def node(self):
        return self._place

    def node_name(self):
        return self._node.name

    def node_operator(self):
        return self._node.op_type

    def desc(self):
        return "no importer registered"


class _Layer:
    def __init__(self, node, types, outputs):
        make = self._module.ITensor
        self._node = node
        self._inputs = [make(name, types.get(name, "FLOAT")) if name else None for name in node.input]
        self._outputs = [make(name, types[name], is_output=name in outputs) for name in node.output]
        self._kind = _KINDS.get(node.op_type, "IDENTITY")
        self._types = {}

    name = property(lambda self: self._node.name)
    metadata = property(lambda self: f"[ONNX Layer: {self._node.name}]")
    type = property(lambda self: self._module.LayerType[self._kind])
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    precision = property(lambda self: self._precision, lambda self, kind: setattr(self, "_precision", kind))
    _precision = None

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def set_output_type(self, index, kind):
        self._types[index] = kind


class _Tensor:
    def __init__(self, name, kind, shape=(), *, is_output=False):
        self._name, self._kind, self._shape, self._is_output = name, kind, shape, is_output

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._module.DataType[self._kind])
    shape = property(lambda self: self._shape)
    is_network_output = property(lambda self: self._is_output)


class _Config:
    def __init__(self):
        self._flags, self._cleared, self._profiles = [], [], []
        self._workspace = self._verbosity = self._level = self._cache = None

    def set_flag(self, flag):
        self._flags.append(flag.name)

    def clear_flag(self, flag):
        self._cleared.append(flag.name)

    def set_memory_pool_limit(self, pool, size):
        self._workspace = (pool.name, size)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return 0

    def create_timing_cache(self, content):
        return self._module.ITimingCache(bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        own = self._module.__version__.encode()
        if cache._content and not cache._content.startswith(own):
            return False
        self._cache = cache
        cache._content = cache._content or own
        return True

    def get_timing_cache(self):
        return self._cache

    profiling_verbosity = property(
        lambda self: self._verbosity, lambda self, value: setattr(self, "_verbosity", value)
    )
    builder_optimization_level = property(
        lambda self: self._level, lambda self, value: setattr(self, "_level", value)
    )


class _Profile:
    def __init__(self):
        self._shapes = {}

    def set_shape(self, name, smallest, usual, largest):
        self._shapes[name] = [list(smallest), list(usual), list(largest)]


class _Cache:
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return self._module.IHostMemory(self._content + b"+timed")


class _HostMemory:
    def __init__(self, content):
        self._content = content

    def __bytes__(self):
        return self._content


def _inspected(network, module):
    """Layers as the inspector of that version writes them: every weighted node a layer of its own."""
    has_split_types = not hasattr(module, "IInt8Calibrator") and module.__version__.startswith("11")
    layers = []
    for layer in network._layers:
        if layer._kind not in ("CONVOLUTION", "DECONVOLUTION"):
            continue
        maker = next(
            (other for other in network._layers if other._node.output[0] == layer._node.input[0]), None
        )
        is_int8 = maker is not None and maker._kind == "DEQUANTIZE"
        kind = "INT8" if is_int8 else getattr(layer._precision, "name", layer._inputs[0]._kind)
        word = {"FLOAT": "FP32", "HALF": "FP16", "INT8": "Int8"}[kind]
        tensor = {"Name": layer._node.input[0], "Dimensions": [1, 3, 8, 8]}
        split = {"Format": "Row major linear format", "Datatype": _WORDS[kind]}
        tensor |= split if has_split_types else {"Format/Datatype": f"Row major linear {word} format"}
        layers.append(
            {
                "Name": layer._node.name,
                "LayerType": "CaskConvolution",
                "Inputs": [tensor],
                "Outputs": [],
                "Weights": {"Type": _WORDS[kind], "Count": 1},
                "TacticName": "fake",
                "Metadata": f"[ONNX Layer: {layer._node.name}]",
            }
        )
    return layers


_CLASSES = {
    "Builder": _Builder,
    "EngineInspector": Inspector,
    "IBuilderConfig": _Config,
    "ICudaEngine": Engine,
    "IExecutionContext": Context,
    "IHostMemory": _HostMemory,
    "ILayer": _Layer,
    "INetworkDefinition": _Network,
    "IOptimizationProfile": _Profile,
    "ITensor": _Tensor,
    "ITimingCache": _Cache,
    "OnnxParser": _Parser,
    "ParserError": _ParserError,
    "Runtime": Runtime,
}
