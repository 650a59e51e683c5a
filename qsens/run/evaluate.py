"""Evaluating one precision map: lower, build, run over the evaluation set, score, keep the evidence."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.batches import Feed, run_feeds
from qsens.calibration.splits import spread_places
from qsens.core.errors import QsensError, QsensWarning, ScoreError
from qsens.core.files import write_atomically
from qsens.core.interfaces import (
    Engine,
    Measurement,
    Metric,
    Progress,
    ScoredBatch,
)
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Score, Screen, Trial, requested_map
from qsens.device.audit import mismatches
from qsens.engines.lowering.lower import LoweredGraph
from qsens.engines.lowering.tensor_graph import graph_identity
from qsens.run.calibrated_graph import CalibratedGraph, calibrated_graph
from qsens.run.evidence import (
    Baseline,
    Evidence,
    ScoredGraphs,
    keep_baseline,
    load_baseline,
    samples_path,
    save_audit,
    save_evidence,
    with_images_digest,
)
from qsens.run.folder import RunFolder
from qsens.run.in_order import InProcess, TrialRunner
from qsens.run.loop import StoppedError
from qsens.run.open import OpenedSweep, scoring_context
from qsens.run.other_outputs import OtherOutputs
from qsens.run.paths import RunPaths
from qsens.run.slow_metrics import quick_metrics
from qsens.run.stages import (
    MapEngines,
    Seen,
    Stage,
    Workload,
    baseline_images,
    check_batch,
    context_with,
    influences_of,
    measured_by,
    reference_features,
    screen_samples,
    screened_places,
    stage_of,
    values_of,
    with_differences,
    with_every_picture,
)
from qsens.run.target import target_maps
from qsens.scoring.pictures import refuse_one_level
from qsens.scoring.several_extractors import by_each_extractor, widths_of
from qsens.scoring.sheets import Sheet, pictures_of

# What evaluates maps elsewhere, made once the run folder is open.
RunnerFactory = Callable[["OpenedSweep", "RunFolder"], "TrialRunner"]

BASELINE = 0
SHOWN_SAMPLES = 6
Array = np.ndarray[Any, np.dtype[Any]]


class Evaluator:
    """Scores maps against the FP32 outputs, which it keeps in the `evidence` folder.

    `fp32` is the FP32 trial of an earlier run of the same folder, if there was one.
    """

    def __init__(self, workload: Workload, *, evidence: Path, samples: Path, fp32: Trial | None) -> None:
        self._sheet = Sheet.of(workload.plan.graph.example_outputs, workload.output)
        self.workload = workload = with_every_picture(workload, self._sheet)
        self.evidence = evidence
        self.samples = samples
        total = len(workload.samples)
        self._scored = ScoredGraphs(evidence, samples)
        self._all = stage_of(workload, tuple(range(total)))
        few = screen_samples(workload.screen_samples, total)
        places = screened_places(workload.samples, few, workload.loop)
        self._few = stage_of(workload, places) if len(places) < total else None
        self._fp32: Trial | None = None
        self._baseline: Baseline | None = None
        self._baseline_of_few: Baseline | None = None
        self._metrics_of_few: tuple[Metric, ...] = ()
        self._usual = replace(self._all, metrics=quick_metrics(workload.metrics, self._all.context, few))
        self._anchors = frozenset(anchor_maps(workload.plan.graph.layers).values())
        self._engines = MapEngines(workload)
        self._others = OtherOutputs(self._all.inputs, workload)
        self.use_baseline(fp32)

    def use_baseline(self, fp32: Trial | None) -> None:
        """Take the FP32 outputs that the trial `fp32` left in the folder, unless they are at hand.

        They are made again with the next map where a file is gone, or `fp32` is `None`.
        """
        self._fp32 = fp32 or self._fp32
        if self._baseline is None and fp32 is not None:
            self._baseline = load_baseline(self.evidence, fp32, len(self.workload.samples))

    def expect(self, requests: Sequence[Request]) -> None:
        """Hear which maps come next, in order, where `Workload.expected` could not tell yet."""
        self._engines.expect(requests)

    def __call__(self, number: int, request: Request) -> Trial:
        """Build and score one map, or screen it where the run screens, and write its evidence.

        A map whose graph was scored before takes what was found then.

        Raises:
            BuildError: if the backend cannot build it.
            ScoreError: if its outputs cannot be scored.
        """
        start = time.perf_counter()
        requested = requested_map(request)
        if requested == PrecisionMap(Precision.FP32):
            self._baseline = self._baseline_of_few = None
        else:
            self._scored.forget(number)
            self.baseline()
        stage = self._stage_for(request)
        lowered = self._engines.lowered(self.workload.scored_map(requested))
        graph = graph_identity(lowered)
        outcome = Outcome.SCREENED if stage is self._few else Outcome.SCORED
        trial = None
        # FP32 makes the pictures that all others are compared with.
        if requested != PrecisionMap(Precision.FP32):
            trial = self._scored.take(graph, outcome, number, requested)
        if trial is None:
            trial = self._run(number, lowered, stage)
            trial = replace(trial, requested=requested, outcome=outcome, graph=graph)
            trial = self._scored.keep(trial)
        if requested == PrecisionMap(Precision.FP32):
            trial = with_images_digest(self.evidence, trial)
        return replace(trial, duration_s=time.perf_counter() - start)

    def _stage_for(self, request: Request) -> Stage:
        if isinstance(request, Screen) and self._few is not None:
            return self._few
        return self._all if requested_map(request) in self._anchors else self._usual

    def slow_scores(self, requested: PrecisionMap) -> tuple[Score, ...]:
        """The scores of slow metrics on all samples, of a map that has all others.

        Raises:
            BuildError: if the backend cannot build it.
            ScoreError: if its outputs cannot be scored.
        """
        baseline = self.baseline()
        context = context_with(self._all, baseline)
        started = [(metric, metric.start(context)) for metric in self.workload.metrics if metric.is_slow]
        with self._engines.build(self._engines.lowered(self.workload.scored_map(requested))) as engine:
            for batch in self._batches(engine, self._all, baseline):
                for _, accumulator in started:
                    accumulator.update(batch)
        measured = [measured_by(metric, accumulator) for metric, accumulator in started]
        return with_differences(measured, self._all, baseline)

    def baseline(self) -> Baseline:
        """FP32's outputs, made again where their files are gone or changed.

        Warns where they are not those of FP32's trial.
        """
        if self._baseline is None:
            self._make_baseline_again()
        assert self._baseline is not None, "FP32 has just been scored"
        return self._baseline

    def _make_baseline_again(self) -> None:
        made = self(BASELINE, PrecisionMap(Precision.FP32))
        before = None if self._fp32 is None else self._fp32.digest_of("images")
        if before not in (None, made.digest_of("images")):
            warnings.warn(
                "FP32's pictures, made again, are not those that earlier maps were compared with: another "
                "processor or library? Scores from here on may differ from those in the last digits",
                QsensWarning,
                stacklevel=2,
            )

    def _run(self, number: int, lowered: LoweredGraph, stage: Stage) -> Trial:
        with self._engines.build(lowered) as engine:
            scores, screen_scores = self._score_or_explain(number, engine, stage)
            audit = engine.audit
            if audit:
                save_audit(self.evidence, number, audit)
            return Trial(
                number=number,
                requested=lowered.requested,
                applied=engine.applied,
                outcome=Outcome.SCORED,
                scores=scores,
                output_errors=self._others.errors(engine),
                screen_scores=screen_scores,
                size_bytes=engine.size_bytes,
                fp16_overflows=tuple(sorted(engine.fp16_overflows().items())),
                mismatches=tuple(row.layer for row in mismatches(audit)),
            )

    def _score_or_explain(
        self, number: int, engine: Engine, stage: Stage
    ) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
        try:
            return self._score(number, engine, stage)
        except ScoreError as error:
            overflows = engine.fp16_overflows()
            if not overflows:
                raise
            layer = max(overflows, key=lambda name: overflows[name])
            raise ScoreError(
                f"{error.message}; FP16 overflowed in {', '.join(sorted(overflows))}",
                f"keep what overflows in FP32, for example with --pin {layer}=fp32",
            ) from error

    def _score(
        self, number: int, engine: Engine, stage: Stage
    ) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
        """Scores on the samples of the stage; of a score on all samples also those on the few."""
        baseline = self._screen_baseline() if stage is self._few else self._baseline
        seen = Seen(self._kept_places(stage, baseline))
        metrics = self._metrics_of_few if stage is self._few else stage.metrics
        accumulators = [metric.start(context_with(stage, baseline)) for metric in metrics]
        for batch in self._batches(engine, stage, baseline):
            for accumulator in accumulators:
                accumulator.update(batch)
            seen.add(batch)
        measurements = [
            measured_by(metric, accumulator)
            for metric, accumulator in zip(metrics, accumulators, strict=True)
        ]
        clusters = stage.context.clusters
        widths = widths_of(self.workload.context.extractor)
        evidence = Evidence(seen.joined_features(), influences_of(measurements), clusters, widths)
        if baseline is None:
            images = seen.images_at(stage.places)
            if self._sheet is None:
                refuse_one_level(images)
            else:
                self._sheet.refuse_one_level(images)
            self._baseline = baseline = keep_baseline(
                self.evidence, images, evidence, values_of(measurements)
            )
        save_evidence(self.evidence, number, evidence)
        if stage is self._few:
            return with_differences(measurements, stage, baseline), ()
        shown = seen.images_at(spread_places(len(stage.places), SHOWN_SAMPLES))
        write_atomically(
            samples_path(self.samples, number), lambda file: np.savez_compressed(file, images=shown)
        )
        return with_differences(measurements, stage, baseline), self._screen_scores(seen)

    def _kept_places(self, stage: Stage, baseline: Baseline | None) -> frozenset[int]:
        """Whose pictures are needed after the run: all of FP32, else those that are shown or screened."""
        if baseline is None:
            return frozenset(stage.places)
        few = () if self._few is None else self._few.places
        return frozenset(few).union(spread_places(len(stage.places), SHOWN_SAMPLES))

    def _screen_scores(self, seen: Seen) -> tuple[Score, ...]:
        """The scores that a screen would have given for a map that was scored on all samples."""
        few = self._few
        baseline = self._screen_baseline()
        if few is None or baseline is None:
            return ()
        features = seen.joined_features()
        picked = None if features is None else features[list(few.places)]
        batch = ScoredBatch(0, seen.images_at(few.places), np.asarray(baseline.images), picked)
        measurements = [_measured(metric, few, baseline, batch) for metric in self._metrics_of_few]
        return with_differences(measurements, few, baseline)

    def _screen_baseline(self) -> Baseline | None:
        """FP32 on the few samples, from what is kept of all of them."""
        whole, few = self._baseline, self._few
        if self._baseline_of_few is None and whole is not None and few is not None:
            places = list(few.places)
            images = np.asarray(whole.images[places])
            features = None if whole.evidence.features is None else whole.evidence.features[places]
            batch = ScoredBatch(0, images, images, features)
            measurements = self._measured_on_few(few, batch)
            evidence = Evidence(features, influences_of(measurements))
            self._baseline_of_few = Baseline(images, evidence, values_of(measurements))
        return self._baseline_of_few

    def _measured_on_few(self, few: Stage, batch: ScoredBatch) -> list[Measurement]:
        """FP32's measurements; a metric that cannot be had on these samples takes no part in screens."""
        found: list[tuple[Metric, Measurement]] = []
        for metric in self.workload.metrics:
            # Flicker, for one, wants consecutive frames, and these are spread over all clips.
            with contextlib.suppress(QsensError):
                found.append((metric, _measured(metric, few, None, batch)))
        self._metrics_of_few = tuple(metric for metric, _ in found)
        return [measurement for _, measurement in found]

    def _batches(self, engine: Engine, stage: Stage, baseline: Baseline | None) -> Iterator[ScoredBatch]:
        extractor = self.workload.context.extractor
        needs_features = any(metric.needs_features for metric in self.workload.metrics)
        start = 0
        for feeds in stage.inputs.batches():
            played = self._pictures(self._run_feeds(engine, feeds))
            if baseline is None:
                check_batch(
                    played,
                    stage,
                    start,
                    lambda feed: self._pictures(self._run_feeds(engine, [feed])),
                    self._sheet,
                )
            # A clip may be long.
            for first in range(0, len(played), self.workload.batch_size):
                images = played[first : first + self.workload.batch_size]
                features = extractor.run(images) if needs_features and extractor is not None else None
                yield ScoredBatch(start, images, baseline_images(baseline, start, images), features)
                start += len(images)

    def _run_feeds(self, engine: Engine, feeds: Sequence[Feed]) -> dict[str, Array]:
        return run_feeds(engine, feeds, self.workload.loop)

    def _pictures(self, outputs: Mapping[str, Array]) -> Array:
        try:
            return pictures_of(outputs, self.workload.output, self._sheet)
        except ScoreError as error:
            if self._baseline is not None:
                raise
            raise ScoreError(
                f"FP32 itself cannot be scored: {error.message}",
                "check the checkpoint and the value range of its inputs (qsens plan shows it)",
            ) from error


def _measured(metric: Metric, stage: Stage, baseline: Baseline | None, batch: ScoredBatch) -> Measurement:
    accumulator = metric.start(context_with(stage, baseline))
    accumulator.update(batch)
    return measured_by(metric, accumulator)


def calibrated_workload(opened: OpenedSweep, folder: RunPaths, progress: Progress) -> Workload:
    """Calibrate, or read the ranges of an earlier run, and put together what every map is scored on."""
    return workload_of(opened, calibrated_graph(opened, folder, progress), folder, progress)


def workload_of(
    opened: OpenedSweep, calibrated: CalibratedGraph, folder: RunPaths, progress: Progress
) -> Workload:
    """The workload that every map of a calibrated graph is scored on, in the order of the sweep."""
    return replace(
        plain_workload(opened, calibrated, folder.reference_features_path, progress),
        screen_samples=opened.spec.screen_samples,
        expected=() if opened.planned is None else opened.planned.in_order,
        target=target_maps(opened, calibrated),
    )


def plain_workload(
    opened: OpenedSweep, calibrated: CalibratedGraph, features_path: Path, progress: Progress
) -> Workload:
    """The same for single maps, scored as they are; `features_path` keeps features of real images."""
    features = None
    if opened.reference is not None and opened.extractor is not None:
        features = reference_features(
            opened.reference, opened.extractor, path=features_path, progress=progress
        )
    return Workload(
        plan=calibrated.plan,
        ranges=calibrated.ranges,
        options=calibrated.options,
        backend=opened.backend,
        samples=opened.evaluation,
        output=opened.spec.output,
        metrics=by_each_extractor(opened.metrics, opened.extractor),
        context=scoring_context(opened, features),
        batch_size=opened.spec.batch_size,
        loop=opened.loop,
    )


def runner_of(
    opened: OpenedSweep, folder: RunFolder, calibrate: Callable[[], Workload], factory: RunnerFactory | None
) -> TrialRunner:
    """The calibrated runner of a run's maps: workers that `factory` hands maps to, or this process.

    Raises:
        StoppedError: after a signal to stop; what was scored before is in the folder.
    """
    with stoppable_calibration(folder):
        workload = calibrate()
        folder.record_files()
        if factory is not None:
            return factory(opened, folder)
        fp32 = folder.journal.first
        evaluator = Evaluator(workload, evidence=folder.evidence, samples=folder.samples, fp32=fp32)
        return InProcess(evaluator, evaluator.expect)


@contextlib.contextmanager
def stoppable_calibration(folder: RunFolder) -> Iterator[None]:
    """Steps before the first map of this run. Raises `StoppedError` after a signal to stop."""
    try:
        yield
    except KeyboardInterrupt:
        trials = folder.journal.trials
        done = f"all {len(trials)} maps so far are saved" if trials else "before the first map"
        raise StoppedError(
            f"stopped while calibrating, {done}", "the same command goes on where this one stopped"
        ) from None
