"""Evaluating one precision map: lower, build, run over the evaluation set, score, keep the evidence."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.atomic_write import write_atomically
from qsens.audits import save_audit
from qsens.device.audit import LayerAudit, mismatches
from qsens.errors import ScoreError
from qsens.evidence import Evidence, load_evidence, save_evidence
from qsens.feeds import InputCache, run_feeds
from qsens.graph.lower import lower_graph
from qsens.graph.lowering_plan import LoweringOptions, LoweringPlan
from qsens.interfaces import (
    Accumulator,
    Backend,
    Engine,
    Measurement,
    Metric,
    OutputRule,
    SampleSet,
    ScoredBatch,
    ScoringContext,
)
from qsens.metrics.intervals import paired_standard_error
from qsens.pictures import picture_output, pictures_from_values
from qsens.precision import Precision, PrecisionMap
from qsens.ranges import Ranges
from qsens.trial import Outcome, Score, Trial

BASELINE = 0
SHOWN_SAMPLES = 6
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Workload:
    """What every map of a run is evaluated on and how; the same for all of them."""

    plan: LoweringPlan
    ranges: Ranges
    options: LoweringOptions
    backend: Backend
    samples: SampleSet
    output: OutputRule
    metrics: Sequence[Metric]
    context: ScoringContext
    batch_size: int


@dataclass(frozen=True, eq=False)
class Baseline:
    """FP32 over the evaluation set: `images` uint8 (N, 3, H, W), its evidence, and its scores by metric."""

    images: Array
    evidence: Evidence
    values: Mapping[str, float]


class Evaluator:
    """Scores maps against the FP32 outputs, which it keeps in the `evidence` folder.

    `fp32` is the FP32 trial of an earlier run of the same folder, if there was one.
    """

    def __init__(self, workload: Workload, *, evidence: Path, samples: Path, fp32: Trial | None) -> None:
        self.workload = workload
        self.evidence = evidence
        self.samples = samples
        self._inputs = InputCache(workload.samples, workload.plan.graph, workload.batch_size)
        self._baseline: Baseline | None = None
        self.use_baseline(fp32)

    def use_baseline(self, fp32: Trial | None) -> None:
        """Take the FP32 outputs that the trial `fp32` left in the folder, unless they are at hand.

        They are made again with the next map where a file is gone, or `fp32` is `None`.
        """
        if self._baseline is None and fp32 is not None:
            self._baseline = load_baseline(self.evidence, fp32, len(self.workload.samples))

    def __call__(self, number: int, requested: PrecisionMap) -> Trial:
        """Build and score one map, and write its evidence.

        Raises:
            BuildError: if the backend cannot build it.
            ScoreError: if its outputs cannot be scored.
        """
        start = time.perf_counter()
        if requested == PrecisionMap(Precision.FP32):
            self._baseline = None
        elif self._baseline is None:
            self(BASELINE, PrecisionMap(Precision.FP32))
        work = self.workload
        lowered = lower_graph(work.plan, requested, work.ranges, work.options, work.backend.flavour)
        with work.backend.build(lowered) as engine:
            scores = self._score_or_explain(number, engine)
            audit: Sequence[LayerAudit] = getattr(engine, "audit", ())
            if audit:
                save_audit(self.evidence, number, audit)
            return Trial(
                number=number,
                requested=requested,
                applied=engine.applied,
                outcome=Outcome.SCORED,
                scores=scores,
                size_bytes=engine.size_bytes,
                duration_s=time.perf_counter() - start,
                fp16_overflows=tuple(sorted(engine.fp16_overflows().items())),
                mismatches=tuple(row.layer for row in mismatches(audit)),
            )

    def _score_or_explain(self, number: int, engine: Engine) -> tuple[Score, ...]:
        try:
            return self._score(number, engine)
        except ScoreError as error:
            overflows = engine.fp16_overflows()
            if not overflows:
                raise
            layer = max(overflows, key=lambda name: overflows[name])
            raise ScoreError(
                f"{error.message}; FP16 overflowed in {', '.join(sorted(overflows))}",
                f"keep what overflows in FP32, for example with --pin {layer}=fp32",
            ) from error

    def _score(self, number: int, engine: Engine) -> tuple[Score, ...]:
        baseline = self._baseline
        context = self.workload.context
        if baseline is not None:
            context = replace(context, baseline_features=baseline.evidence.features)
        accumulators = [metric.start(context) for metric in self.workload.metrics]
        seen = _Seen(keeps_images=baseline is None, shown=self._shown_samples())
        for batch in self._scored_batches(engine):
            _update(accumulators, batch)
            seen.add(batch)
        measurements = [accumulator.compute() for accumulator in accumulators]
        evidence = Evidence(seen.joined_features(), _influences(measurements))
        if baseline is None:
            values = {measured.score.metric: measured.score.value for measured in measurements}
            self._baseline = self._keep_baseline(seen.joined_images(), evidence, values)
        save_evidence(self.evidence, number, evidence.features, evidence.influences)
        write_atomically(
            self.samples / f"trial-{number:04d}.npz",
            lambda file: np.savez_compressed(file, images=np.stack(seen.shown_images)),
        )
        return tuple(self._with_difference(measured) for measured in measurements)

    def _scored_batches(self, engine: Engine) -> Iterator[ScoredBatch]:
        extractor = self.workload.context.extractor
        needs_features = any(metric.needs_features for metric in self.workload.metrics)
        start = 0
        for feeds in self._inputs.batches():
            outputs = run_feeds(engine, feeds)
            images = self._pictures(outputs)
            features = extractor.run(images) if needs_features and extractor is not None else None
            yield ScoredBatch(start, images, self._baseline_of(start, images), features)
            start += len(images)

    def _pictures(self, outputs: Mapping[str, Array]) -> Array:
        rule = self.workload.output
        try:
            return pictures_from_values(outputs[picture_output(outputs, rule)], rule)
        except ScoreError as error:
            if self._baseline is not None:
                raise
            raise ScoreError(
                f"FP32 itself cannot be scored: {error.message}",
                "check the checkpoint and the value range of its inputs (qsens plan shows it)",
            ) from error

    def _baseline_of(self, start: int, images: Array) -> Array:
        if self._baseline is None:
            return images
        baseline = np.asarray(self._baseline.images[start : start + len(images)])
        if baseline.shape != images.shape:
            raise ScoreError(
                f"images of shape {images.shape}, but FP32 made {baseline.shape} of these inputs"
            )
        return baseline

    def _shown_samples(self) -> frozenset[int]:
        total = len(self.workload.samples)
        return frozenset(np.linspace(0, total - 1, min(SHOWN_SAMPLES, total)).round().astype(int).tolist())

    def _with_difference(self, measured: Measurement) -> Score:
        assert self._baseline is not None, "FP32 is scored before any other map"
        label = measured.score.metric
        baseline = self._baseline.evidence.influences.get(label)
        # A score of FP32 against itself does not vary: such a score already is a difference from FP32.
        if measured.influence is None or baseline is None or not np.any(baseline):
            return measured.score
        return replace(
            measured.score,
            difference=measured.score.value - self._baseline.values[label],
            difference_standard_error=paired_standard_error(
                measured.influence, baseline, self.workload.context.clusters
            ),
        )

    def _keep_baseline(self, images: Array, evidence: Evidence, values: Mapping[str, float]) -> Baseline:
        path = _images_path(self.evidence)
        write_atomically(path, lambda file: np.save(file, images, allow_pickle=False))
        return Baseline(np.load(path, mmap_mode="r"), evidence, values)


def load_baseline(folder: Path, fp32: Trial, images: int) -> Baseline | None:
    """What the FP32 trial of that many images left in the evidence folder; `None` where a file is gone."""
    evidence = load_evidence(folder, fp32.number)
    try:
        pictures: Array = np.load(_images_path(folder), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if evidence is None or len(pictures) != images:
        return None
    return Baseline(pictures, evidence, {score.metric: score.value for score in fp32.scores})


def _images_path(folder: Path) -> Path:
    return folder / "fp32-images.npy"


class _Seen:
    """What is kept of the batches of one map."""

    def __init__(self, *, keeps_images: bool, shown: frozenset[int]) -> None:
        self._keeps_images = keeps_images
        self._shown = shown
        self._images: list[Array] = []
        self._features: list[Array] = []
        self.shown_images: list[Array] = []

    def add(self, batch: ScoredBatch) -> None:
        if self._keeps_images:
            self._images.append(batch.images)
        if batch.features is not None:
            self._features.append(batch.features)
        self.shown_images += [
            image for index, image in enumerate(batch.images, batch.start) if index in self._shown
        ]

    def joined_images(self) -> Array:
        if len({images.shape[1:] for images in self._images}) > 1:
            raise ScoreError("FP32's images differ in size", "give all inputs one size with --resize HxW")
        return np.concatenate(self._images)

    def joined_features(self) -> Array | None:
        return np.concatenate(self._features) if self._features else None


def _update(accumulators: Sequence[Accumulator], batch: ScoredBatch) -> None:
    for accumulator in accumulators:
        accumulator.update(batch)


def _influences(measurements: Sequence[Measurement]) -> dict[str, Array]:
    return {
        measured.score.metric: measured.influence
        for measured in measurements
        if measured.influence is not None
    }
