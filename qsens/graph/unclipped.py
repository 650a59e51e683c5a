"""Takes clips off quantized tensors, for runtimes that fuse no clip into their INT8 kernels."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from qsens.graph.detached import DetachedModel
from qsens.graph.lowered import LoweredGraph

LARGEST_CODE = np.float32(127)
NOTE = (
    "Values beyond the calibrated range are kept up to twice that range, in uint8 codes 128 to 255, where "
    "INT8 and the scores cut them: ONNX Runtime fuses no clip into its INT8 kernels. That is closer to FP32."
)


def without_tail_clips(lowered: LoweredGraph) -> LoweredGraph:
    """The same `u8` graph without the clips at code 127 that stand before its quantizers.

    Only for runtimes whose uint8 sums cannot saturate. Clips of the generator itself stay.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(lowered.detached.skeleton)
    graph = skeleton.graph
    aliases = {node.output[0]: node.input[0] for node in graph.node if _is_tail_clip(node, graph)}
    if not aliases:
        return lowered
    kept = [node for node in graph.node if not (node.output and node.output[0] in aliases)]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = aliases.get(name, name)
    used = {name for node in kept for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)
    return replace(lowered, detached=DetachedModel(skeleton, lowered.detached.weights))


def _is_tail_clip(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """A clip from above only, at 127 times the scale of the quantizers that alone read it."""
    if node.op_type != "Clip" or len(node.input) != 3 or node.input[1]:
        return False
    readers = [other for other in graph.node if node.output[0] in other.input]
    outputs = {value.name for value in graph.output}
    if not readers or node.output[0] in outputs:
        return False
    bound = _constant(node.input[2], graph)
    return all(
        reader.op_type == "QuantizeLinear"
        and np.allclose(bound, LARGEST_CODE * _constant(reader.input[1], graph), rtol=1e-6)
        for reader in readers
    )


def _constant(name: str, graph: onnx.GraphProto) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """The value of a small initializer; NaN, which equals nothing, for another tensor."""
    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if found is None or found.data_location == onnx.TensorProto.EXTERNAL:
        return np.array(np.nan, np.float32)
    return np.asarray(numpy_helper.to_array(found), np.float32)
