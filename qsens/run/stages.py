"""The work of a run: engines of maps, and their pictures scored on all samples or those of a screen."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.batches import Feed, InputCache
from qsens.calibration.plays import ONCE, spans
from qsens.calibration.ranges import Ranges
from qsens.calibration.real_images import RealImages
from qsens.calibration.splits import SampleView, spread_places
from qsens.core.errors import PluginError, ScoreError
from qsens.core.files import write_atomically
from qsens.core.interfaces import (
    Accumulator,
    Backend,
    Engine,
    Extractor,
    Loop,
    Measurement,
    Metric,
    OutputRule,
    Progress,
    SampleSet,
    ScoredBatch,
    ScoringContext,
)
from qsens.core.plugins import with_defaults
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Request, Score, requested_map
from qsens.device.npz_sizes import read_arrays
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.run.evidence import Baseline, is_features
from qsens.run.target import TargetMaps
from qsens.scoring.extractors import features_of_images
from qsens.scoring.intervals import paired_standard_error
from qsens.scoring.sheets import Sheet, WorstPicture

Array = np.ndarray[Any, np.dtype[Any]]
# Rounding of another batch size moves single values by one level.
MOST_MIXED_LEVELS = 0.5
# One clip alone would have no interval.
_LEAST_PLAYS = 2
_ONE_AT_A_TIME = "use --batch-size 1, and report this with the generator's file"


def screen_samples(wished: int, total: int) -> int:
    """The number of samples of a screen: `total`, as any other score, where `wished` is 0 or no fewer."""
    return wished if 0 < wished < total else total


@dataclass(frozen=True, eq=False)
class Stage:
    """Samples of a score: those at `places` of the evaluation set, with the context of scoring them alone.

    `metrics` are those that score them.
    """

    inputs: InputCache
    context: ScoringContext
    places: tuple[int, ...]
    metrics: Sequence[Metric]


def context_with(stage: Stage, baseline: Baseline | None) -> ScoringContext:
    """The context of scoring on that stage; without baseline where FP32 itself is scored."""
    if baseline is None:
        return stage.context
    return replace(stage.context, baseline_features=baseline.evidence.features)


def baseline_images(baseline: Baseline | None, start: int, images: Array) -> Array:
    """FP32's pictures of the samples from `start` on. Raises `ScoreError` if they have another size."""
    if baseline is None:
        return images
    found = np.asarray(baseline.images[start : start + len(images)])
    if found.shape != images.shape:
        raise ScoreError(f"images of shape {images.shape}, but FP32 made {found.shape} of these inputs")
    return found


def check_batch(
    images: Array, stage: Stage, start: int, pictures: Callable[[Feed], Array], sheet: Sheet | None = None
) -> None:
    """Check FP32's pictures of the samples from `start` on: one a sample, and that which it has alone.

    Of sheets every picture is looked at.

    Raises:
        ScoreError: for another number of pictures, or ones that depend on the batch.
    """
    count = stage.inputs.count_from(start)
    if len(images) != count:
        raise ScoreError(
            f"{count} samples make {len(images)} pictures, not {count}",
            "name the output that is the picture with --output NAME, or export one with a batch axis",
        )
    # A frame is not what it would be without those before it.
    if start == 0 and count > 1 and not stage.inputs.loop.plays_clips:
        alone = pictures(stage.inputs.alone(count - 1))
        pairs = [(images[-1:], alone)]
        if sheet is not None:
            pairs = list(zip(sheet.parts(images[-1:]), sheet.parts(alone), strict=True))
        for together, single in pairs:
            refuse_mixing(together[0], single[0])


def refuse_mixing(together: Array, alone: Array) -> None:
    """Check that a sample's picture of a batch is the one that it has alone, both uint8 (3, H, W).

    Raises:
        ScoreError: if the samples of a batch change each other: scores would depend on the batch size.
    """
    if together.shape != alone.shape:
        raise ScoreError(f"a picture of {together.shape} in a batch is {alone.shape} alone", _ONE_AT_A_TIME)
    levels = float(np.mean(np.abs(together.astype(np.float32) - alone)))
    if levels > MOST_MIXED_LEVELS:
        raise ScoreError(
            f"a picture of a batch is another than alone: by {levels:.1f} of 255 levels in the mean",
            _ONE_AT_A_TIME,
        )


def with_differences(
    measurements: Sequence[Measurement], stage: Stage, baseline: Baseline
) -> tuple[Score, ...]:
    """The scores with their differences from FP32, paired over the samples of the stage."""
    return tuple(_with_difference(measured, stage, baseline) for measured in measurements)


def _with_difference(measured: Measurement, stage: Stage, baseline: Baseline) -> Score:
    label = measured.score.metric
    influence = baseline.evidence.influences.get(label)
    # A score of FP32 against itself does not vary: such a score already is a difference from FP32.
    if measured.influence is None or influence is None or not np.any(influence):
        return measured.score
    if len(measured.influence) != len(influence):  # a slow metric's, on a few samples
        return measured.score
    return replace(
        measured.score,
        difference=measured.score.value - baseline.values[label],
        difference_standard_error=paired_standard_error(
            measured.influence, influence, stage.context.clusters
        ),
    )


class Seen:
    """The parts of one map's batches that are kept: all features, and the pictures at some places."""

    def __init__(self, kept: frozenset[int]) -> None:
        self._kept = kept
        self._images: dict[int, Array] = {}
        self._features: list[Array] = []

    def add(self, batch: ScoredBatch) -> None:
        """Take the next batch."""
        if batch.features is not None:
            self._features.append(batch.features)
        self._images |= {
            place: image for place, image in enumerate(batch.images, batch.start) if place in self._kept
        }

    def images_at(self, places: Sequence[int]) -> Array:
        """Pictures, uint8 (N, 3, H, W). Raises `ScoreError` if they differ in size."""
        if len({self._images[place].shape for place in places}) > 1:
            raise ScoreError("FP32's images differ in size", "give all inputs one size with --resize HxW")
        return np.stack([self._images[place] for place in places])

    def joined_features(self) -> Array | None:
        """Features (N, D), or `None` where none were asked for."""
        return np.concatenate(self._features) if self._features else None


def measured_by(metric: Metric, accumulator: Accumulator) -> Measurement:
    """The measurement of a metric's accumulator, in the direction that the metric declares.

    Raises:
        PluginError: if the score says the opposite of the metric: which map is best would be chance.
        ScoreError: for images that cannot be scored.
    """
    measured = accumulator.compute()
    if measured.score.lower_is_better != metric.lower_is_better:
        said = {True: "lower is better", False: "higher is better"}
        raise PluginError(
            f"the metric {metric.name!r} declares that {said[metric.lower_is_better]}, its score says that "
            f"{said[measured.score.lower_is_better]}",
            "report this to its authors; qsens.testing.check_metric finds it",
        )
    return measured


def influences_of(measurements: Sequence[Measurement]) -> dict[str, Array]:
    """Influences by metric, of those that have any."""
    return {
        measured.score.metric: measured.influence
        for measured in measurements
        if measured.influence is not None
    }


def values_of(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Values by metric."""
    return {measured.score.metric: measured.score.value for measured in measurements}


@dataclass(frozen=True, eq=False)
class Workload:
    """Everything that the maps of a run are evaluated with; the same for all of them.

    `screen_samples` of the samples stand for all when a map is screened; 0 where the run does not screen.
    `expected` are maps in the order in which they will be evaluated, as far as that is known: a backend
    that shares work between maps keeps what the next ones need. `target` is what the maps are for, `None`
    where they are scored as they are asked for. `loop` makes the pictures of calls of their engines.
    """

    plan: LoweringPlan
    ranges: Ranges
    options: LoweringOptions
    backend: Backend
    samples: SampleSet
    output: OutputRule
    metrics: Sequence[Metric]
    context: ScoringContext
    batch_size: int
    screen_samples: int = 0
    expected: Sequence[PrecisionMap] = ()
    target: TargetMaps | None = None
    loop: Loop = ONCE

    def scored_map(self, requested: PrecisionMap) -> PrecisionMap:
        """The map whose engine is scored for the one that is asked for. Raises `BuildError`."""
        return requested if self.target is None else self.target.scored_map(requested)


def with_every_picture(workload: Workload, sheet: Sheet | None) -> Workload:
    """The same work where the pictures are sheets: each of their pictures is scored."""
    if sheet is None:
        return workload
    extractor = workload.context.extractor
    wide = None if extractor is None else sheet.extractor(extractor)
    return replace(
        workload,
        metrics=tuple(WorstPicture(metric, sheet, extractor) for metric in workload.metrics),
        context=replace(workload.context, extractor=wide),
    )


def reference_features(images: RealImages, extractor: Extractor, *, path: Path, progress: Progress) -> Array:
    """Features float32 (M, D) of real images, kept in `path` with what they depend on.

    Raises:
        DataError: for a file that is no image.
        RunFolderError: if they cannot be written.
    """
    digest = f"{images.digest}/{extractor.identity}"
    with contextlib.suppress(OSError, ValueError):  # absent or damaged ones are computed again
        kept = read_arrays(path, ("digest", "features"))
        if str(kept["digest"]) == digest and is_features(kept["features"]):
            return np.asarray(kept["features"])
    features = features_of_images(images, extractor, progress)
    write_atomically(
        path, lambda file: np.savez(file, features=features, digest=np.array(digest), allow_pickle=False)
    )
    return features


def screened_places(samples: SampleSet, few: int, loop: Loop) -> tuple[int, ...]:
    """About `few` places that are spread over a set; whole plays of a loop that plays clips, at least two."""
    if not loop.plays_clips:
        return spread_places(len(samples), few)
    groups = spans(samples, 1, loop)
    wished = max(round(few * len(groups) / len(samples)), _LEAST_PLAYS)
    chosen = spread_places(len(groups), min(wished, len(groups)))
    return tuple(place for group in chosen for place in groups[group])


def stage_of(workload: Workload, places: tuple[int, ...]) -> Stage:
    """The stage of the samples at `places` of the evaluation set."""
    context, samples = workload.context, workload.samples
    if len(places) < len(samples):
        samples = SampleView(samples, places, ", for screening")
        context = replace(
            context,
            images=len(places),
            evaluation_digest=samples.digest,
            clusters=None if context.clusters is None else context.clusters[list(places)],
            samples=samples,
        )
    inputs = InputCache(samples, workload.plan.graph, workload.batch_size, workload.loop)
    return Stage(inputs, context, places, workload.metrics)


class MapEngines:
    """Lowers maps of a workload and builds their engines."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._announced: tuple[PrecisionMap, ...] = ()
        # What a loop feeds back differs from map to map: nothing of it is there to be used again.
        self._reuse = workload.backend.reusing(self.lowered) if workload.loop is ONCE else None

    def expect(self, requests: Sequence[Request]) -> None:
        """Hear which maps come next, in order, where `Workload.expected` could not tell yet."""
        self._announced = tuple(requested_map(request) for request in requests)

    def lowered(self, requested: PrecisionMap) -> LoweredGraph:
        """The map in the backend's flavour. Raises `BuildError` for one that cannot be lowered."""
        work = self._workload
        return lower_graph(work.plan, requested, work.ranges, work.options, work.backend.flavour)

    def build(self, lowered: LoweredGraph) -> Engine:
        """The engine of a lowered map. Raises `BuildError`."""
        if self._reuse is None:
            engine = self._workload.backend.build(lowered)
        else:
            engine = self._reuse.build(lowered, self._following(lowered.requested))
        complete: Engine = with_defaults(Engine, engine)
        return complete

    def _following(self, requested: PrecisionMap) -> Sequence[PrecisionMap]:
        for maps in (self._workload.expected, self._announced):
            if requested in maps:
                return maps[list(maps).index(requested) + 1 :]
        return ()
