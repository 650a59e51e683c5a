"""Draws of `coverage.py`: Gaussian features of known distance, subsets of large runs, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from large_runs import LargeRun, style_run, talker_run
from numpy.typing import NDArray

from qsens.core.interfaces import Measurement, Metric, ScoredBatch, ScoringContext
from qsens.scoring.fid import Fid, FidAgainstFp32
from qsens.scoring.fidelity import psnr_of_error
from qsens.scoring.frechet import FeatureStatistics, Reference, distance_of_statistics
from qsens.scoring.intervals import heavy_tailed_error, interval
from qsens.scoring.kid import Kid

FloatArray = NDArray[np.float64]
KID_REFERENCE = 500
METRICS: Mapping[str, Metric] = {
    "fid": Fid(),
    "fid-fp32": FidAgainstFp32(),
    "kid": Kid(reference_images=KID_REFERENCE),
}


@dataclass(frozen=True)
class Names:
    """Stands for the extractor of features that are at hand already."""

    name: str = "features"
    identity: str = "features"
    dimension: int = 0


@dataclass
class Row:
    """Draws of one difference: values, errors, and the value without sampling (`None` if unknown)."""

    truth: float | None
    share_drawn: float = 0.0
    values: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def add(self, value: float, error: float | None) -> None:
        """Add one draw."""
        assert error is not None, "every draw has several images or clips"
        self.values.append(value)
        self.errors.append(error)

    def cells(self) -> list[str]:
        """Expected difference, bias, spread, mean half-width, mean error over spread, coverage."""
        values, errors = np.array(self.values), np.array(self.errors)
        centre = float(values.mean())
        scale = np.sqrt(1.0 - self.share_drawn)
        spread = float(values.std(ddof=1)) / scale
        reach = interval(0.0, 1.0)[1]
        covered = np.mean(np.abs(values - centre) / scale <= reach * errors)
        bias = "" if self.truth is None else f"{centre - self.truth:+.3g}"
        width = float(errors.mean()) * reach
        return [
            f"{centre:.4g}",
            bias,
            f"{spread:.3g}",
            f"{width:.3g}",
            f"{width / spread / reach:.2f}",
            f"{covered:.1%}",
        ]


@dataclass(frozen=True)
class SyntheticCase:
    """Gaussian features with a decaying spectrum: D of them, N images in clips of `per_clip`."""

    dimension: int
    images: int
    per_clip: int = 1

    @property
    def name(self) -> str:
        clips = f", {self.images // self.per_clip} clips" if self.per_clip > 1 else ""
        return f"Gaussian D={self.dimension} N={self.images}{clips}"


@dataclass(frozen=True)
class SyntheticMap:
    """Features `gain` x + `step` s + `noise` e of FP32's x: s are the deviations, e is noise of that size."""

    gain: float
    step: float
    noise: float


FP32 = SyntheticMap(0.93, 0.05, 0.0)
MAPS = {"near": SyntheticMap(1.0, 0.0, 0.03), "far": SyntheticMap(0.97, 0.03, 0.25)}
CASES = (
    SyntheticCase(64, 400),
    SyntheticCase(64, 40),
    SyntheticCase(256, 100),
    SyntheticCase(64, 256, per_clip=8),
    SyntheticCase(256, 200, per_clip=8),
)
REFERENCE_ROWS = 2000
RUNS = {"talker": talker_run, "style": style_run}


def deviations(dimension: int) -> FloatArray:
    """Standard deviations of the features: variances 40 k^-1.3."""
    return np.asarray(np.sqrt(40.0 * np.arange(1, dimension + 1) ** -1.3))


def noise(random: np.random.Generator, case: SyntheticCase, share: float) -> FloatArray:
    """Features of `case` with variance `share` common to each clip."""
    clips = np.repeat(np.arange(case.images // case.per_clip), case.per_clip)
    own = random.standard_normal((len(clips), case.dimension))
    if case.per_clip > 1:
        common = random.standard_normal((clips.max() + 1, case.dimension))[clips]
        own = np.sqrt(share) * common + np.sqrt(1.0 - share) * own
    return np.asarray(own * deviations(case.dimension))


def random_of(case: SyntheticCase) -> np.random.Generator:
    """The stream of a case: its real images first, then its draws."""
    return np.random.default_rng(case.dimension + case.images)


def real_features(case: SyntheticCase, random: np.random.Generator) -> FloatArray:
    """Features of the real images of a case."""
    return np.asarray(random.standard_normal((REFERENCE_ROWS, case.dimension)) * deviations(case.dimension))


def synthetic_draws(
    case: SyntheticCase,
    random: np.random.Generator,
    reference: FloatArray,
    maps: Mapping[str, SyntheticMap],
) -> Iterator[tuple[ScoringContext, dict[str, FloatArray]]]:
    """What each draw is scored against, and the features of each map; without an end."""
    spread = deviations(case.dimension)
    clips = np.repeat(np.arange(case.images // case.per_clip), case.per_clip)
    while True:
        fp32 = FP32.gain * noise(random, case, 0.6) + FP32.step * spread
        yield (
            context_of(reference, fp32, None if case.per_clip == 1 else clips),
            {
                name: change.gain * fp32 + change.step * spread + change.noise * noise(random, case, 0.3)
                for name, change in maps.items()
            },
        )


def synthetic_rows(case: SyntheticCase, draws: int) -> Iterator[tuple[str, Row]]:
    """Rows of fid, fid-fp32 and kid for both maps."""
    random = random_of(case)
    reference = real_features(case, random)
    rows = {
        (metric, name): Row(known_difference(metric, MAPS[name], case.dimension, reference))
        for metric in METRICS
        for name in MAPS
    }
    for context, moved in islice(synthetic_draws(case, random, reference, MAPS), draws):
        for name, features in moved.items():
            add_scores(context, features, lambda metric, name=name: rows[metric, name])
    for (metric, name), row in rows.items():
        yield f"{metric}, {name}", row


def known_difference(
    metric: str, change: SyntheticMap, dimension: int, reference: FloatArray
) -> float | None:
    """The difference from FP32 of infinitely many images; `None` for the kernel distance."""
    spread = deviations(dimension)
    variances = [FP32.gain**2 * spread**2]
    means = [FP32.step * spread]
    variances.append(change.gain**2 * variances[0] + change.noise**2 * spread**2)
    means.append(change.gain * means[0] + change.step * spread)
    if metric == "kid":
        return None
    if metric == "fid-fp32":
        steps = np.square(means[1] - means[0]), np.square(np.sqrt(variances[1]) - np.sqrt(variances[0]))
        return float(np.sum(steps))
    fitted = Reference.from_features(reference, "features")
    first, second = (
        distance_of_statistics(fitted, FeatureStatistics(2, mean, np.diag(variance), "features"))
        for mean, variance in zip(means, variances, strict=True)
    )
    return second - first


def context_of(
    reference: NDArray[np.generic], fp32: NDArray[np.generic], clusters: NDArray[np.intp] | None
) -> ScoringContext:
    """What the metrics score against."""
    return ScoringContext(
        images=len(fp32),
        extractor=Names(dimension=fp32.shape[1]),  # type: ignore[arg-type]
        baseline_features=fp32,
        reference_features=reference,
        reference_digest="reference",
        evaluation_digest="draw",
        clusters=clusters,
        samples=None,  # type: ignore[arg-type]
    )


def add_scores(context: ScoringContext, features: NDArray[np.generic], row_of: Callable[[str], Row]) -> None:
    """Score one draw with every feature metric, and add each to its row."""
    for name, metric in METRICS.items():
        score = measured(metric, context, features).score
        assert score.difference is not None, "feature metrics know their difference from FP32"
        row_of(name).add(score.difference, score.difference_standard_error)


def measured(metric: Metric, context: ScoringContext, features: NDArray[np.generic]) -> Measurement:
    """The score of features, and the influence of each image, as the package computes them."""
    accumulator = metric.start(context)
    pictures = np.zeros((len(features), 3, 1, 1), np.uint8)
    accumulator.update(ScoredBatch(0, pictures, pictures, features))
    return accumulator.compute()


def run_rows(run: LargeRun, images: int, draws: int) -> Iterator[tuple[str, Row]]:
    """Rows of every metric for every map of a large run, over subsets of `images`."""
    share = images / run.images
    rows: dict[str, Row] = {}
    whole = context_of(run.reference, run.fp32, run.clusters)
    for name, made in run.maps.items():
        for metric in METRICS:
            truth = measured(METRICS[metric], whole, made.features).score.difference
            rows[f"{metric}, {name}"] = Row(truth, share)
        rows[f"psnr, {name}"] = Row(psnr_of_error(float(made.squared_errors.mean())), share)
        rows[f"ssim, {name}"] = Row(float(made.similarities.mean()) - 1.0, share)
    random = np.random.default_rng(images)
    for _ in range(draws):
        chosen = run.draw(random, images)
        clusters = None if run.clusters is None else run.clusters[chosen]
        context = replace(context_of(run.reference, run.fp32[chosen], clusters), images=len(chosen))
        for name, made in run.maps.items():
            add_scores(context, made.features[chosen], lambda metric, name=name: rows[f"{metric}, {name}"])
            add_pixel_scores(rows, name, made.squared_errors[chosen], made.similarities[chosen], clusters)
    yield from rows.items()


def add_pixel_scores(
    rows: Mapping[str, Row],
    name: str,
    errors: FloatArray,
    similarities: FloatArray,
    clusters: NDArray[np.intp] | None,
) -> None:
    """Add one draw of PSNR and SSIM."""
    for label, (value, influence) in pixel_scores(errors, similarities).items():
        change = value - 1.0 if label == "ssim" else value
        rows[f"{label}, {name}"].add(change, heavy_tailed_error(influence, clusters))


def pixel_scores(errors: FloatArray, similarities: FloatArray) -> dict[str, tuple[float, FloatArray]]:
    """PSNR of the pooled error and mean SSIM, with their influence values as in `qsens.scoring.fidelity`."""
    mean, similarity = float(errors.mean()), float(similarities.mean())
    influence = -10.0 / np.log(10.0) * (errors - mean) / mean
    return {"psnr": (psnr_of_error(mean), influence), "ssim": (similarity, similarities - similarity)}
