"""The samples of a sweep as its loop uses them: opened, as calls that a graph is examined with, recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx

from qsens.calibration.plays import (
    ONCE,
    NumberedFrames,
    first_call,
    open_loop,
    open_own_loop,
    played,
    sample_inputs,
    spans,
    with_batch,
)
from qsens.calibration.recorded_calls import (
    RecordedCalls,
    calls_digest,
    fp32_call,
    keep_calls,
    kept_calls,
    record_calls,
)
from qsens.calibration.sets import open_sweep_sets
from qsens.core.interfaces import InputSpec, Loop, Progress, SampleSet
from qsens.core.spec import SweepSpec
from qsens.graph.graph import Graph
from qsens.graph.shapes import graph_inputs
from qsens.run.paths import RunPaths

if TYPE_CHECKING:
    from qsens.run.open import OpenedSweep

# Frames that show which pictures a loop over clips makes.
_SHOWN_FRAMES = 2
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sampled:
    """The two sets of a sweep, the loop that plays their samples, and the graph's inputs."""

    calibration: SampleSet
    evaluation: SampleSet
    loop: Loop
    inputs: tuple[InputSpec, ...]

    @property
    def examples(self) -> list[Mapping[str, Any]]:
        """Calls that a graph is examined with; the first, of the calibration set, decides shapes and MACs."""
        last = len(self.evaluation) - 1
        samples = (self.calibration.sample(0), self.evaluation.sample(0), self.evaluation.sample(last))
        return [first_call(self.loop, sample, self.inputs) for sample in samples]


def sampled(
    spec: SweepSpec, model: onnx.ModelProto, shapes: Mapping[str, Shape], *, is_asked: bool = False
) -> Sampled:
    """Open the loop and the sets of a spec; code of the user's own is run where a person asked for it.

    Raises:
        SpecError, DataError, PluginError: with what is wrong and what to do.
    """
    inputs = graph_inputs(model, shapes)
    outputs = [value.name for value in model.graph.output]
    loop = (open_own_loop if is_asked else open_loop)(spec.loop.to_dict(), inputs, outputs)
    held = sample_inputs(inputs, loop, [name for name, _ in spec.inputs])
    calibration, evaluation = open_sweep_sets(spec, held, whole_clips=loop.plays_clips)
    # What a loop over clips cannot play is refused before anything is exported or measured.
    for samples in (calibration, evaluation):
        spans(samples, 1, loop)
    if loop.plays_clips:
        calibration, evaluation = NumberedFrames(calibration), NumberedFrames(evaluation)
    return Sampled(calibration, evaluation, loop, inputs)


def with_pictures_of(graph: Graph, samples: Sampled, threads: int) -> Graph:
    """The graph with the pictures that the loop makes of the first sample as its example outputs.

    Raises:
        ScoreError, PluginError: for a loop that cannot be played.
    """
    if samples.loop is ONCE:
        return graph
    places = spans(samples.calibration, 1, samples.loop)[0][:_SHOWN_FRAMES]
    feeds = [with_batch(samples.calibration.sample(place), graph.inputs) for place in places]
    return replace(graph, example_outputs=played(samples.loop, fp32_call(graph, threads), feeds)[-1])


def scored_outputs(graph: Graph, pictures: Sequence[str], loop: Loop) -> Sequence[str]:
    """The outputs that scores depend on: the pictures, and all that a loop may feed back."""
    return pictures if loop is ONCE else graph.outputs


def feeds_digest(spec: SweepSpec, calibration: SampleSet) -> str:
    """The digest of what ranges are measured on: samples, or the calls that the loop makes of them."""
    return calls_digest(calibration.digest, spec.loop.to_dict())


def calibration_feeds(job: "OpenedSweep", folder: RunPaths, progress: Progress) -> SampleSet:
    """The feeds that ranges are measured on: samples, or the recorded calls of the loop, kept in the folder.

    Raises:
        DataError, ScoreError, PluginError: for a loop that cannot be played.
        RunFolderError: if they cannot be written.
    """
    if job.loop is ONCE:
        return job.calibration
    digest = feeds_digest(job.spec, job.calibration)
    kept = kept_calls(folder.calls_path, folder.call_arrays_path, digest)
    if kept is not None:
        return kept
    calls = recorded(job, job.calibration, progress)
    return keep_calls(folder.calls_path, folder.call_arrays_path, calls)


def recorded(job: "OpenedSweep", samples: SampleSet, progress: Progress) -> RecordedCalls:
    """The calls that the loop of a sweep makes of samples in FP32. Raises as `calibration_feeds`."""
    return record_calls(
        job.loop,
        samples,
        job.graph,
        digest=feeds_digest(job.spec, samples),
        threads=job.spec.threads,
        progress=progress,
    )


def kept_promises(
    promised: Mapping[str, tuple[float, float]], feeds: SampleSet, loop: Loop
) -> dict[str, tuple[float, float]]:
    """The ends that samples promise of inputs which the loop hands on as they are."""
    steps = feeds.facts.steps if isinstance(feeds, RecordedCalls) else ()

    def holds(name: str) -> bool:
        low, high = promised[name]
        found = [step.ends[name] for step in steps if name in step.ends]
        return name not in loop.fed and all(low <= least and most <= high for least, most in found)

    return {name: ends for name, ends in promised.items() if holds(name)}


def apart_places(feeds: SampleSet, samples: Sequence[int]) -> Sequence[int]:
    """Places of the feeds that were made of these samples."""
    return feeds.of_samples(samples) if isinstance(feeds, RecordedCalls) else samples
