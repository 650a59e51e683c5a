"""One INT8 layer in exact arithmetic: integer codes, exact sums in float32, then scale and bias."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qsens.core.errors import BuildError
from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.plan import LoweringPlan, TensorGrid
from qsens.graph.editable_graph import attribute_of
from qsens.graph.topology import FusedOperation
from qsens.graph.value_ranges import ANYTHING

# Integers of smaller magnitude are exact in float32, and so are their sums in any order.
EXACT_LIMIT = 2**24
# Of weights: they leave -128 out, as TensorRT does.
LARGEST_CODE = 127
Values = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class WeightPart:
    """A run of input channels, `start` to `stop`, whose sums are exact in float32; `codes` are int8."""

    start: int
    stop: int
    codes: Values


@dataclass(frozen=True)
class QuantizedWeight:
    """Weight codes in parts; scales and bias, float32, shaped to multiply and to be added to the output."""

    parts: list[WeightPart]
    scales: Values
    bias: Values | None


def emit_int8_layer(
    emitter: Emitter,
    plan: LoweringPlan,
    layer: str,
    *,
    grid: TensorGrid,
    per_channel: bool,
    output: str,
) -> bool:
    """Append the INT8 form of a layer's node; true where its sums needed the float64 way out.

    The accumulator of every output is bounded by the weight codes and the range of the activation codes.
    Where the bound reaches 2^24 the input channels are split into runs that stay below it, the exact
    partial sums are added in float64, and the total is rounded once to float32: still the same bits for
    any batch size and number of threads.

    Raises:
        BuildError: if one input channel alone can pass the bound, or the bias is not constant.
    """
    operation = plan.operations[layer]
    node = plan.topology.nodes[operation.node]
    weight = emitter.remembered(
        ("int8", layer, per_channel, grid.is_unsigned),
        lambda: _prepare_weight(plan, operation, grid, per_channel=per_channel),
    )
    codes = emitter.code_values(operation.data, grid)
    name = emitter.made(operation.layer, "int8")
    layout = _weight_layout(node, weight.parts[0].codes.ndim)
    sliced = _emit_slices(emitter, codes, weight.parts, layout, name)
    sums = [
        _emit_sum(emitter, node, operation, {operation.data: data, operation.weight: part.codes}, index)
        for index, (data, part) in enumerate(zip(sliced, weight.parts, strict=True))
    ]
    total = sums[0] if len(sums) == 1 else _emit_float64_total(emitter, sums, name)
    _emit_scale_and_bias(emitter, node, total, replace(weight, scales=grid.scale * weight.scales), output)
    return len(weight.parts) > 1


def _prepare_weight(
    plan: LoweringPlan, operation: FusedOperation, grid: TensorGrid, *, per_channel: bool
) -> QuantizedWeight:
    node = plan.topology.nodes[operation.node]
    values = plan.int8_weight(operation.layer)
    axis = output_channel_axis(node, values.ndim) if per_channel else None
    codes, scales = quantize_weight(values, axis)
    layout = _weight_layout(node, values.ndim)
    # By the graph alone: what is promised of an input may be broken, and sums must be exact all the same.
    proved = plan.proved({}).get(operation.data, ANYTHING)
    least, largest = grid.ends
    ends = (max(least, 0), largest) if proved.is_non_negative else (least, largest)
    parts = split_weight(codes, layout, ends, node_name=node.name)
    scales = _shaped_for_output(node, scales, values.ndim)
    bias = plan.int8_bias(operation.layer)
    if bias is not None:
        bias = bias * np.float32(attribute_of(node, "beta", 1.0))
        if node.op_type in {"Conv", "ConvTranspose"}:
            bias = bias.reshape(1, -1, *([1] * (values.ndim - 2)))
    return QuantizedWeight(parts, scales, bias)


def quantize_weight(values: Values, axis: int | None) -> tuple[Values, Values]:
    """INT8 codes, -127 to 127, and float32 scales (`amax / 127`): one along `axis`, or one in all."""
    scales = weight_scales(values, axis)
    return weight_codes(values, scales), scales.reshape(-1)


def weight_scales(values: Values, axis: int | None) -> Values:
    """Float32 scales that broadcast over `values`; one where a channel is zero or too small to divide by."""
    reduced = None if axis is None else tuple(index for index in range(values.ndim) if index != axis)
    amax = np.max(np.abs(values), axis=reduced, keepdims=True).astype(np.float32)
    scales = amax / np.float32(LARGEST_CODE)
    # Where it is too small all codes are 0, and any scale would do.
    return np.where(scales >= np.finfo(np.float32).tiny, scales, np.float32(1)).astype(np.float32)


def weight_codes(values: Values, scales: Values) -> Values:
    """INT8 codes, -127 to 127, rounded half to even."""
    return np.clip(np.rint(values / scales), -LARGEST_CODE, LARGEST_CODE).astype(np.int8)


def output_channel_axis(node: onnx.NodeProto, rank: int) -> int | None:
    """Weight axis of the output channels; `None` where one scale serves the whole tensor."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute_of(node, "transB", 0) else 1
    return 1 if node.op_type == "MatMul" and rank == 2 else None


def _shaped_for_output(node: onnx.NodeProto, scales: Values, weight_rank: int) -> Values:
    if scales.size == 1:
        return scales.reshape(())
    if node.op_type == "Conv":
        return scales.reshape(1, -1, *([1] * (weight_rank - 2)))
    return scales


@dataclass(frozen=True)
class WeightLayout:
    """Axes of a weight: `fan_in` (input channels), `output` channels; `data_axis` is the operand's fan-in."""

    fan_in: int
    output: int
    data_axis: int
    groups: int


def _weight_layout(node: onnx.NodeProto, rank: int) -> WeightLayout:
    groups = int(attribute_of(node, "group", 1))
    if node.op_type == "Conv":
        return WeightLayout(1, 0, 1, groups)
    if node.op_type == "ConvTranspose":
        return WeightLayout(0, 1, 1, groups)
    if node.op_type == "Gemm":
        transposed = bool(attribute_of(node, "transB", 0))
        return WeightLayout(1, 0, 1, 1) if transposed else WeightLayout(0, 1, 1, 1)
    return WeightLayout(rank - 2, rank - 1, -1, 1)


def split_weight(
    codes: Values, layout: WeightLayout, ends: tuple[int, int], *, node_name: str
) -> list[WeightPart]:
    """Runs of input channels whose accumulators stay below 2^24 for any activation codes between `ends`.

    Grouped convolutions keep all channels in every part and have zeros outside their run instead.
    """
    bounds = _accumulator_bounds(codes, layout, ends)
    starts = [0]
    running = np.zeros_like(bounds[0])
    for index, bound in enumerate(bounds):
        if bound.max() >= EXACT_LIMIT:
            raise BuildError(
                f"one input channel of {node_name!r} alone can reach a sum of {bound.max():.0f}",
                "pin this layer to fp16",
            )
        if (running + bound).max() >= EXACT_LIMIT:
            starts.append(index)
            running = np.zeros_like(bound)
        running = running + bound
    if len(starts) == 1:
        return [WeightPart(0, len(bounds), codes)]
    runs = zip(starts, [*starts[1:], len(bounds)], strict=True)
    return [WeightPart(start, stop, _run_of(codes, layout, start, stop)) for start, stop in runs]


def _accumulator_bounds(codes: Values, layout: WeightLayout, ends: tuple[int, int]) -> Values:
    """Largest possible magnitude that each input channel adds to each output: (fan-in, outputs)."""
    summed = tuple(axis for axis in range(codes.ndim) if axis not in (layout.fan_in, layout.output))
    least, largest = ends
    if least == 0:
        positive = np.maximum(codes, 0).sum(axis=summed, dtype=np.float64)
        negative = -np.minimum(codes, 0).sum(axis=summed, dtype=np.float64)
        # One sign alone can occur over a whole run, so each is bounded on its own.
        bounds = np.concatenate([positive, negative], axis=int(layout.fan_in < layout.output))
        bounds = bounds * largest
    else:
        # -128 is the code of the largest magnitude.
        bounds = np.abs(codes, dtype=np.int16).sum(axis=summed, dtype=np.float64) * -least
    return bounds if layout.fan_in < layout.output else bounds.T


def _run_of(codes: Values, layout: WeightLayout, start: int, stop: int) -> Values:
    chosen = [slice(None)] * codes.ndim
    chosen[layout.fan_in] = slice(start, stop)
    if layout.groups == 1:
        return codes[tuple(chosen)]
    # A slice of the operand would be divided into other groups.
    part = np.zeros_like(codes)
    part[tuple(chosen)] = codes[tuple(chosen)]
    return part


def _emit_slices(
    emitter: Emitter, codes: str, parts: list[WeightPart], layout: WeightLayout, name: str
) -> list[str]:
    """The activation codes that each part reads."""
    if len(parts) == 1 or layout.groups > 1:
        return [codes] * len(parts)
    axis = emitter.constant(emitter.made(name, "axis"), np.array([layout.data_axis], np.int64))
    return [
        emitter.node(
            "Slice",
            [
                codes,
                emitter.constant(emitter.made(name, str(part.start)), np.array([part.start], np.int64)),
                emitter.constant(emitter.made(name, str(part.stop)), np.array([part.stop], np.int64)),
                axis,
            ],
            emitter.made(name, f"codes{part.start}"),
        )
        for part in parts
    ]


def _emit_sum(
    emitter: Emitter,
    node: onnx.NodeProto,
    operation: FusedOperation,
    operands: dict[str, str | Values],
    index: int,
) -> str:
    """The weighted node over codes, without bias; the first part keeps the node's own name."""
    prefix = emitter.made(emitter.made(operation.layer, "int8"), str(index))
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    # What the engine ran is read back by the node's name.
    twin.name = node.name if index == 0 else emitter.made(node.name, str(index))
    names = {
        key: value
        if isinstance(value, str)
        else emitter.constant(emitter.made(prefix, "weight"), value.astype(np.float32))
        for key, value in operands.items()
    }
    twin.input[:] = [names[text] for text in node.input[:2]]
    twin.output[:] = [emitter.made(prefix, "sum")]
    # They would take the sums off the integers; the scale and the bias have them instead.
    kept = [attribute for attribute in node.attribute if attribute.name not in {"alpha", "beta"}]
    del twin.attribute[:]
    twin.attribute.extend(kept)
    emitter.nodes.append(twin)
    return str(twin.output[0])


def _emit_float64_total(emitter: Emitter, sums: list[str], name: str) -> str:
    wide = [emitter.node("Cast", [part], emitter.made(part, "wide"), to=TensorProto.DOUBLE) for part in sums]
    total = wide[0]
    for index, part in enumerate(wide[1:]):
        total = emitter.node("Add", [total, part], emitter.made(name, f"total{index}"))
    return emitter.node("Cast", [total], emitter.made(name, "sum"), to=TensorProto.FLOAT)


def _emit_scale_and_bias(
    emitter: Emitter, node: onnx.NodeProto, total: str, weight: QuantizedWeight, output: str
) -> None:
    scaled = output if weight.bias is None else emitter.made(output, "scaled")
    scales = weight.scales * np.float32(attribute_of(node, "alpha", 1.0))
    emitter.node("Mul", [total, emitter.constant(emitter.made(node.name, "output_scale"), scales)], scaled)
    if weight.bias is not None:
        bias = emitter.constant(emitter.made(node.name, "bias"), weight.bias.astype(np.float32))
        emitter.node("Add", [scaled, bias], output)
