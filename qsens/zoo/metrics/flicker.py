"""Temporal flicker: how differently a map's pictures change from frame to frame than FP32's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import Measurement, Metric, ScoredBatch, ScoringContext
from qsens.core.trial import Score
from qsens.scoring.consecutive import ClipFrames, clip_frames
from qsens.scoring.intervals import standard_error

Difference = NDArray[np.int16]


class Flicker(Metric):
    """Mean absolute difference between a map's change from frame to frame and FP32's, in grey levels.

    Over all pairs of consecutive frames (a, b) of one clip, all pixels and colours: the mean of
    |(map_b - map_a) - (fp32_b - fp32_a)|, 0 to 510. FP32 scores 0; so does an error that stands still,
    which a viewer sees as a change of the picture and not as flicker. Pairs share frames: the standard
    error takes clips, not pairs, as independent.
    """

    name = "flicker"
    lower_is_better = True
    needs_features = False
    needs_reference = False
    needs_annotations = ("clip", "frame")

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> _FlickerAccumulator:
        """Raises `SpecError` where samples state no clip or frame, or no two frames are consecutive."""
        frames = clip_frames(context.samples, self.name)
        if frames.longest < 2:
            raise SpecError(
                f"flicker compares consecutive frames: {frames.summary()}",
                "score more samples of the set (--evaluation-samples), or a set that keeps every frame",
            )
        return _FlickerAccumulator(context, frames)


class _FlickerAccumulator:
    """Keeps the difference from FP32 of a frame until both of its neighbours have been seen."""

    def __init__(self, context: ScoringContext, frames: ClipFrames) -> None:
        self._context = context
        self._frames = frames
        self._partners: dict[int, list[int]] = {}
        for first, second in (pair for run in frames.runs for pair in pairwise(run.indices)):
            self._partners.setdefault(first, []).append(second)
            self._partners.setdefault(second, []).append(first)
        self._waiting: dict[int, Difference] = {}
        self._flicker: dict[tuple[int, int], float] = {}
        self._seen: list[int] = []

    def update(self, batch: ScoredBatch) -> None:
        """Raises `ScoreError` if the two sides differ in shape."""
        if batch.images.shape != batch.baseline.shape:
            raise ScoreError(
                f"images of shape {batch.images.shape} against FP32 images of {batch.baseline.shape}",
                "the map changed the output size: check the generator",
            )
        for offset, (image, baseline) in enumerate(zip(batch.images, batch.baseline, strict=True)):
            self._seen.append(batch.start + offset)
            if batch.start + offset in self._partners:
                self._add(batch.start + offset, np.subtract(image, baseline, dtype=np.int16))

    def compute(self) -> Measurement:
        """Raises `ScoreError` if no pair was among the scored images."""
        pairs = sorted(self._flicker)
        if not pairs:
            raise ScoreError("no two consecutive frames were scored", "pass the whole evaluation set")
        values = np.array([self._flicker[pair] for pair in pairs])
        value = float(values.mean())
        influence = np.zeros(len(self._seen))
        place = {index: position for position, index in enumerate(self._seen)}
        for (_, second), of_pair in zip(pairs, values, strict=True):
            influence[place[second]] += (of_pair - value) * len(influence) / len(pairs)
        error = standard_error(influence, np.array([self._frames.clips[index] for index in self._seen]))
        score = Score(
            metric=Flicker.name,
            value=value,
            images=len(self._seen),
            against=f"fp32 pairs={len(pairs)} evaluation={self._context.evaluation_digest}",
            lower_is_better=True,
            standard_error=error,
            difference=value,
            difference_standard_error=error,
        )
        return Measurement(score, influence)

    def _add(self, index: int, difference: Difference) -> None:
        self._waiting[index] = difference
        for partner in self._partners[index]:
            if partner in self._waiting:
                change = np.abs(difference - self._waiting[partner])
                key = _ordered(index, partner)
                self._flicker[key] = float(change.mean(dtype=np.float64))
        for one in (index, *self._partners[index]):
            self._forget_if_done(one)

    def _forget_if_done(self, index: int) -> None:
        if all(_ordered(index, other) in self._flicker for other in self._partners[index]):
            self._waiting.pop(index, None)


def _ordered(one: int, other: int) -> tuple[int, int]:
    """The pair in an order that does not depend on which frame came first."""
    return (one, other) if one < other else (other, one)
