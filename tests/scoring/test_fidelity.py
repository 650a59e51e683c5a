import numpy as np
import pytest

from qsens.core.errors import DataError, ScoreError
from qsens.core.interfaces import ScoredBatch, ScoringContext
from qsens.scoring.fidelity import (
    PEAK,
    PSNR_CAP_DB,
    Psnr,
    Ssim,
    mean_squared_errors,
    psnr_of_error,
    structural_similarities,
)
from qsens.scoring.intervals import heavy_tailed_error, standard_error

CONTEXT = ScoringContext(4, None, None, None, None, "inputs", None)


def pictures(seed: int, height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth pictures with a little noise, so that SSIM is neither 0 nor 1."""
    generator = np.random.default_rng(seed)
    across = np.linspace(0, 6, width) + np.linspace(0, 3, height)[:, None]
    waves = 120 + 90 * np.sin(across + generator.uniform(0, 1, (4, 3, 1, 1)))
    return np.clip(waves + generator.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def score(metric, images, baseline):
    accumulator = metric.start(CONTEXT)
    for start in (0, 2):
        window = slice(start, start + 2)
        accumulator.update(ScoredBatch(start, images[window], baseline[window], None))
    return accumulator.compute()


def test_psnr_pools_the_error_first():
    baseline = np.full((4, 3, 8, 8), 100, np.uint8)
    images = baseline.copy()
    images[1] += 4
    measurement = score(Psnr(), images, baseline)
    assert measurement.score.value == pytest.approx(10 * np.log10(255**2 / 4))
    assert measurement.score.difference is None
    np.testing.assert_allclose(measurement.influence, -10 / np.log(10) * np.array([-1, 3, -1, -1]))


def test_extreme_errors_are_exact():
    black, white = np.zeros((2, 3, 300, 300), np.uint8), np.full((2, 3, 300, 300), 255, np.uint8)
    assert mean_squared_errors(black, white).tolist() == [255.0**2] * 2
    assert psnr_of_error(255.0**2) == 0.0


def test_equal_images_have_the_cap_and_no_spread():
    measurement = score(Psnr(), pictures(0), pictures(0))
    assert measurement.score.value == PSNR_CAP_DB
    assert measurement.score.standard_error == 0.0


def test_psnr_error_through_the_logarithm():
    generator = np.random.default_rng(0)
    errors = generator.gamma(4.0, 2.0, (400, 200))
    values = [psnr_of_error(row.mean()) for row in errors]
    spread = [(10 / np.log(10) * row.std() / row.mean()) / np.sqrt(200) for row in errors]
    assert np.mean(spread) == pytest.approx(np.std(values), rel=0.1)


def test_intervals_of_log_normal_errors_hold_the_expected_psnr():
    random = np.random.default_rng(6)
    rows = random.lognormal(sigma=1.2, size=(2000, 100))
    values = 10 * np.log10(PEAK**2 / rows.mean(axis=1))
    plain = [standard_error(row / row.mean()) for row in rows]
    wide = [heavy_tailed_error(row / row.mean()) for row in rows]
    misses = np.abs(values - values.mean()) / (1.96 * 10 / np.log(10))
    assert np.mean(misses <= plain) < 0.93
    assert 0.93 <= np.mean(misses <= wide) <= 0.97


@pytest.mark.parametrize("metric", [Psnr(), Ssim()])
def test_one_spoiled_picture_of_many_makes_a_wide_interval(metric):
    baseline = np.concatenate([pictures(seed) for seed in range(8)])
    noise = np.random.default_rng(7).integers(0, 3, baseline.shape, dtype=np.uint8)
    noise[5] *= 9
    accumulator = metric.start(CONTEXT)
    accumulator.update(ScoredBatch(0, np.clip(baseline, 30, 200) + noise, np.clip(baseline, 30, 200), None))
    found = accumulator.compute()
    plain = standard_error(found.influence)
    assert found.score.standard_error == pytest.approx(heavy_tailed_error(found.influence))
    assert found.score.standard_error > 1.2 * plain


@pytest.mark.parametrize("size", [(24, 40), (11, 11), (12, 64)])
def test_ssim_agrees_with_scikit_image(size):
    measure = pytest.importorskip("skimage.metrics").structural_similarity
    images, baseline = pictures(0, *size), pictures(1, *size)
    found = structural_similarities(images, baseline)
    expected = [
        measure(
            image, other, channel_axis=0, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for image, other in zip(images, baseline, strict=True)
    ]  # fmt: skip
    assert 0.1 < np.mean(expected) < 0.95
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_ssim_of_flat_images_is_the_formula():
    """Without variance only the luminance term is left."""
    first, second = np.full((1, 3, 11, 11), 50, np.uint8), np.full((1, 3, 11, 11), 80, np.uint8)
    stabiliser = (0.01 * 255) ** 2
    expected = (2 * 50 * 80 + stabiliser) / (50**2 + 80**2 + stabiliser)
    assert structural_similarities(first, second)[0] == pytest.approx(expected, abs=1e-4)


def test_ssim_is_one_for_equal_images():
    measurement = score(Ssim(), pictures(0), pictures(0))
    assert measurement.score.value == pytest.approx(1.0, abs=1e-6)
    assert measurement.score.difference == pytest.approx(0.0, abs=1e-6)


def test_small_or_unequal_images_are_refused():
    with pytest.raises(DataError, match=r"at least 11 by 11 pixels, got \(10, 40\)"):
        structural_similarities(pictures(0, 10), pictures(1, 10))
    with pytest.raises(ScoreError, match="against FP32 images of"):
        score(Psnr(), pictures(0), pictures(0, 30))
    with pytest.raises(DataError, match="float64"):
        score(Psnr(), pictures(0) / 1.0, pictures(0))
    with pytest.raises(ScoreError, match="no image"):
        Ssim().start(CONTEXT).compute()
