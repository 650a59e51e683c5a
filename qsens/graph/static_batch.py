"""Graphs with a fixed batch size, which some runtimes need for their INT8 kernels."""

import onnx

from qsens.core.errors import BuildError


def static_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy of `model` whose inputs take exactly `batch` samples.

    The first axis of every input that leaves it free is fixed, and the same free side wherever else
    inputs and outputs name it.

    Raises:
        BuildError: for a batch below one, or one that the graph has fixed at another size.
    """
    if batch < 1:
        raise BuildError(f"a batch of {batch}", "give a batch size of at least 1")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    values = [*fixed.graph.input, *fixed.graph.output]
    first_sides = [value.type.tensor_type.shape.dim[0] for value in fixed.graph.input if _rank(value)]
    free = [side for side in first_sides if not side.HasField("dim_value")]
    if not free and batch not in {side.dim_value for side in first_sides}:
        raise BuildError(
            f"the graph fixes its batch at {first_sides[0].dim_value if first_sides else 1}, not {batch}",
            "export the generator with a dynamic batch axis",
        )
    names = {side.dim_param for side in free} - {""}
    for side in free:
        side.dim_value = batch
    for value in values:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in names:
                side.dim_value = batch
    del fixed.graph.value_info[:]
    return fixed


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)
