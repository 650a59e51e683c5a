"""Lowering to the deployment flavours and running them in ONNX Runtime with its optimisation off."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from lowered_models import Prepared
from onnx import TensorProto, numpy_helper

from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.plan import LoweringOptions

QDQ_FLAVOURS = ("u8", "strong", "weak")


def lowered(
    setup: Prepared, precisions: Precision | Mapping[str, Precision], flavour: str, **options: object
) -> LoweredGraph:
    wanted = (
        uniform_map(setup.graph.layers, precisions)
        if isinstance(precisions, Precision)
        else PrecisionMap.over(precisions)
    )
    return lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(**options), flavour)


def run_plainly(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], extra: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Outputs by name, and the tensors `extra` besides."""
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def types_of(model: onnx.ModelProto) -> dict[str, str]:
    """Element type of every activation, by ONNX's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {value.name: TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in values}


def opset_of(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain == "")
