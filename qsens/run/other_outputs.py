"""Outputs that no score looks at, compared with FP32's: what goes wrong there is at least written down."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qsens.calibration.batches import InputCache, run_feeds
from qsens.core.interfaces import Engine
from qsens.core.precision import Precision, PrecisionMap
from qsens.device.goldens import relative_error
from qsens.engines.lowering.lower import lower_graph
from qsens.run.stages import Workload
from qsens.scoring.pictures import picture_outputs

Array = np.ndarray[Any, np.dtype[Any]]


class OtherOutputs:
    """Relative errors on the first batch of `inputs`, against an FP32 engine that is built once."""

    def __init__(self, inputs: InputCache, workload: Workload) -> None:
        self._inputs = inputs
        self._workload = workload
        # a graph whose one output is the picture has no others
        self._wanted: Mapping[str, Array] | None = {} if len(workload.plan.graph.outputs) == 1 else None

    def errors(self, engine: Engine) -> tuple[tuple[str, float], ...]:
        """The relative error of every output that is not scored, by name; infinite where it is not finite."""
        if self._wanted is None:
            self._wanted = self._of_fp32()
        found = self._outputs(engine) if self._wanted else {}
        return tuple((name, _error(found[name], value)) for name, value in self._wanted.items())

    def _of_fp32(self) -> dict[str, Array]:
        """Outputs that are numbers; there are lists of texts too."""
        work = self._workload
        fp32 = PrecisionMap(Precision.FP32)
        lowered = lower_graph(work.plan, fp32, work.ranges, work.options, work.backend.flavour)
        with work.backend.build(lowered) as engine:
            outputs = self._outputs(engine)
        return {name: value for name, value in outputs.items() if value.dtype.kind in "biuf"}

    def _outputs(self, engine: Engine) -> dict[str, Array]:
        outputs = run_feeds(engine, next(self._inputs.batches()), self._workload.loop)
        scored = picture_outputs(outputs, self._workload.output)
        return {name: value for name, value in outputs.items() if name not in scored}


def _error(found: Array, wanted: Array) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    error = relative_error(found, wanted)
    return error if np.isfinite(error) else float("inf")
