"""Influence of every image on a Fréchet distance, in closed form: standard errors without resampling.

The distance is differentiable in the moments (Rippl, Munk & Sturm 2016): with T the optimal
transport map from N(μ_A, Σ_A) to N(μ_B, Σ_B), ∂d²/∂Σ_A = I - T and ∂d²/∂Σ_B = I - T⁻¹. Moving weight to
image i therefore changes the distance by

    ψ_i = 2 (μ_A - μ_B)·a_i + a_iᵀ(I - T) a_i - mean                      where B is fixed, and by
    ψ_i = 2 (μ_A - μ_B)·(a_i - b_i) + a_iᵀ(I - T) a_i + b_iᵀ(I - T⁻¹) b_i - mean

where the image moves both sides (a_i, b_i centred features of one input). With A Bᵀ = U S Vᵀ the rows'
quadratic forms are the diagonals of U S Uᵀ and V S Vᵀ; directions without singular value belong to the
centring and do not move to first order, which is why the pseudo-inverse is enough where N < D.

Near A = B all ψ vanish: the distance is quadratic there and its first-order error too small. What remains
valid is the error of a difference between two maps that are both well away from the FP32 outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from qsens.core.errors import DataError
from qsens.scoring.frechet import (
    Features,
    FeatureStatistics,
    FloatArray,
    Reference,
    assemble_distance,
    centred_features,
    check_against,
    check_features,
    float64_blocks,
)
from qsens.scoring.intervals import first_order_error, group_index

Rows = NDArray[np.intp]
LEAST_GROUPS = 8
RELATIVE_CUTOFF = 1e-7


def second_order_factor(
    influence: FloatArray, clusters: NDArray[Any] | None, influence_of: Callable[[Rows], FloatArray]
) -> float:
    """Factor on the error that `influence` (N,) gives: 1 far from equality, √½ where all is noise.

    `influence_of`: the influence values of the same score over some of the rows only; it is asked for two
    random halves, clips whole. 1 for fewer than eight images or clips.

    Near equality a distance is quadratic, and its influence values contain the noise of the fitted transport.
    To second order (Efron & Stein 1981) the variance of a score of N independent images is V1 + V2, V1 of
    order 1/N and V2 of order 1/N², while the influence values estimate V1 + 2 V2. At half as many images
    they estimate 2 V1 + 8 V2, so that two halves show V2, and with it the excess.
    """
    whole = first_order_error(influence, clusters)
    halves = halves_of(len(influence), clusters)
    if not whole or not halves:
        return 1.0
    errors = [
        first_order_error(influence_of(rows), None if clusters is None else clusters[rows]) for rows in halves
    ]
    half = float(np.mean([np.square(error or 0.0) for error in errors]))
    ratio = min(max(half / (2.0 * whole**2), 1.0), 2.0)
    return float(np.sqrt(1.5 - 0.5 * ratio))


def halves_of(count: int, clusters: NDArray[Any] | None) -> tuple[Rows, ...]:
    """Row indices of two random halves of the images, by whole clips; the same ones every time."""
    groups = group_index(count, clusters)
    total = int(groups.max()) + 1 if count else 0
    if total < LEAST_GROUPS:
        return ()
    is_first = np.random.default_rng(0).permutation(total) < total // 2
    return np.flatnonzero(is_first[groups]), np.flatnonzero(~is_first[groups])


@dataclass(frozen=True, eq=False)
class FrechetMeasurement:
    """A distance and `influence`: float64 (N,), mean zero; variance / N is the squared standard error."""

    distance: float
    influence: FloatArray = field(repr=False)


def measure_to_reference(reference: Reference, features: Features) -> FrechetMeasurement:
    """Distance of features (N, D) to a fixed reference, with the influence of each image.

    Raises:
        ScoreError: for fewer than two images or features that are not finite.
        DataError: if the feature dimension is not the reference's.
    """
    check_against(reference, features)
    count, dimension = features.shape
    if count > dimension:
        return _measure_tall(reference, features, paired=None)
    mean, rows = centred_features(features)
    product = rows @ reference.root
    if reference.rank < count:
        spectrum = _spectrum(product.T @ product, count - 1)
        carried = _row_squares(product @ spectrum.vectors, 1.0 / spectrum.singular)
    else:
        spectrum = _spectrum(product @ product.T, count - 1)
        carried = _row_squares(spectrum.vectors, spectrum.singular)
    squares = np.einsum("nd,nd->n", rows, rows)
    distance = assemble_distance(reference, mean, float(squares.sum()), spectrum.total)
    slope = 2.0 * np.sqrt(count - 1) * (rows @ (mean - reference.mean))
    return FrechetMeasurement(distance, _centred(slope + count * (squares - carried)))


def measure_pair(first: Features, second: Features, reference: Reference | None = None) -> FrechetMeasurement:
    """Distance between two feature sets (N, D) of the same N inputs, where each input moves both sides.

    `reference`: that of `second`, where it has been factored before; used where N is above D.

    Raises:
        ScoreError: for fewer than two images or features that are not finite.
        DataError: if the shapes differ.
    """
    if first.shape != second.shape:
        raise DataError(
            f"paired features of shapes {first.shape} and {second.shape}",
            "pass features of the same inputs in the same order",
        )
    for side in (first, second):
        check_features(side, least=2)
    count, dimension = first.shape
    if count > dimension:
        fitted = reference or Reference.from_features(second, identity="paired")
        return _measure_tall(fitted, first, paired=second)
    return _measure_wide_pair(first, second)


def _measure_wide_pair(first: Features, second: Features) -> FrechetMeasurement:
    count = len(first)
    mean_first, rows_first = centred_features(first)
    mean_second, rows_second = centred_features(second)
    product = rows_first @ rows_second.T
    spectrum = _spectrum(product @ product.T, count - 1)
    carried = _row_squares(spectrum.vectors, spectrum.singular)
    carried += _row_squares(product.T @ spectrum.vectors, 1.0 / spectrum.singular)
    squares = np.einsum("nd,nd->n", rows_first, rows_first) + np.einsum("nd,nd->n", rows_second, rows_second)
    step = mean_first - mean_second
    distance = max(float(step @ step) + float(squares.sum()) - 2.0 * spectrum.total, 0.0)
    slope = 2.0 * np.sqrt(count - 1) * ((rows_first - rows_second) @ step)
    return FrechetMeasurement(distance, _centred(slope + count * (squares - carried)))


def _measure_tall(reference: Reference, features: Features, paired: Features | None) -> FrechetMeasurement:
    """Both forms where N is above D, from moments and blocks of rows; `paired` moves the reference too."""
    statistics = FeatureStatistics.from_features(features, reference.identity)
    covariance = statistics.covariance
    gram = reference.root.T @ (covariance @ reference.root)
    spectrum = _spectrum(gram, statistics.count - 1)
    trace = float(np.trace(covariance))
    distance = assemble_distance(reference, statistics.mean, trace, spectrum.total)
    step = statistics.mean - reference.mean
    forward = (reference.root @ spectrum.vectors) / np.sqrt(spectrum.singular)
    influence = _side_influence(features, statistics.mean, step, forward)
    if paired is not None:
        whitening = reference.root / np.einsum("dr,dr->r", reference.root, reference.root)
        backward = (whitening @ spectrum.vectors) * np.sqrt(spectrum.singular)
        influence += _side_influence(paired, reference.mean, -step, backward)
    return FrechetMeasurement(distance, _centred(influence))


def _side_influence(
    features: Features, mean: FloatArray, step: FloatArray, transport_root: FloatArray
) -> FloatArray:
    """2 step·c + |c|² - |cᵀ transport_root|² for the centred rows c of one side."""
    scale = len(features) / (len(features) - 1)
    parts = []
    for block in float64_blocks(features):
        rows = block - mean
        moved = rows @ transport_root
        quadratic = np.einsum("nd,nd->n", rows, rows) - np.einsum("nr,nr->n", moved, moved)
        parts.append(2.0 * (rows @ step) + scale * quadratic)
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Singular values from a Gram matrix: their `total`, and those that can be divided by, with vectors."""

    total: float
    singular: FloatArray
    vectors: FloatArray


def _spectrum(gram: FloatArray, rank: int) -> _Spectrum:
    """Roots of the `rank` largest eigenvalues; the rest are zero by construction."""
    if not gram.size:
        return _Spectrum(0.0, np.zeros(0), np.zeros((len(gram), 0)))
    values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    singular = np.sqrt(np.clip(values[-rank:], 0.0, None))
    kept = singular > singular[-1] * RELATIVE_CUTOFF
    return _Spectrum(float(singular.sum()), singular[kept], vectors[:, -rank:][:, kept])


def _row_squares(vectors: FloatArray, weights: FloatArray) -> FloatArray:
    squared: FloatArray = np.square(vectors) @ weights
    return squared


def _centred(values: FloatArray) -> FloatArray:
    centred: FloatArray = values - values.mean()
    return centred
