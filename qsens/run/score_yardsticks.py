"""Scores yardsticks: FP32's own pictures after familiar alterations, by every metric of the run.

No generator runs: the pictures are those that FP32 left, and what is scored once is kept in the run folder.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from qsens.core.alterations import Alteration
from qsens.core.errors import QsensError
from qsens.core.interfaces import Accumulator, Hear, Measurement, Metric, Progress, ScoredBatch
from qsens.core.trial import Trial, Yardstick
from qsens.run.evaluate import Evaluator
from qsens.run.evidence import Baseline
from qsens.run.paths import RunPaths
from qsens.run.stages import Workload, context_with, measured_by, stage_of, with_differences
from qsens.run.yardsticks import keep_yardsticks, pictures_digest, read_yardsticks
from qsens.scoring.alterations import altered
from qsens.scoring.sheets import Sheet

Array = np.ndarray[Any, np.dtype[Any]]
Made = TypeVar("Made")
# Pictures are altered in so many threads while the extractor reads those before them.
_THREADS = 2


@dataclass(frozen=True, eq=False)
class YardstickScorer:
    """Scores the alterations that a run wants and has not scored yet, and keeps them in its folder.

    `hear` is told of metrics that cannot score one.
    """

    workload: Workload
    folder: RunPaths
    alterations: Sequence[Alteration]
    seed: int
    progress: Progress
    hear: Hear

    def __call__(self, fp32: Trial) -> tuple[Yardstick, ...]:
        """Every yardstick of FP32's pictures, those of earlier runs of the folder first.

        Raises:
            RunFolderError: if they cannot be written.
        """
        path, digest = self.folder.yardsticks_path, pictures_digest(fp32)
        found = list(read_yardsticks(path, digest))
        known = {entry.alteration for entry in found}
        missing = [alteration for alteration in self.alterations if str(alteration) not in known]
        if not missing:
            return tuple(found)
        evaluator = Evaluator(
            self.workload, evidence=self.folder.evidence, samples=self.folder.samples, fp32=fp32
        )
        for place, alteration in enumerate(missing):
            self.progress(place, len(missing), f"yardsticks: FP32's pictures after {alteration.title}")
            found.append(self._scored(evaluator, alteration))
            keep_yardsticks(path, digest, found)
        self.progress(len(missing), len(missing), "yardsticks: scored")
        return tuple(found)

    def _scored(self, evaluator: Evaluator, alteration: Alteration) -> Yardstick:
        workload, baseline = evaluator.workload, evaluator.baseline()
        stage = stage_of(workload, tuple(range(len(workload.samples))))
        context = context_with(stage, baseline)
        able = {metric: metric.start(context) for metric in workload.metrics}
        for batch in self._batches(workload, baseline, alteration):
            for metric, accumulator in tuple(able.items()):
                with self._left_out_if_unable(able, metric, alteration):
                    accumulator.update(batch)
        measured: list[Measurement] = []
        for metric, accumulator in tuple(able.items()):
            with self._left_out_if_unable(able, metric, alteration):
                measured.append(measured_by(metric, accumulator))
        return Yardstick(str(alteration), with_differences(measured, stage, baseline))

    @contextlib.contextmanager
    def _left_out_if_unable(
        self, able: dict[Metric, Accumulator], metric: Metric, alteration: Alteration
    ) -> Iterator[None]:
        try:
            yield
        except QsensError as error:
            del able[metric]
            self.hear(f"Note: {metric.name} cannot score {alteration}: {error.message}")

    def _batches(
        self, workload: Workload, baseline: Baseline, alteration: Alteration
    ) -> Iterator[ScoredBatch]:
        sheet = Sheet.of(workload.plan.graph.example_outputs, workload.output)
        extractor = workload.context.extractor
        needs_features = any(metric.needs_features for metric in workload.metrics)

        def change(start: int) -> tuple[int, Array, Array]:
            images = np.asarray(baseline.images[start : start + workload.batch_size])
            parts = [images] if sheet is None else sheet.parts(images)
            changed = [altered(part, alteration, start=start, seed=self.seed) for part in parts]
            return start, images, changed[0] if sheet is None else sheet.joined(changed)

        starts = range(0, len(baseline.images), workload.batch_size)
        for start, images, changed in _ahead(change, starts):
            features = extractor.run(changed) if needs_features and extractor is not None else None
            yield ScoredBatch(start, changed, images, features)


def _ahead(make: Callable[[int], Made], places: Iterable[int]) -> Iterator[Made]:
    """`make` of each place, in order, made in threads a little before it is asked for."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[Made]] = deque()
        for place in places:
            waiting.append(pool.submit(make, place))
            if len(waiting) > _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
