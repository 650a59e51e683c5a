"""The plan of a sweep: the maps it would try and the time it would take, from a short timed probe."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsens.calibration.batches import InputCache, run_feeds
from qsens.calibration.measure import measure_ranges, promised_ranges
from qsens.calibration.plays import ONCE, spans
from qsens.calibration.recorded_calls import MOST_CALLS
from qsens.calibration.splits import SampleView, subset
from qsens.core.interfaces import SampleSet, ScoredBatch
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision
from qsens.device.leftovers import temporary_folder
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringPlan
from qsens.repair.cost import Pace, repair_seconds
from qsens.repair.stages import stages_of
from qsens.run.calibrated_graph import CalibratedGraph
from qsens.run.loop import PlannedMaps, plan_maps, silent
from qsens.run.looped import kept_promises, recorded
from qsens.run.open import OpenedSweep, lowering_options, scoring_context
from qsens.run.opening_notes import opening_warnings
from qsens.run.paths import RunPaths
from qsens.run.scored_layers import unscored_notes
from qsens.run.stages import screen_samples
from qsens.run.target import fitted, target_notes
from qsens.scoring.pictures import picture_outputs, picture_warning, pictures_from_values

PROBE_SAMPLES = 2


@dataclass(frozen=True)
class SweepPlan:
    """Maps, images and seconds of a sweep.

    `screens` are maps scored on `screen_samples` only. `map_s` is one map over the whole evaluation set,
    `once_s` what is done once (ranges, repair, features of real images), `repair_s` of it making INT8
    better, at most. `generator_s` is one picture, made by `calls_per_picture` calls. `is_complete` is false
    where a strategy decides on more maps while it runs.
    """

    maps: int
    screens: int
    is_complete: bool
    layers: int
    calibration_samples: int
    evaluation_samples: int
    screen_samples: int
    build_s: float
    generator_s: float
    features_s: float
    once_s: float
    repair_s: float
    warnings: tuple[str, ...]
    target_notes: tuple[str, ...] = ()
    calls_per_picture: float = 1.0

    @property
    def map_s(self) -> float:
        """Seconds for one map."""
        return self.build_s + self.evaluation_samples * (self.generator_s + self.features_s)

    @property
    def screen_s(self) -> float:
        """Seconds for screening one map."""
        return self.build_s + self.screen_samples * (self.generator_s + self.features_s)

    @property
    def total_s(self) -> float:
        """Seconds for the sweep."""
        return self.once_s + self.maps * self.map_s + self.screens * self.screen_s


def plan_sweep(opened: OpenedSweep) -> SweepPlan:
    """Count the maps and time the steps on two calibration and one batch of evaluation samples.

    Raises:
        QsensError: for everything that would stop the sweep at its first map.
    """
    plan = LoweringPlan.of(opened.graph)
    options = lowering_options(opened.spec)
    few, calls = _probe(opened)
    with temporary_folder() as folder:
        observer = plan.observer(options.placement, opened.spec.threads)
        start = time.perf_counter()
        promised = promised_ranges(opened.calibration, opened.evaluation)
        ranges = measure_ranges(
            observer,
            few,
            opened.spec,
            promised=kept_promises(promised, few, opened.loop),
            path=RunPaths(folder).ranges_path,
            progress=silent,
        )
        sample_s = (time.perf_counter() - start) / len(few)
    opened = fitted(opened, CalibratedGraph(opened.spec, plan, ranges, options))
    planned = _as_scored(opened.planned or plan_maps(opened.graph.layers, opened.strategy), opened)
    int8 = uniform_map(opened.graph.layers, Precision.INT8)
    start = time.perf_counter()
    with opened.backend.build(lower_graph(plan, int8, ranges, options)) as engine:
        build_s = time.perf_counter() - start
        inputs = InputCache(opened.evaluation, opened.graph, opened.spec.batch_size, opened.loop)
        feeds = next(inputs.batches())
        outputs, batch_s = _timed(lambda: run_feeds(engine, feeds, opened.loop))
    rule = opened.spec.output
    pictures = {name: pictures_from_values(outputs[name], rule) for name in picture_outputs(outputs, rule)}
    features_s = sum(_features_s(opened, images) for images in pictures.values())
    for images in pictures.values():
        _try_metrics(opened, images)
    generator_s = batch_s / len(images)
    pace = Pace(build_s, generator_s / calls, sample_s)
    feeds_count = _feeds_count(opened, calls)
    repair_s = repair_seconds(plan, options, stages_of(opened.spec.stages_of_repair), feeds_count, pace)
    return SweepPlan(
        maps=len(planned.maps),
        screens=len(planned.screens),
        is_complete=planned.is_complete,
        layers=len(opened.graph.layers),
        calibration_samples=len(opened.calibration),
        evaluation_samples=len(opened.evaluation),
        screen_samples=screen_samples(opened.spec.screen_samples, len(opened.evaluation)),
        build_s=build_s,
        generator_s=generator_s,
        features_s=features_s,
        once_s=sample_s * feeds_count
        + generator_s * _played_count(opened)
        + repair_s
        + features_s * _reference_count(opened),
        repair_s=repair_s,
        warnings=(
            *opening_warnings(opened),
            *unscored_notes(opened.graph.layers),
            *_picture_warnings(pictures),
        ),
        target_notes=tuple(target_notes(opened)),
        calls_per_picture=calls,
    )


def _probe(opened: OpenedSweep) -> tuple[SampleSet, float]:
    """Feeds to measure ranges on, and the calls that make one picture."""
    samples, loop = opened.calibration, opened.loop
    if loop is ONCE:
        return subset(samples, min(PROBE_SAMPLES, len(samples)), opened.spec.seed), 1.0
    places = spans(samples, PROBE_SAMPLES, loop)[0][:PROBE_SAMPLES]
    calls = recorded(opened, SampleView(samples, places, ", to plan"), silent)
    return calls, calls.facts.total / calls.facts.samples


def _feeds_count(opened: OpenedSweep, calls: float) -> int:
    """Feeds that ranges are measured on."""
    count = round(calls * len(opened.calibration))
    return count if opened.loop is ONCE else min(count, MOST_CALLS)


def _played_count(opened: OpenedSweep) -> int:
    """Samples that a loop plays before ranges are measured."""
    return 0 if opened.loop is ONCE else len(opened.calibration)


def _as_scored(planned: PlannedMaps, opened: OpenedSweep) -> PlannedMaps:
    """The plan, where a screen on no fewer samples than there are is a score like any other."""
    total = len(opened.evaluation)
    if screen_samples(opened.spec.screen_samples, total) < total:
        return planned
    return replace(planned, maps=(*planned.maps, *planned.screens), screens=())


def _picture_warnings(pictures: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> list[str]:
    """Sentences on what looks wrong about pictures, by output; of several, each is named."""
    found = {name: picture_warning(images) for name, images in pictures.items()}
    named = len(pictures) > 1
    return [f"output {name!r}: {text}" if named else text for name, text in found.items() if text is not None]


def _try_metrics(opened: OpenedSweep, images: np.ndarray[Any, np.dtype[Any]]) -> None:
    """Let metrics that read pictures alone look at some: they may be too small, or of another kind."""
    for metric in opened.metrics:
        if not metric.needs_features:
            batch = ScoredBatch(0, images, images, None)
            metric.start(scoring_context(opened, None)).update(batch)


def _features_s(opened: OpenedSweep, images: np.ndarray[Any, np.dtype[Any]]) -> float:
    """Seconds an image."""
    extractor = opened.extractor
    if extractor is None:
        return 0.0
    return _timed(lambda: extractor.run(images))[1] / len(images)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Result and seconds of the second call: the first one warms up."""
    call()
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def _reference_count(opened: OpenedSweep) -> int:
    return 0 if opened.reference is None else len(opened.reference)
