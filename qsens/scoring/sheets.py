"""Several pictures of one sample, kept as one sheet and scored one by one: the worst decides."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsens.core.errors import ScoreError
from qsens.core.interfaces import (
    Accumulator,
    Extractor,
    Measurement,
    Metric,
    OutputRule,
    ScoredBatch,
    ScoringContext,
)
from qsens.scoring.metric_around import MetricAround
from qsens.scoring.pictures import picture_outputs, pictures_from_values, refuse_one_level

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Sheet:
    """The pictures of several outputs, one below the other, filled up with black on the right.

    `outputs` are their names and `sides` their heights and widths, the same for all samples.
    """

    outputs: tuple[str, ...]
    sides: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, outputs: Mapping[str, Array], rule: OutputRule) -> "Sheet | None":
        """The sheet of pictures as large as those in `outputs`; `None` where one output is scored."""
        if not rule.also:
            return None
        names = picture_outputs(outputs, rule)
        return cls(names, tuple((outputs[name].shape[2], outputs[name].shape[3]) for name in names))

    def joined(self, pictures: Sequence[Array]) -> Array:
        """Sheets of pictures uint8 (N, 3, H, W), one array an output. Raises `ScoreError` for other sizes."""
        widest = max(width for _, width in self.sides)
        rows = []
        for name, wanted, images in zip(self.outputs, self.sides, pictures, strict=True):
            if images.shape[2:] != wanted or len(images) != len(pictures[0]):
                raise ScoreError(
                    f"pictures of output {name!r} are {images.shape}; those of the first sample were "
                    f"{wanted[0]}x{wanted[1]}, and several outputs are scored together only at fixed sizes",
                    "give all inputs one size with --resize HxW, or score one output",
                )
            rows.append(np.pad(images, ((0, 0), (0, 0), (0, 0), (0, widest - wanted[1]))))
        return np.concatenate(rows, axis=2)

    def parts(self, sheets: Array) -> list[Array]:
        """The pictures of each output, uint8 (N, 3, H, W)."""
        rows = np.split(sheets, np.cumsum([height for height, _ in self.sides])[:-1], axis=2)
        return [row[..., :width] for row, (_, width) in zip(rows, self.sides, strict=True)]

    def refuse_one_level(self, sheets: Array) -> None:
        """Check FP32's pictures of each output. Raises `ScoreError`, as the function of that name."""
        for name, images in zip(self.outputs, self.parts(sheets), strict=True):
            refuse_one_level(images, name)

    def features_of(self, features: Array | None) -> list[Array | None]:
        """The features of each output's pictures, from those that `extractor` made."""
        count = len(self.outputs)
        return [None] * count if features is None else list(np.split(features, count, axis=1))

    def extractor(self, extractor: Extractor) -> Extractor:
        """The same extractor for sheets: the features of their pictures, side by side."""

        def run(sheets: Array) -> Array:
            return np.concatenate([extractor.run(part) for part in self.parts(sheets)], axis=1)

        return replace(extractor, dimension=len(self.outputs) * extractor.dimension, run=run)

    def batches(self, batch: ScoredBatch) -> Iterator[ScoredBatch]:
        """The batch of each output's pictures."""
        parts = (self.parts(batch.images), self.parts(batch.baseline), self.features_of(batch.features))
        for images, baseline, features in zip(*parts, strict=True):
            yield ScoredBatch(batch.start, images, baseline, features)


def pictures_of(outputs: Mapping[str, Array], rule: OutputRule, sheet: Sheet | None) -> Array:
    """Pictures uint8 (N, 3, H, W) of the scored output, or sheets of several.

    Raises:
        SpecError, ScoreError: as `picture_outputs`, `pictures_from_values` and `Sheet.joined`.
    """
    pictures = [pictures_from_values(outputs[name], rule) for name in picture_outputs(outputs, rule)]
    return pictures[0] if sheet is None else sheet.joined(pictures)


def several_outputs_note(rule: OutputRule, metrics: Sequence[Metric]) -> str | None:
    """A sentence on how several outputs are scored, and what that cannot see; `None` for one."""
    if not rule.also:
        return None
    said = f"the outputs {', '.join(map(repr, rule.names))} are scored, and for each metric the worst decides"
    real = [metric.name for metric in metrics if metric.needs_reference]
    if not real:
        return said
    return (
        f"{said}; {', '.join(real)} compares with real pictures, where FP32's outputs differ already: a "
        "loss of a better output shows there only once it is the worst, so limit a metric against FP32 too"
    )


class WorstPicture(MetricAround):
    """A metric of sheets: that of the output whose score is worst, which the score names.

    `extractor` is the one of single pictures, as the context of sheets has another.
    """

    def __init__(self, metric: Metric, sheet: Sheet, extractor: Extractor | None) -> None:
        super().__init__(metric)
        self._sheet = sheet
        self._extractor = extractor

    def label(self, context: ScoringContext) -> str:
        """The label of the metric itself."""
        return self._metric.label(replace(context, extractor=self._extractor))

    def start(self, context: ScoringContext) -> Accumulator:
        """One accumulator an output."""
        starts = [
            self._metric.start(replace(context, extractor=self._extractor, baseline_features=features))
            for features in self._sheet.features_of(context.baseline_features)
        ]
        return _Worst(self._sheet, starts, lower_is_better=self.lower_is_better)


class _Worst(Accumulator):
    def __init__(self, sheet: Sheet, each: Sequence[Accumulator], *, lower_is_better: bool) -> None:
        self._sheet = sheet
        self._each = each
        self._sign = 1.0 if lower_is_better else -1.0

    def update(self, batch: ScoredBatch) -> None:
        for accumulator, part in zip(self._each, self._sheet.batches(batch), strict=True):
            accumulator.update(part)

    def compute(self) -> Measurement:
        found = [accumulator.compute() for accumulator in self._each]
        place = max(range(len(found)), key=lambda place: self._badness(found[place].score.value))
        score = replace(found[place].score, output=self._sheet.outputs[place])
        return replace(found[place], score=score)

    def _badness(self, value: float) -> float:
        return math.inf if math.isnan(value) else self._sign * value
