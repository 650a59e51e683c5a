"""What the feature metrics share: features gathered over a map, names, and results worth keeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import Extractor, ScoredBatch, ScoringContext
from qsens.scoring import inception

Result = TypeVar("Result")


class FeatureCollector:
    """Keeps the features of consecutive batches as they come, float32."""

    def __init__(self) -> None:
        self._parts: list[NDArray[Any]] = []
        self._start = 0
        self._stop = 0

    def add(self, batch: ScoredBatch) -> None:
        """Raises `SpecError` without features, `DataError` if batches are not consecutive."""
        if batch.features is None:
            raise SpecError("this metric needs features, but the batch has none", "choose an extractor")
        if self._parts and batch.start != self._stop:
            raise DataError(
                f"a batch starts at image {batch.start}, expected {self._stop}", "pass batches in order"
            )
        if not self._parts:
            self._start = batch.start
        self._parts.append(batch.features)
        self._stop = batch.start + len(batch.features)

    @property
    def features(self) -> NDArray[Any]:
        """All features so far, (N, D). Raises `ScoreError` if there are none."""
        if not self._parts:
            raise ScoreError("no image was scored", "pass at least one batch")
        return np.concatenate(self._parts)

    def same_images(self, values: NDArray[Any]) -> NDArray[Any]:
        """The entries of `values` (one an evaluation image) that belong to the images so far.

        Raises:
            DataError: if there are too few.
        """
        if len(values) < self._stop:
            raise DataError(
                f"{len(values)} values for {self._stop} images", "compute them over the same evaluation set"
            )
        return values[self._start : self._stop]

    def clusters(self, context: ScoringContext) -> NDArray[Any] | None:
        """Clip labels of the images so far."""
        return None if context.clusters is None else self.same_images(context.clusters)


class LastResults(Generic[Result]):
    """Results for the arrays asked about last: every map of a run asks about FP32 on all samples and a few.

    Copies in other processes start empty.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[tuple[NDArray[Any], ...], Result]] = deque(maxlen=2)

    def of(self, arrays: tuple[NDArray[Any], ...], compute: Callable[[], Result]) -> Result:
        """The kept result if the arrays hold the same values, else a new one."""
        for known, result in self._kept:
            if _hold_the_same(known, arrays):
                return result
        self._kept.append((arrays, compute()))
        return self._kept[-1][1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def extractor_of(context: ScoringContext) -> Extractor:
    """The context's extractor. Raises `SpecError` if there is none."""
    if context.extractor is None:
        raise SpecError("this metric needs a feature extractor", "choose --extractor lite0 or inception")
    return context.extractor


def label_with_extractor(name: str, extractor: Extractor) -> str:
    """The bare name only for pytorch-fid's Inception; any other extractor shows its own: `fid[lite0]`."""
    return name if extractor.name == inception.NAME else f"{name}[{extractor.name}]"


def against(context: ScoringContext, reference: str) -> str:
    """What a feature score was measured against; scores with different texts must not be compared."""
    extractor = extractor_of(context)
    return f"{extractor.identity} reference={reference} evaluation={context.evaluation_digest}"


def sample_size_warning(images: int, extractor: Extractor) -> str | None:
    """A sentence if there are fewer images than features, else `None` (bias: Chong & Forsyth 2020)."""
    if images >= extractor.dimension:
        return None
    return (
        f"{images} images, fewer than the {extractor.dimension} features of {extractor.name}: Fréchet "
        f"distances are biased upwards and depend on the number of images; compare them only with others "
        f"of the same {images} inputs, by their paired differences"
    )


def _hold_the_same(first: tuple[NDArray[Any], ...], second: tuple[NDArray[Any], ...]) -> bool:
    return len(first) == len(second) and all(
        one is other or np.array_equal(one, other) for one, other in zip(first, second, strict=True)
    )
