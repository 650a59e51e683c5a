"""Golden samples of a bundle: inputs, the loop that plays them, and their outputs in exact arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsens.calibration.plays import open_loop, spans
from qsens.calibration.splits import SampleView, spread_places
from qsens.core.errors import DataError, ScoreError
from qsens.core.interfaces import InputSpec, SampleSet
from qsens.core.precision import PrecisionMap
from qsens.device.bundle_files import BundleInput
from qsens.device.bundle_loop import LOOPS, BundleLoop, opened_loop
from qsens.device.errors import DeviceError
from qsens.device.goldens import run_in_batches
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.reopen import ReopenedRun
from qsens.scoring.pictures import picture_output

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class GoldenSamples:
    """Samples that a bundle compares its engine on.

    `indices` are their places in the evaluation set. `inputs` are arrays by name, samples first; `calls` the
    same of all inputs of calls, of the shapes that the engine is built for. Where there is a `loop`, it
    makes calls of the samples: then `inputs` lack what it makes itself. Without one they are calls.
    """

    indices: tuple[int, ...]
    inputs: Mapping[str, Array]
    calls: Mapping[str, Array]
    loop: BundleLoop | None

    def without_fixed(self, inputs: Sequence[InputSpec]) -> "GoldenSamples":
        """The same for a graph that has only these inputs left."""
        names = {entry.name for entry in inputs}
        held = {name: value for name, value in self.inputs.items() if name in names}
        loop = None if self.loop is None else replace(self.loop, samples=tuple(held))
        return replace(self, inputs=held, loop=loop)


def golden_samples(run: ReopenedRun, count: int) -> GoldenSamples:
    """`count` samples spread over the evaluation set; consecutive frames for a loop that plays clips.

    A loop that bundles cannot play, code of the user's own, has golden calls in place of samples.

    Raises:
        DataError: if a sample cannot be read, or samples differ in size: an engine takes one size.
        RunFolderError: if the recorded calls of a loop are gone.
    """
    table = run.spec.loop.to_dict()
    if not table:
        indices = spread_places(len(run.evaluation), count)
        inputs = _stacked([run.evaluation.sample(index) for index in indices])
        return GoldenSamples(indices, inputs, inputs, None)
    calls = _calls(run)
    name = table.pop("name")
    if name not in LOOPS:
        places = spread_places(len(calls), count)
        inputs = _stacked([calls.sample(place) for place in places])
        return GoldenSamples(tuple(places), inputs, inputs, None)
    indices = _indices(run, count)
    inputs = _stacked([run.evaluation.sample(index) for index in indices])
    return GoldenSamples(indices, inputs, _stacked([calls.sample(0)]), BundleLoop(name, table, tuple(inputs)))


def _indices(run: ReopenedRun, count: int) -> tuple[int, ...]:
    outputs = [value.name for value in run.graph.model.graph.output]
    loop = open_loop(run.spec.loop.to_dict(), run.graph.inputs, outputs)
    if loop.plays_clips:
        return tuple(spans(run.evaluation, 1, loop)[0][:count])
    return spread_places(len(run.evaluation), count)


def _calls(run: ReopenedRun) -> SampleSet:
    """The recorded calls that have the shapes of the last one: a first state may be broadcast."""
    calls = run.feeds
    last = {name: value.shape for name, value in calls.sample(len(calls) - 1).items()}
    alike = [
        place
        for place in range(len(calls))
        if {name: value.shape for name, value in calls.sample(place).items()} == last
    ]
    return SampleView(calls, alike, ", of the last one's shapes")


def _stacked(samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    try:
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    except ValueError as error:
        raise DataError(
            f"the evaluation samples differ in size: {error}", "use --goldens 1, or inputs of one size"
        ) from error


def picture_of_bundle(run: ReopenedRun, outputs: Mapping[str, Array]) -> str:
    """The output that is compared as the picture; of single calls of a loop it may not be among them."""
    if run.spec.output.name not in (None, *outputs):
        return next(iter(outputs))
    return picture_output(outputs, run.spec.output)


def exact_outputs(run: ReopenedRun, precision_map: PrecisionMap, samples: GoldenSamples) -> dict[str, Array]:
    """Float32 outputs of a map as it is scored, by name, samples first.

    Raises:
        ScoreError: for values that are not finite, naming the layers where FP16 overflowed.
    """
    entries = [
        BundleInput(entry.name, entry.dtype, samples.calls[entry.name].shape[1:], entry.is_batched)
        for entry in run.graph.inputs
    ]
    held = [entry for entry in entries if entry.name in samples.inputs]
    count = len(next(iter(samples.inputs.values())))
    size = min(run.spec.batch_size, count) if run.graph.can_batch else 1
    loop = opened_loop(samples.loop, entries, run.graph.outputs, size)
    with OnnxRuntimeBackend(threads=run.spec.threads).build(run.lower(precision_map)) as engine:
        try:
            outputs = run_in_batches(engine.run, samples.inputs, held, size, loop)
        except DeviceError as error:
            raise ScoreError(error.message, error.hint) from error
        overflows = engine.fp16_overflows()
    broken = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if not broken:
        return {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    message = f"output {broken[0]!r} of the goldens holds NaN or infinite values"
    if not overflows:
        raise ScoreError(message, "the generator itself makes them: check its inputs, or drop that output")
    raise ScoreError(
        f"{message}: FP16 overflowed in {', '.join(sorted(overflows))}",
        f"sweep again and keep what overflows in FP32, for example with --pin {min(overflows)}=fp32",
    )
