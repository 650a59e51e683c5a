"""The running half of the fake TensorRT: engines in ONNX Runtime, over the fake GPU's memory."""

import ctypes
import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.BOOL: "BOOL",
}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8}


class Runtime:
    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, plan):
        if not plan[4:].startswith(b'{"shapes"'):
            self._module.log(self._logger, "ERROR", "Serialization assertion failed: version tag mismatch")
            return None
        length = int.from_bytes(plan[:4], "big")
        return self._module.ICudaEngine(json.loads(plan[4 : 4 + length]), plan[4 + length :], self._logger)


class Engine:
    def __init__(self, described, model, logger):
        self._described, self._content, self._logger = described, model, logger
        self._graph = onnx.load_from_string(model).graph
        self._values = {value.name: value for value in (*self._graph.input, *self._graph.output)}

    num_io_tensors = property(lambda self: len(self._values))

    def get_tensor_name(self, index):
        return list(self._values)[index]

    def get_tensor_mode(self, name):
        is_input = name in [value.name for value in self._graph.input]
        return self._module.TensorIOMode["INPUT" if is_input else "OUTPUT"]

    def get_tensor_dtype(self, name):
        return self._module.DataType[type_of(self._values[name])]

    def get_tensor_shape(self, name):
        return shape_of(self._values[name])

    def get_tensor_profile_shape(self, name, profile_index):
        return self._described["shapes"][name]

    def create_execution_context(self):
        if self._module.machine.context_error:
            self._module.log(self._logger, "ERROR", self._module.machine.context_error)
            return None
        return self._module.IExecutionContext(self)

    def create_engine_inspector(self):
        return self._module.EngineInspector(self._described["layers"])


class Context:
    def __init__(self, engine):
        self._engine, self._shapes, self._addresses, self._profiler = engine, {}, {}, None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        # Its fusions of Q/DQ take no FP16 scales.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            engine._content, options, providers=["CPUExecutionProvider"]
        )

    profiler = property(lambda self: self._profiler, lambda self, value: setattr(self, "_profiler", value))

    def set_input_shape(self, name, shape):
        smallest, _, largest = self._engine._described["shapes"][name]
        self._shapes[name] = tuple(shape)
        return all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))

    def get_tensor_shape(self, name):
        sides = shape_of(self._engine._values[name])
        batch = next(iter(self._shapes.values()))[0]
        return tuple(batch if side == -1 else side for side in sides)

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        feeds = {name: self._memory(name, shape) for name, shape in self._shapes.items()}
        values = self._session.run(None, feeds)
        for output, value in zip(self._session.get_outputs(), values, strict=True):
            self._memory(output.name, value.shape)[...] = value
        if self._profiler is not None:
            for layer in self._engine._described["layers"]:
                self._profiler.report_layer_time(layer["Name"], 0.25)
        return True

    def _memory(self, name, shape):
        kind = _NUMPY[type_of(self._engine._values[name])]
        count = int(np.prod(shape))
        raw = (ctypes.c_char * (count * np.dtype(kind).itemsize)).from_address(self._addresses[name])
        return np.frombuffer(raw, kind).reshape(shape)


class Inspector:
    def __init__(self, layers):
        self._layers, self._context = layers, None

    execution_context = property(
        lambda self: self._context, lambda self, value: setattr(self, "_context", value)
    )

    def get_engine_information(self, form):
        assert form.name == "JSON"
        assert self._context is not None, "types of a free batch are told for a context"
        return json.dumps({"Layers": self._layers, "Bindings": []})


def type_of(value):
    return TYPES[value.type.tensor_type.elem_type]


def shape_of(value):
    return tuple(
        side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim
    )
