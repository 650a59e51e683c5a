import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import DataError, ScoreError
from qsens.scoring.frechet import (
    FeatureStatistics,
    Reference,
    distance_of_statistics,
    frechet_distance,
)

SPREAD = np.sqrt(40.0 * np.arange(1, 257) ** -1.3)


def gaussians(seed: int, rows: int, dimension: int = 256) -> np.ndarray:
    return np.random.RandomState(seed).randn(rows, dimension) * SPREAD[:dimension]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_features(gaussians(1, 2000), "test")


@pytest.mark.parametrize(("rows", "golden"), [(2000, 2.10053756), (100, 28.1824208)])
def test_golden_numbers(reference, rows, golden):
    assert frechet_distance(reference, gaussians(2, rows)) == pytest.approx(golden, rel=1e-8)


def test_known_covariances_give_the_closed_form():
    """For commuting covariances the distance is the sum of squared differences of the standard deviations."""
    signs = np.array([[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)]) * np.sqrt(3 / 4)
    first, second = signs * [3.0, 1.0] + [5.0, 0.0], signs * [1.0, 4.0]
    assert frechet_distance(Reference.from_features(first, "t"), second) == pytest.approx(25 + 4 + 9)


@pytest.mark.parametrize("rows", [40, 2000])
def test_distance_to_itself_is_zero(rows):
    features = gaussians(3, rows)
    assert 0.0 <= frechet_distance(Reference.from_features(features, "t"), features) < 1e-8


@pytest.mark.parametrize("rows", [60, 700])
def test_constant_shift_adds_its_square(reference, rows):
    features = gaussians(4, rows)
    mean_step = features.mean(0) - reference.mean
    features -= mean_step
    shift = np.linspace(-1, 1, 256)
    moved = frechet_distance(reference, features + shift)
    assert moved - frechet_distance(reference, features) == pytest.approx(shift @ shift, rel=1e-9)


def test_order_of_images_does_not_matter(reference):
    features = gaussians(5, 120)
    assert frechet_distance(reference, features[::-1]) == pytest.approx(
        frechet_distance(reference, features), rel=1e-12
    )


@pytest.mark.parametrize("rows", [40, 100, 101, 300])
@pytest.mark.parametrize("reference_rows", [50, 500])
def test_agrees_with_the_nuclear_norm(rows, reference_rows):
    """The trace term is the sum of the singular values of A Bᵀ, without any root or Gram matrix."""
    first, second = gaussians(6, rows, 100), gaussians(7, reference_rows, 100) + 0.3
    centred = [(side - side.mean(0)) / np.sqrt(len(side) - 1) for side in (first, second)]
    step = first.mean(0) - second.mean(0)
    overlap = scipy.linalg.svdvals(centred[0] @ centred[1].T).sum()
    expected = step @ step + sum((side**2).sum() for side in centred) - 2 * overlap
    assert frechet_distance(Reference.from_features(second, "t"), first) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("rows", "tolerance"), [(2000, 1e-6), (100, 1e-3)])
def test_agrees_with_a_plain_matrix_square_root(reference, rows, tolerance):
    features = gaussians(8, rows)
    covariance = np.cov(features, rowvar=False)
    other = np.cov(gaussians(1, 2000), rowvar=False)
    root = np.asarray(scipy.linalg.sqrtm(covariance @ other)).real
    step = features.mean(0) - reference.mean
    expected = step @ step + np.trace(covariance) + np.trace(other) - 2 * np.trace(root)
    assert frechet_distance(reference, features) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("dimension", "rows"), [(1, 2), (1, 30), (5, 2), (4, 100)])
def test_small_and_constant_features(dimension, rows):
    varied = np.random.default_rng(0).standard_normal((rows, dimension))
    constant = np.ones((rows, dimension))
    expected = ((varied.mean(0) - 1) ** 2).sum() + varied.var(0, ddof=1).sum()
    to_constant = Reference.from_features(constant, "t")
    assert frechet_distance(to_constant, varied) == pytest.approx(expected)
    assert frechet_distance(Reference.from_features(varied, "t"), constant) == pytest.approx(expected)
    assert frechet_distance(to_constant, constant) == 0.0
    assert frechet_distance(to_constant, constant + 2.0) == pytest.approx(4.0 * dimension)


def test_float16_features_are_summed_in_float64(reference):
    features = gaussians(9, 300).astype(np.float16)
    assert frechet_distance(reference, features) == frechet_distance(reference, features.astype(np.float64))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.integers(0, 99),
    st.floats(0, 1e3),
)
def test_merged_statistics_are_those_of_the_union(dimension, sizes, seed, offset):
    features = np.random.default_rng(seed).standard_normal((sum(sizes), dimension)) + offset
    parts = np.split(features, np.cumsum(sizes)[:-1])
    merged = FeatureStatistics.from_features(parts[0], "t")
    for part in parts[1:]:
        merged = merged.merged(FeatureStatistics.from_features(part, "t"))
    centred = features - features.mean(0)
    assert merged.count == len(features)
    np.testing.assert_allclose(merged.mean, features.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.scatter, centred.T @ centred, rtol=1e-9, atol=1e-8)


def test_streamed_distance_equals_the_distance_at_once(reference):
    features = gaussians(10, 3000)
    halves = [FeatureStatistics.from_features(part, "test") for part in (features[:1100], features[1100:])]
    streamed = distance_of_statistics(reference, halves[0].merged(halves[1]))
    assert streamed == pytest.approx(frechet_distance(reference, features), rel=1e-10)


def test_statistics_of_different_extractors_never_mix(reference):
    first, second = (
        FeatureStatistics.from_features(gaussians(1, 9), name) for name in ("lite0", "inception")
    )
    with pytest.raises(DataError, match=r"'lite0'.*'inception'"):
        first.merged(second)
    with pytest.raises(DataError, match=r"'lite0'.*'test'"):
        distance_of_statistics(reference, first)


def test_bad_features_are_refused(reference):
    features = gaussians(1, 10)
    with pytest.raises(DataError, match="3 features an image against a reference with 256"):
        frechet_distance(reference, features[:, :3])
    with pytest.raises(ScoreError, match="at least 2 images a side, got 1"):
        frechet_distance(reference, features[:1])
    with pytest.raises(DataError, match=r"shape \(256,\)"):
        frechet_distance(reference, features[0])
    features[3, 5] = np.nan
    with pytest.raises(ScoreError, match="1 of 10 images are NaN"):
        frechet_distance(reference, features)


def test_scores_need_neither_torch_nor_onnx():
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx', 'onnxruntime', 'skimage', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from qsens.scoring import fidelity, frechet, influence, intervals\n"
        "rows = np.random.default_rng(0).standard_normal((9, 4))\n"
        "reference = frechet.Reference.from_features(rows, 't')\n"
        "print(influence.measure_to_reference(reference, rows).distance < 1e-9)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
