"""Ranges measured once a run: the FP32 graph hands out its inner tensors over a calibration set."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qsens.calibration.batches import InputCache
from qsens.calibration.ranges import (
    Ranges,
    TensorRange,
    collect_ranges,
    load_ranges,
    ranges_digest,
    save_ranges,
)
from qsens.core.interfaces import Progress, SampleSet
from qsens.core.plugins import with_defaults
from qsens.core.spec import SweepSpec
from qsens.graph.graph import Graph
from qsens.graph.names import NameMaker, graph_names
from qsens.graph.onnx_run import open_session
from qsens.graph.topology import Topology

# Tensors handed out at once are held in memory together.
LARGEST_GROUP_BYTES = 256 * 2**20
Array = np.ndarray[Any, np.dtype[Any]]


def observing_model(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with `tensors` as its outputs; graph inputs among them are left out."""
    inputs = {value.name for value in graph.model.graph.input}
    return _with_outputs(graph.model, [name for name in tensors if name not in inputs], [])


def extremes_model(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with the (minimum, maximum) of every tensor as its outputs, shape (2,), same names.

    The extremes are computed by the runtime, so that large tensors never leave it.
    """
    made = NameMaker(graph_names(graph.model.graph)).made
    pair = numpy_helper.from_array(np.array([1], np.int64), made("qsens", "pair"))
    nodes = []
    for name in tensors:
        ends = []
        for operator in ("ReduceMin", "ReduceMax"):
            end = made(name, operator)
            scalar = made(end, "scalar")
            nodes.append(helper.make_node(operator, [name], [scalar], keepdims=0))
            nodes.append(helper.make_node("Reshape", [scalar, pair.name], [end]))
            ends.append(end)
        nodes.append(helper.make_node("Concat", ends, [made(name, "extremes")], axis=0))
    model = _with_outputs(graph.model, [made(name, "extremes") for name in tensors], nodes)
    model.graph.initializer.append(pair)
    return model


def groups_of_tensors(graph: Graph, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Runs of tensors whose values for one sample fit in `LARGEST_GROUP_BYTES` together."""
    shapes = Topology(graph.model).shapes
    largest = max(math.prod(layer.output_shape) for layer in graph.layers)
    group: list[str] = []
    size_bytes = 0
    for name in tensors:
        needed = 4 * _elements(shapes.get(name), largest)
        if group and size_bytes + needed > LARGEST_GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
        group.append(name)
        size_bytes += needed
    if group:
        yield group


def _elements(shape: Sequence[int | None] | None, largest: int) -> int:
    """Of one sample; where a side or the whole shape is unknown, those of the `largest` layer."""
    if shape is None or None in shape[1:]:
        return largest
    return math.prod(side or 1 for side in shape)


def _with_outputs(
    template: onnx.ModelProto, names: Sequence[str], nodes: Sequence[onnx.NodeProto]
) -> onnx.ModelProto:
    model = onnx.ModelProto(ir_version=template.ir_version)
    model.opset_import.extend(template.opset_import)
    model.graph.name = template.graph.name
    model.graph.node.extend([*template.graph.node, *nodes])
    model.graph.initializer.extend(template.graph.initializer)
    model.graph.input.extend(template.graph.input)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(names)
    )
    return model


@dataclass(frozen=True, eq=False)
class Observer:
    """Runs the FP32 graph one sample at a time and hands out `tensors`: those that lowering needs ranges of.

    `placement` is the rule that chose them.
    """

    graph: Graph
    tensors: tuple[str, ...]
    placement: str
    threads: int

    def extremes(self, tensors: Sequence[str], feeds: InputCache) -> Iterator[Mapping[str, Array]]:
        """Arrays (1, 2) of minimum and maximum by tensor, one mapping a sample."""
        session = open_session(extremes_model(self.graph, tensors), threads=self.threads)
        for feed in feeds.singly():
            values = session.run(None, dict(feed))
            yield {name: value[None] for name, value in zip(tensors, values, strict=True)}

    def values(self, tensors: Sequence[str], feeds: InputCache) -> Iterator[Mapping[str, Array]]:
        """All values by tensor, one mapping a sample."""
        inputs = {entry.name for entry in self.graph.inputs}
        inner = [name for name in tensors if name not in inputs]
        session = open_session(observing_model(self.graph, inner), threads=self.threads) if inner else None
        for feed in feeds.singly():
            values = [] if session is None else session.run(inner, dict(feed))
            yield {**feed, **dict(zip(inner, values, strict=True))}


def promised_ranges(calibration: SampleSet, evaluation: SampleSet) -> dict[str, tuple[float, float]]:
    """Ends that inputs of neither set can pass, by input: what both say of it."""
    first, second = (with_defaults(SampleSet, samples).value_ranges for samples in (calibration, evaluation))
    return {
        name: (min(low, second[name][0]), max(high, second[name][1]))
        for name, (low, high) in first.items()
        if name in second
    }


def measure_ranges(
    observer: Observer,
    samples: SampleSet,
    spec: SweepSpec,
    *,
    promised: Mapping[str, tuple[float, float]],
    path: Path,
    progress: Progress,
) -> Ranges:
    """Ranges over the calibration set, read from `path` if it holds them already, else written there.

    `promised` goes with them: ends that inputs can never pass.

    Raises:
        DataError: if a sample cannot be read, or FP32 itself makes NaN or infinite values.
        RunFolderError: if the file cannot be written.
    """
    samples_digest = f"{samples.digest}/{observer.placement}"
    digest = ranges_digest(observer.graph.digest, samples_digest, spec.range_method, spec.percentile)
    kept = load_ranges(path, digest)
    if kept is not None:
        return replace(kept, promised=promised)
    feeds = InputCache(samples, observer.graph, 1)
    tensors: list[TensorRange] = []
    for group in groups_of_tensors(observer.graph, observer.tensors):
        measured = collect_ranges(
            _Passes(observer, group, feeds, progress),
            group,
            method=spec.range_method,
            digest=digest,
            percentile=spec.percentile,
        )
        tensors += measured.tensors
    ranges = Ranges(spec.range_method, len(samples), digest, tuple(tensors), promised)
    save_ranges(path, ranges)
    return ranges


class _Passes:
    """Yields extremes when called first and all values when called again, telling how far it is."""

    def __init__(
        self, observer: Observer, tensors: Sequence[str], feeds: InputCache, progress: Progress
    ) -> None:
        self._observer = observer
        self._tensors = tensors
        self._feeds = feeds
        self._progress = progress
        self._is_first = True

    def __call__(self) -> Iterator[Mapping[str, Array]]:
        is_first, self._is_first = self._is_first, False
        source = self._observer.extremes if is_first else self._observer.values
        label = "calibrating: extremes" if is_first else "calibrating: histograms"
        for index, values in enumerate(source(self._tensors, self._feeds)):
            self._progress(index, self._feeds.sample_count, label)
            yield values
