"""Published repairs to compare with, written from their papers: ranges and parameters for the same grid.

A scheme takes a calibrated graph with its sweep and hands out the one that maps are lowered from, as
`qsens.repair` does. Activation thresholds are those of the calibration (least squared error by default).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import Observer, measure_ranges
from qsens.engines.lowering.int8 import output_channel_axis, weight_codes, weight_scales
from qsens.engines.lowering.plan import LoweringPlan, RepairedLayer, WeightScales
from qsens.graph.editable_graph import attribute_of
from qsens.graph.topology import Topology
from qsens.repair.layer_inputs import WeightMatrix
from qsens.run.calibrated_graph import CalibratedGraph
from qsens.run.open import OpenedSweep

ALPHA = 0.5
# Shares of a weight's largest magnitude that its scale may be made of.
CLIPPED = np.linspace(0.3, 1.0, 71)
# Of a layer's inputs, positions a sample that the mean is taken over.
POSITIONS = 256
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu"})
Array = np.ndarray[Any, np.dtype[Any]]
Scheme = Callable[[CalibratedGraph, OpenedSweep], CalibratedGraph]


def bias_corrected(calibrated: CalibratedGraph, job: OpenedSweep) -> CalibratedGraph:
    """Biases that take up the mean error of rounded weights.

    Nagel et al. 2019 (arXiv 1906.04721), section 4.2: the mean output of quantized weights is off by
    (Q - W) E[x], which is subtracted from the bias. E[x] is that of FP32 over the calibration samples, the
    empirical way of its appendix D.
    """
    means = _mean_inputs(calibrated, job)
    repaired = {}
    for layer, (weight, scales) in _rounded_weights(calibrated).items():
        codes = weight_codes(weight, scales)
        matrix = _matrix(calibrated.plan, layer)
        lost = matrix.split(weight.astype(np.float64) - codes * scales)
        bias = np.einsum("goc,gc->go", lost, means[layer]).reshape(-1) * matrix.factor
        repaired[layer] = RepairedLayer(codes, scales, bias.astype(np.float32))
    return replace(calibrated, plan=calibrated.plan.with_repaired(repaired))


def least_squares_weights(calibrated: CalibratedGraph, job: OpenedSweep) -> CalibratedGraph:
    """Weight scales with the least squared error of the weights, clipped where that is less.

    Minimum MSE clipping, as Banner et al. 2019 (arXiv 1810.05723, section 3) and Nagel et al. 2021 (arXiv
    2106.08295, section 3.1) describe it; the thresholds of activations are found so already.
    """
    repaired = {}
    for layer, (weight, widest) in _rounded_weights(calibrated).items():
        axes = tuple(axis for axis, side in enumerate(widest.shape) if side == 1)
        least, scales = np.full(widest.shape, np.inf), widest
        for share in CLIPPED[::-1]:
            tried = (widest * np.float32(share)).astype(np.float32)
            errors = np.square(weight - weight_codes(weight, tried) * tried).sum(axis=axes, keepdims=True)
            scales, least = np.where(errors < least, tried, scales), np.minimum(errors, least)
        outputs = weight.size // _matrix(calibrated.plan, layer).columns
        no_bias = np.zeros(outputs, np.float32)
        repaired[layer] = RepairedLayer(weight_codes(weight, scales), scales, no_bias)
    return replace(calibrated, plan=calibrated.plan.with_repaired(repaired))


def smoothed(calibrated: CalibratedGraph, job: OpenedSweep) -> CalibratedGraph:
    """Channels whose size is shared between activations and weights.

    Xiao et al. 2022, "SmoothQuant" (arXiv 2211.10438), equation 4 with alpha 0.5: channel j of a layer's
    input is divided by max|X_j|^alpha / max|W_j|^(1 - alpha), and the weights that read it are multiplied
    with that. The division is folded into the layer before, where that feeds this one alone.
    """
    pairs = list(_neighbours(calibrated.plan))
    largest = _largest_inputs(calibrated, job, [pair.tensor for pair in pairs])
    weights = {name: calibrated.plan.topology.constant(name) for pair in pairs for name in pair.parameters}
    for pair in pairs:
        by = _shared(largest[pair.tensor], _largest(weights[pair.second.input[1]], _input_axis(pair.second)))
        name = pair.second.input[1]
        weights[name] = _scaled(weights[name], by, _input_axis(pair.second))
        for name in pair.first.input[1:]:
            axis = 1 - _input_axis(pair.first) if weights[name].ndim > 1 else 0
            weights[name] = _scaled(weights[name], 1 / by, axis)
    return _calibrated_again(calibrated, job, weights)


SCHEMES: Mapping[str, Scheme] = {
    "bias-correction": bias_corrected,
    "mse-weights": least_squares_weights,
    "smoothquant": smoothed,
}


def _rounded_weights(calibrated: CalibratedGraph) -> dict[str, tuple[Array, Array]]:
    """The weight of each layer and the scales of its rounding, which broadcast over it."""
    found = {}
    for layer, operation in calibrated.plan.operations.items():
        weight = calibrated.plan.int8_weight(layer)
        node = calibrated.plan.topology.nodes[operation.node]
        per_channel = calibrated.options.weight_scales is WeightScales.PER_CHANNEL
        axis = output_channel_axis(node, weight.ndim) if per_channel else None
        found[layer] = (weight, weight_scales(weight, axis))
    return found


def _matrix(plan: LoweringPlan, layer: str) -> WeightMatrix:
    operation = plan.operations[layer]
    return WeightMatrix(plan.topology.nodes[operation.node], plan.int8_weight(layer).shape)


def _mean_inputs(calibrated: CalibratedGraph, job: OpenedSweep) -> dict[str, Array]:
    """The mean input of each layer's weights, float64 (groups, columns), by layer."""
    plan = calibrated.plan
    sums: dict[str, Array] = {}
    feeds = InputCache(job.calibration, plan.graph, 1)
    tensors = tuple(dict.fromkeys(operation.data for operation in plan.operations.values()))
    observer = Observer(plan.graph, tensors, calibrated.options.placement, calibrated.spec.threads)
    for index, values in enumerate(observer.values(tensors, feeds)):
        for layer, operation in plan.operations.items():
            rows = _matrix(plan, layer).rows(values[operation.data], POSITIONS, index)
            sums[layer] = sums.get(layer, 0) + rows.mean(axis=1, dtype=np.float64)
    return {layer: total / feeds.sample_count for layer, total in sums.items()}


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """Two layers, `tensor` between them read by the second alone."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    tensor: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """What is scaled."""
        return (*self.first.input[1:], self.second.input[1])


def _neighbours(plan: LoweringPlan) -> Iterator[_Neighbours]:
    readers = {operation.node for operation in plan.operations.values()}
    for operation in plan.operations.values():
        first = plan.topology.nodes[operation.node]
        second = plan.topology.only_consumer(operation.result)
        if second is None or second.name not in readers or second.input[0] != operation.result:
            continue
        activation = plan.topology.producer[operation.result].op_type
        is_fused = operation.skip is None and activation in {*_HOMOGENEOUS, first.op_type}
        is_whole = all(attribute_of(node, "group", 1) == 1 for node in (first, second))
        found = _Neighbours(first, second, operation.result)
        if is_fused and is_whole and all(map(plan.topology.only_consumer, found.parameters)):
            yield found


def _input_axis(node: onnx.NodeProto) -> int:
    """The weight axis of a layer's input channels."""
    is_output_first = node.op_type == "Conv" or bool(attribute_of(node, "transB", 0))
    return 1 if is_output_first else 0


def _largest(values: Array, axis: int) -> Array:
    """The largest magnitude along an axis."""
    return np.abs(values).max(axis=tuple(other for other in range(values.ndim) if other != axis))


def _shared(of_input: Array, of_weight: Array) -> Array:
    """SmoothQuant's divisor of each channel; 1 where a channel is zero."""
    is_used = (of_input > 0) & (of_weight > 0)
    first, second = (np.where(is_used, values, 1.0) for values in (of_input, of_weight))
    return first**ALPHA / second ** (1 - ALPHA)


def _scaled(values: Array, by: Array, axis: int) -> Array:
    shape = [1] * values.ndim
    shape[axis] = -1
    return (values * by.reshape(shape)).astype(values.dtype)


def _largest_inputs(calibrated: CalibratedGraph, job: OpenedSweep, tensors: list[str]) -> dict[str, Array]:
    """The largest magnitude of each channel, by tensor."""
    plan = calibrated.plan
    observer = Observer(plan.graph, tuple(tensors), calibrated.options.placement, calibrated.spec.threads)
    found: dict[str, Array] = {}
    for values in observer.values(tensors, InputCache(job.calibration, plan.graph, 1)):
        for name in tensors:
            found[name] = np.maximum(found.get(name, 0.0), _largest(values[name], 1))
    return found


def _calibrated_again(
    calibrated: CalibratedGraph, job: OpenedSweep, weights: Mapping[str, Array]
) -> CalibratedGraph:
    """The graph with other parameters, and ranges of its own."""
    model = onnx.ModelProto()
    model.CopyFrom(calibrated.graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    graph = replace(calibrated.graph, model=model)
    plan = replace(calibrated.plan, graph=graph, topology=Topology(model), memo={})
    with tempfile.TemporaryDirectory(prefix="qsens-smoothed-") as folder:
        ranges = measure_ranges(
            plan.observer(calibrated.options.placement, calibrated.spec.threads),
            job.calibration,
            calibrated.spec,
            promised=calibrated.ranges.promised,
            path=Path(folder) / "ranges.npz",
            progress=lambda done, total, label: None,
        )
    return replace(calibrated, plan=plan, ranges=ranges)
