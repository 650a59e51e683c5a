"""Takes clips off quantized codes, for runtimes that fuse no clip into their INT8 kernels."""

from dataclasses import replace

import onnx
from onnx import numpy_helper

from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.graph.detached import DetachedModel

LARGEST_CODE = 127
NOTE = (
    "Values beyond the calibrated range are kept up to twice that range, in uint8 codes 128 to 255, where "
    "INT8 and the scores cut them: ONNX Runtime fuses no clip into its INT8 kernels. That is closer to FP32."
)


def without_tail_clips(lowered: LoweredGraph) -> LoweredGraph:
    """The same `u8` graph without the clips of its codes at 127.

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
    """A clip of uint8 codes from above only, at the largest that INT8 has."""
    if node.op_type != "Clip" or len(node.input) != 3 or node.input[1]:
        return False
    bound = next((tensor for tensor in graph.initializer if tensor.name == node.input[2]), None)
    is_of_codes = bound is not None and bound.data_type == onnx.TensorProto.UINT8
    return is_of_codes and int(numpy_helper.to_array(bound)) == LARGEST_CODE
