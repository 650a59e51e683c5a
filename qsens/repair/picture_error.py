"""The error of the pictures with INT8 in every layer that allows it, against FP32's, on a few samples."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsens.calibration.batches import InputCache
from qsens.calibration.ranges import Ranges
from qsens.core.errors import DataError
from qsens.core.interfaces import OutputRule, SampleSet
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.scoring.pictures import picture_outputs

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class PictureError:
    """Measures plans and ranges by the pictures of INT8 everywhere, in exact arithmetic.

    `targets` are FP32's pictures of the samples in `inputs`: for each feed one array for each of `outputs`.
    """

    options: LoweringOptions
    outputs: Sequence[str]
    inputs: InputCache
    targets: Sequence[Sequence[Array]]
    backend: OnnxRuntimeBackend

    @classmethod
    def of(
        cls,
        plan: LoweringPlan,
        options: LoweringOptions,
        samples: SampleSet,
        *,
        rule: OutputRule,
        threads: int,
        batch_size: int = 8,
    ) -> "PictureError":
        """The measure on `samples`; FP32's pictures are made here.

        Raises:
            DataError: if FP32's pictures are the same everywhere, so that no error can be told.
        """
        backend = OnnxRuntimeBackend(threads=threads, reuse_mib=0)
        inputs = InputCache(samples, plan.graph, batch_size)
        session = backend.open_session(plan.graph.model)
        names = [value.name for value in session.get_outputs()]
        outputs: Sequence[str] = ()
        targets = []
        for feed in inputs.singly():
            values = dict(zip(names, session.run(None, dict(feed)), strict=True))
            outputs = outputs or picture_outputs(values, rule)
            targets.append([values[name] for name in outputs])
        for pictures in zip(*targets, strict=True):
            if not float(np.var(np.concatenate([target.reshape(-1) for target in pictures]))) > 0:
                raise DataError("FP32's pictures of the calibration samples have one value throughout")
        return cls(options, outputs, inputs, targets, backend)

    def __call__(self, plan: LoweringPlan, ranges: Ranges) -> float:
        """Mean squared error of the pictures, relative to the variance of FP32's; the worst output's."""
        return self._error(plan, ranges, uniform_map(plan.graph.layers, Precision.INT8))

    def of_layers(self, plan: LoweringPlan, ranges: Ranges, layers: Collection[str]) -> float:
        """The same with INT8 in those layers alone, and FP32 in the others."""
        everywhere = uniform_map(plan.graph.layers, Precision.INT8).assignment(
            layer.name for layer in plan.graph.layers
        )
        alone = {name: kind if name in layers else Precision.FP32 for name, kind in everywhere.items()}
        return self._error(plan, ranges, PrecisionMap.over(alone))

    def _error(self, plan: LoweringPlan, ranges: Ranges, precision_map: PrecisionMap) -> float:
        lowered = lower_graph(plan, precision_map, ranges, self.options)
        detached = lowered.detached
        session = self.backend.open_session(detached.skeleton, weights=detached.weights)
        squares, variances = np.zeros(len(self.outputs)), np.zeros(len(self.outputs))
        for feed, targets in zip(self.inputs.singly(), self.targets, strict=True):
            pictures = session.run(list(self.outputs), dict(feed))
            for place, (values, target) in enumerate(zip(pictures, targets, strict=True)):
                squares[place] += float(np.square(values - target, dtype=np.float64).sum())
                variances[place] += float(np.square(target - target.mean(), dtype=np.float64).sum())
        return float((squares / variances).max())
