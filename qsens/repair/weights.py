"""Compensated weights: each layer's codes and bias, fitted to its quantized inputs with FP32 before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import Observer
from qsens.calibration.ranges import Ranges
from qsens.core.interfaces import Progress, SampleSet
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision
from qsens.engines.lowering.int8 import output_channel_axis, weight_scales
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, PlacedMap, RepairedLayer, WeightScales
from qsens.repair.compensation import DAMPING, compensated_codes, output_error, rounded_codes
from qsens.repair.layer_inputs import WeightMatrix

# Rows of inputs that a layer's second moment is taken over.
ROWS = 6000
# Products of few rows at a time would mostly move the second moments in memory.
ROWS_AT_ONCE = 512
# Wider layers have one second moment for each run of so many columns: work grows with its cube.
MOST_COLUMNS = 2304
# With fewer rows for each column, codes and bias fit the rows that were seen more than those to come.
ROWS_PER_COLUMN = 2
# Second moments that are held at a time; layers beyond wait for another pass over the samples.
MOST_BYTES = 256 * 2**20
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class CompensatedLayers:
    """Repaired layers by name, and those left alone with the reasons."""

    layers: Mapping[str, RepairedLayer] = field(repr=False)
    skipped: tuple[tuple[str, str], ...]


def compensate_weights(
    plan: LoweringPlan,
    ranges: Ranges,
    options: LoweringOptions,
    samples: SampleSet,
    *,
    threads: int,
    progress: Progress,
) -> CompensatedLayers:
    """Codes and biases of all layers that allow INT8, one layer independent of the other.

    What a layer gets does not depend on the precision of the others: it serves every map. A layer that few
    inputs are seen of for the weights of an output is left alone: codes that fit those inputs spoil others.
    """
    placed = PlacedMap(plan, uniform_map(plan.graph.layers, Precision.INT8), ranges, options)
    names = [layer.name for layer in plan.graph.layers if Precision.INT8 in layer.allowed]
    problems = [_Problem(placed, name) for name in names]
    found: dict[str, RepairedLayer] = {}
    skipped: list[tuple[str, str]] = []
    feeds = InputCache(samples, plan.graph, 1)
    for group in _groups(problems):
        tensors = tuple(dict.fromkeys(problem.data for problem in group))
        observer = Observer(plan.graph, tensors, options.placement, threads)
        for index, values in enumerate(observer.values(tensors, feeds)):
            progress(index, feeds.sample_count, "repair: inputs of layers")
            for problem in group:
                problem.observe(values[problem.data], -(-ROWS // feeds.sample_count), seed=index)
        for number, problem in enumerate(group):
            progress(number, len(group), "repair: weights")
            repaired = problem.thinness or problem.solve()
            if isinstance(repaired, str):
                skipped.append((problem.layer, repaired))
            else:
                found[problem.layer] = repaired
            problem.forget()
    return CompensatedLayers(found, tuple(skipped))


def _groups(problems: Sequence["_Problem"]) -> Iterator[list["_Problem"]]:
    group: list[_Problem] = []
    size_bytes = 0
    for problem in problems:
        if group and size_bytes + problem.size_bytes > MOST_BYTES:
            yield group
            group, size_bytes = [], 0
        group.append(problem)
        size_bytes += problem.size_bytes
    if group:
        yield group


class _Problem:
    """The moments of one layer's quantized inputs, and the codes that they ask for."""

    def __init__(self, placed: PlacedMap, layer: str) -> None:
        operation = placed.plan.operations[layer]
        node: onnx.NodeProto = placed.plan.topology.nodes[operation.node]
        self.layer = layer
        self.data = operation.data
        self._grid = placed.grid(operation.data)
        # Read when it is needed: all layers' weights at once would be the generator once more.
        self._weight = partial(placed.plan.topology.constant, operation.weight)
        weight = self._weight()
        per_channel = placed.options.weight_scales is WeightScales.PER_CHANNEL
        axis = output_channel_axis(node, weight.ndim) if per_channel else None
        self._scales = weight_scales(weight, axis)
        self._matrix = WeightMatrix(node, weight.shape)
        width = self._matrix.columns
        self._runs = [
            slice(start, min(start + MOST_COLUMNS, width)) for start in range(0, width, MOST_COLUMNS)
        ]
        self.size_bytes = 8 * self._matrix.groups * sum((run.stop - run.start) ** 2 for run in self._runs)
        self._moments: list[Array] = []
        self._rows = 0
        self._waiting: list[Array] = []
        self._sums: Array = np.zeros((2, self._matrix.groups, width))

    def observe(self, values: Array, count: int, seed: int) -> None:
        """Add at most `count` rows of one feed."""
        rows = self._matrix.rows(values, count, seed).astype(np.float32)
        self._waiting.append(rows)
        self._rows += rows.shape[1]
        if sum(part.shape[1] for part in self._waiting) >= ROWS_AT_ONCE:
            self._take_waiting()

    def _take_waiting(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting, axis=1)
        self._waiting = []
        quantized = np.clip(np.rint(rows / self._grid.scale), *self._grid.ends) * self._grid.scale
        if not self._moments:
            sides = [run.stop - run.start for run in self._runs]
            self._moments = [np.zeros((self._matrix.groups, side, side)) for side in sides]
        for run, moment in zip(self._runs, self._moments, strict=True):
            part = quantized[:, :, run]
            moment += part.transpose(0, 2, 1) @ part
        self._sums += np.stack([rows.sum(axis=1, dtype=np.float64), quantized.sum(axis=1, dtype=np.float64)])

    def solve(self) -> RepairedLayer | str:
        """The layer's codes and bias, or why it has none."""
        self._take_waiting()
        matrices = self._matrix.split(self._weight().astype(np.float64))
        means, quantized_means = self._sums / self._rows
        scales = self._scales.reshape(-1).astype(np.float64)
        by_group = scales.reshape(self._matrix.groups, -1) if scales.size > 1 else None
        codes = np.empty_like(matrices)
        is_compensated, reason = False, ""
        for group, matrix in enumerate(matrices):
            own = scales if by_group is None else by_group[group]
            codes[group] = rounded_codes(matrix, own)
            for run, moment in zip(self._runs, self._moments, strict=True):
                centre = quantized_means[group, run]
                # Around the mean: the bias below makes good what the mean does.
                hessian = moment[group] / self._rows - np.outer(centre, centre)
                better = _compensated(matrix[:, run], own, hessian)
                if isinstance(better, str):
                    reason = better
                else:
                    codes[group][:, run], is_compensated = better, True
        if not is_compensated:
            return reason
        steps = scales.reshape(1, 1, 1) if by_group is None else by_group[:, :, None]
        # Outputs keep the mean that they have in FP32.
        bias = np.einsum("goc,gc->go", matrices, means)
        bias -= np.einsum("goc,gc->go", codes * steps, quantized_means)
        return RepairedLayer(
            self._matrix.joined(codes).astype(np.int8),
            self._scales,
            (bias.reshape(-1) * self._matrix.factor).astype(np.float32),
        )

    @property
    def thinness(self) -> str:
        """Words for inputs that are few for the weights fitted to them; empty where there are many."""
        width = self._runs[0].stop
        if self._rows >= ROWS_PER_COLUMN * width:
            return ""
        return f"only {self._rows:,} inputs were seen for {width:,} weights"

    def forget(self) -> None:
        """Let go of what is large."""
        self._moments = []


def _compensated(matrix: Array, scales: Array, hessian: Array) -> Array | str:
    """Codes that leave less error than the nearest ones, or why there are none."""
    if not np.any(np.diag(hessian)):
        return "its inputs do not vary on the calibration samples"
    codes = compensated_codes(matrix, scales, hessian)
    if codes is None:
        return f"the second moment of its inputs cannot be inverted, damped by {DAMPING[-1]:g} of its mean"
    nearest = rounded_codes(matrix, scales)
    is_better = output_error(matrix, codes, scales, hessian) < output_error(matrix, nearest, scales, hessian)
    return codes if is_better else "its nearest codes leave no more error"
