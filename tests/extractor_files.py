"""A tiny feature extractor as an ONNX file, as a user would bring one."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(path: Path, *, batch: int | str = "n", side: int = 8, scale: float = 1.0) -> Path:
    """`features`, (N, 3): the mean of each channel, times `scale`; `maps` are the pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Mul", ["pictures", "scale"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [batch, 3, side, side])
    outputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 3]),
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, [batch, 3, side, side]),
    ]
    weights = [numpy_helper.from_array(np.float32(scale), "scale")]
    graph = helper.make_graph(nodes, "g", [pictures], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path
