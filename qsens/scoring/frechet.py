"""Fréchet distance between feature sets: streamed statistics, a reference fitted once, the distance itself.

The distance is the squared 2-Wasserstein distance of the two Gaussians (Dowson & Landau 1982)

    d² = |μ_A - μ_R|² + tr Σ_A + tr Σ_R - 2 tr (Σ_R^½ Σ_A Σ_R^½)^½.

With any F for which F Fᵀ = Σ_R, the last trace is the sum of the singular values of A F, where A holds the
centred features divided by √(N-1) and AᵀA = Σ_A. Only the smaller Gram matrix of A F is ever needed, and
no matrix square root per distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from qsens.core.errors import DataError, ScoreError

FloatArray = NDArray[np.float64]
Features = NDArray[Any]
ROWS_PER_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Moments of a feature set; two sets' moments merge into those of their union.

    `mean`: float64 (D,). `scatter`: float64 (D, D), sum of outer products of the centred features.
    `identity` names extractor, preprocessing and weights (`Extractor.identity`).
    """

    count: int
    mean: FloatArray = field(repr=False)
    scatter: FloatArray = field(repr=False)
    identity: str

    @classmethod
    def from_features(cls, features: Features, identity: str) -> FeatureStatistics:
        """Moments of features (N, D), any float dtype, N at least 1; read in blocks, summed in float64."""
        check_features(features, least=1)
        shift = np.asarray(features[:ROWS_PER_BLOCK], dtype=np.float64).mean(axis=0)
        total = np.zeros_like(shift)
        upper = np.zeros((len(shift), len(shift)), order="F")
        for block in float64_blocks(features):
            rows = block - shift
            total += rows.sum(axis=0)
            # In place and one triangle only: half the arithmetic and no D by D temporaries.
            upper = scipy.linalg.blas.dsyrk(1.0, rows.T, beta=1.0, c=upper, overwrite_c=1)
        step = total / len(features)
        scatter = np.triu(upper)
        scatter += np.triu(upper, 1).T
        scatter -= np.outer(step, total)
        return cls(len(features), shift + step, scatter, identity)

    def merged(self, other: FeatureStatistics) -> FeatureStatistics:
        """Moments of both sets together (Chan, Golub & LeVeque 1983).

        Raises:
            DataError: if the features come from different extractors or differ in dimension.
        """
        if self.identity != other.identity or len(self.mean) != len(other.mean):
            raise DataError(
                f"statistics of {self.identity!r} ({len(self.mean)} features) and {other.identity!r} "
                f"({len(other.mean)} features) cannot be merged",
                "compute both with the same extractor, preprocessing and weights",
            )
        count = self.count + other.count
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += np.outer(step, step * (self.count * other.count / count))
        return FeatureStatistics(count, self.mean + step * (other.count / count), scatter, self.identity)

    @property
    def covariance(self) -> FloatArray:
        """Unbiased covariance (D, D). Raises `ScoreError` for fewer than two images."""
        if self.count < 2:
            raise ScoreError("a Fréchet distance needs at least two images a side, got 1", "add images")
        return self.scatter / (self.count - 1)


@dataclass(frozen=True, eq=False)
class Reference:
    """The set that distances are measured to, factored once.

    `root`: float64 (D, rank), orthogonal columns, `root @ root.T` is the covariance. Directions without
    variance are left out, so a reference of few images is also cheaper.
    """

    count: int
    mean: FloatArray = field(repr=False)
    root: FloatArray = field(repr=False)
    trace: float
    identity: str

    @classmethod
    def from_statistics(cls, statistics: FeatureStatistics) -> Reference:
        """Factor the covariance; cubic in the feature dimension, about two seconds at 2048."""
        values, vectors = scipy.linalg.eigh(
            statistics.covariance, driver="evd", overwrite_a=True, check_finite=False
        )
        kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
        root = vectors[:, kept] * np.sqrt(values[kept])
        return cls(statistics.count, statistics.mean, root, float(values[kept].sum()), statistics.identity)

    @classmethod
    def from_features(cls, features: Features, identity: str) -> Reference:
        """Reference of features (M, D), M at least 2."""
        check_features(features, least=2)
        return cls.from_statistics(FeatureStatistics.from_features(features, identity))

    @property
    def rank(self) -> int:
        """Number of directions in which the reference varies."""
        return int(self.root.shape[1])


def frechet_distance(reference: Reference, features: Features) -> float:
    """Distance of features (N, D) to the reference, at least 0, in squared feature units.

    Raises:
        ScoreError: for fewer than two images or features that are not finite.
        DataError: if the feature dimension is not the reference's.
    """
    check_against(reference, features)
    count, dimension = features.shape
    if count > dimension:
        return distance_of_statistics(
            reference, FeatureStatistics.from_features(features, reference.identity)
        )
    mean, centred = centred_features(features)
    overlap = nuclear_norm_of_gram(smaller_gram(centred @ reference.root), count - 1)
    return assemble_distance(reference, mean, float(np.vdot(centred, centred)), overlap)


def distance_of_statistics(reference: Reference, statistics: FeatureStatistics) -> float:
    """Distance of streamed moments to the reference; exact where N is above the feature dimension.

    Raises:
        DataError: if the two come from different extractors.
    """
    if statistics.identity != reference.identity or len(statistics.mean) != len(reference.mean):
        raise DataError(
            f"features of {statistics.identity!r} cannot be compared with a reference of "
            f"{reference.identity!r}",
            "use one extractor, one preprocessing and one set of weights for both sides",
        )
    covariance = statistics.covariance
    gram = reference.root.T @ (covariance @ reference.root)
    overlap = nuclear_norm_of_gram(gram, statistics.count - 1)
    return assemble_distance(reference, statistics.mean, float(np.trace(covariance)), overlap)


def assemble_distance(reference: Reference, mean: FloatArray, trace: float, overlap: float) -> float:
    """The formula; rounding below zero, where no distance can be, is cut off."""
    step = mean - reference.mean
    return max(float(step @ step) + trace + reference.trace - 2.0 * overlap, 0.0)


def smaller_gram(product: FloatArray) -> FloatArray:
    """P Pᵀ or PᵀP, whichever is smaller; both have the same eigenvalues but for zeros."""
    tall = product.shape[0] > product.shape[1]
    return product.T @ product if tall else product @ product.T


def nuclear_norm_of_gram(gram: FloatArray, rank: int) -> float:
    """Sum of the square roots of the `rank` largest eigenvalues of a Gram matrix.

    The others are zero by construction (centring), and the root of their rounding errors is not.
    """
    if not gram.size:
        return 0.0
    values = scipy.linalg.eigvalsh(gram, driver="evd", overwrite_a=True, check_finite=False)
    return float(np.sqrt(np.clip(values[-rank:], 0.0, None)).sum())


def centred_features(features: Features) -> tuple[FloatArray, FloatArray]:
    """Mean (D,) and rows (N, D) minus the mean over √(N-1), so that their Gram is the covariance."""
    rows = np.asarray(features, dtype=np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean) / np.sqrt(len(rows) - 1)


def float64_blocks(features: Features) -> Iterator[FloatArray]:
    """The rows in order, in float64 blocks, so that a large float16 set is never copied whole."""
    for start in range(0, len(features), ROWS_PER_BLOCK):
        yield np.asarray(features[start : start + ROWS_PER_BLOCK], dtype=np.float64)


def check_against(reference: Reference, features: Features) -> None:
    """Raise `ScoreError` or `DataError` unless the features can be compared with the reference."""
    check_features(features, least=2)
    if features.shape[1] != len(reference.mean):
        raise DataError(
            f"{features.shape[1]} features an image against a reference with {len(reference.mean)}",
            "use the extractor that the reference was computed with",
        )


def check_features(features: Features, least: int) -> None:
    """Raise `DataError` for a wrong shape, `ScoreError` for too few images or values that are not finite."""
    if features.ndim != 2 or features.shape[1] < 1:
        raise DataError(f"features of shape {features.shape}", "pass one row of features an image: (N, D)")
    if len(features) < least:
        raise ScoreError(
            f"a Fréchet distance needs at least {least} images a side, got {len(features)}", "add images"
        )
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        raise ScoreError(
            f"features of {broken} of {len(features)} images are NaN or infinite",
            "look at the outputs: the generator or the extractor overflowed",
        )
