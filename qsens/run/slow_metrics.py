"""Slow metrics: most maps are scored on a few samples, the chosen one on all of them afterwards.

Both are the same score, as the mean over samples that are spread over a set is that over the set: the number
of images and the interval tell which of them a score is.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.splits import SampleView, spread_places
from qsens.core.errors import BudgetError, SpecError
from qsens.core.files import write_atomically
from qsens.core.interfaces import Accumulator, Measurement, Metric, SampleSet, ScoredBatch, ScoringContext
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import read_record
from qsens.core.trial import Score, Study, Trial, check_score
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.run.yardsticks import pictures_digest
from qsens.scoring.consecutive import clip_frames
from qsens.scoring.metric_around import MetricAround

Array = np.ndarray[Any, np.dtype[Any]]
# One clip alone would have no interval.
_LEAST_CLIPS = 2


def few_places(samples: SampleSet, few: int) -> tuple[int, ...]:
    """About `few` places that are spread over a set; of clips runs of consecutive frames, at least two."""
    if {"clip", "frame"} <= samples.annotation(0).keys():
        runs = [run.indices for run in clip_frames(samples, "a slow metric").runs if len(run) > 1]
        if runs:
            wished = round(few * len(runs) / sum(map(len, runs)))
            chosen = spread_places(len(runs), min(max(wished, _LEAST_CLIPS), len(runs)))
            return tuple(sorted(place for run in chosen for place in runs[run]))
    return tuple(spread_places(len(samples), few))


def quick_metrics(metrics: Sequence[Metric], context: ScoringContext, few: int) -> tuple[Metric, ...]:
    """The metrics, slow ones on about `few` of the context's samples."""
    if few >= context.images or context.samples is None or not any(metric.is_slow for metric in metrics):
        return tuple(metrics)
    places = few_places(context.samples, few)
    return tuple(OnFew(metric, places) if metric.is_slow else metric for metric in metrics)


class OnFew(MetricAround):
    """A metric that looks at the samples at `places` only."""

    def __init__(self, metric: Metric, places: Sequence[int]) -> None:
        super().__init__(metric)
        self.is_slow = False
        self._places = tuple(places)

    def label(self, context: ScoringContext) -> str:
        """The label of the metric itself."""
        return self._metric.label(context)

    def start(self, context: ScoringContext) -> Accumulator:
        """The metric's own accumulator, whose context has these samples only."""
        rows, samples = list(self._places), context.samples
        own = replace(
            context,
            images=len(rows),
            clusters=None if context.clusters is None else context.clusters[rows],
            baseline_features=None if context.baseline_features is None else context.baseline_features[rows],
            samples=None if samples is None else SampleView(samples, self._places, ""),
        )
        return _OnPlaces(self._metric.start(own), self._places)


class _OnPlaces(Accumulator):
    def __init__(self, accumulator: Accumulator, places: Sequence[int]) -> None:
        self._accumulator = accumulator
        self._places = np.asarray(places)

    def update(self, batch: ScoredBatch) -> None:
        stop = batch.start + len(batch.images)
        first, last = np.searchsorted(self._places, [batch.start, stop])
        if first < last:
            rows = self._places[first:last] - batch.start
            features = None if batch.features is None else batch.features[rows]
            self._accumulator.update(
                ScoredBatch(int(first), batch.images[rows], batch.baseline[rows], features)
            )

    def compute(self) -> Measurement:
        return self._accumulator.compute()


@dataclass(frozen=True)
class KeptScores:
    """Scores on all samples by the graph of the map, compared with the FP32 pictures of that digest."""

    pictures: str
    scores: Mapping[str, tuple[Score, ...]]


def read_full_scores(path: Path, pictures: str) -> Mapping[str, tuple[Score, ...]]:
    """Those that are kept in a file; none where it is of other pictures, damaged or not there."""
    try:
        kept = read_record(KeptScores, parse_json(read_file(path), only_finite=False))
        for score in (score for scores in kept.scores.values() for score in scores):
            check_score(score)
    except (OSError, ValueError):
        return {}
    return kept.scores if kept.pictures == pictures else {}


def keep_full_scores(path: Path, pictures: str, scores: Mapping[str, tuple[Score, ...]]) -> None:
    """Write them, in place of earlier ones. Raises `RunFolderError` if that is impossible."""
    write_atomically(path, json.dumps(asdict(KeptScores(pictures, scores))).encode())


def with_full_scores(trials: Sequence[Trial], path: Path) -> tuple[Trial, ...]:
    """The same trials, with the scores on all samples that are kept in `path` in place of those on a few."""
    fp32 = next((trial for trial in trials if trial.requested == PrecisionMap(Precision.FP32)), None)
    kept = {} if fp32 is None else read_full_scores(path, pictures_digest(fp32))
    return tuple(_with(trial, kept.get(trial.graph or "", ())) for trial in trials)


def _with(trial: Trial, full: Sequence[Score]) -> Trial:
    by_name = {score.metric: score for score in full}
    if not by_name or not trial.scores:
        return trial
    return replace(trial, scores=tuple(by_name.get(score.metric, score) for score in trial.scores))


def metrics_on_few(study: Study, trial: Trial) -> Iterator[str]:
    """The scores of a trial that are of fewer images than FP32's."""
    fp32 = study.anchors.get(Precision.FP32)
    for score in trial.scores:
        of_fp32 = None if fp32 is None else fp32.score(score.metric)
        if of_fp32 is not None and score.images < of_fp32.images:
            yield score.metric


def next_finalist(study: Study, choose: Callable[[Study], Trial | None]) -> Trial | None:
    """The chosen map while some of its scores are of a few samples; `None` once they are of all."""
    try:
        chosen = choose(study)
    except (BudgetError, SpecError):
        return None
    return chosen if chosen is not None and chosen.graph and any(metrics_on_few(study, chosen)) else None
