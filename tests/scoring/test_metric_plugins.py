import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import Extractor, Measurement, Metric, ScoredBatch, ScoringContext
from qsens.core.metric_names import FRECHET_CALIBRATION
from qsens.scoring.fid import Fid, FidAgainstFp32, sample_size_warning, score_of_two_sets
from qsens.scoring.fidelity import Psnr, Ssim
from qsens.scoring.frechet import Reference, frechet_distance
from qsens.scoring.influence import measure_pair, second_order_factor
from qsens.scoring.intervals import paired_standard_error, standard_error
from qsens.scoring.kid import Cmmd, Kid, evenly_chosen, mean_kernel_between_rows, paired_kernel_distance

IMAGES, DIMENSION = 40, 16
GENERATOR = np.random.default_rng(0)
FP32 = GENERATOR.standard_normal((IMAGES, DIMENSION)).astype(np.float32)
QUANTIZED = (FP32 * 1.2 + 0.3 * GENERATOR.standard_normal(FP32.shape)).astype(np.float32)
REAL = GENERATOR.standard_normal((90, DIMENSION)).astype(np.float32) + np.float32(0.2)
PICTURES = GENERATOR.integers(0, 256, (IMAGES, 3, 16, 16), dtype=np.uint8)

METRICS = [Fid(), FidAgainstFp32(), Kid(), Cmmd(), Psnr(), Ssim()]


def extractor(name: str) -> Extractor:
    return Extractor(name, DIMENSION, 224, "none", "0" * 64, None)


def context(**changes: object) -> ScoringContext:
    fields = {
        "images": IMAGES,
        "extractor": extractor("lite0"),
        "baseline_features": FP32,
        "reference_features": REAL,
        "reference_digest": "real",
        "evaluation_digest": "inputs",
        "clusters": None,
    }
    return ScoringContext(**{**fields, **changes})


def measure(
    metric: Metric, features: np.ndarray, pictures: np.ndarray = PICTURES, **changes: object
) -> Measurement:
    accumulator = metric.start(context(**changes))
    for start in range(0, len(features), 7):
        window = slice(start, start + 7)
        accumulator.update(ScoredBatch(start, pictures[window], PICTURES[window], features[window]))
    return accumulator.compute()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_scores_are_plain_and_complete(metric):
    measurement = measure(metric, QUANTIZED, PICTURES // 2)
    score = measurement.score
    json.loads(json.dumps(asdict(score), allow_nan=False))
    assert score.metric == metric.label(context())
    assert score.images == IMAGES
    assert score.lower_is_better is metric.lower_is_better
    assert "inputs" in score.against
    assert measurement.influence.shape == (IMAGES,)
    assert abs(measurement.influence.mean()) < 1e-9 * (1 + np.abs(measurement.influence).max())
    assert score.standard_error == pytest.approx(standard_error(measurement.influence))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_fp32_itself_scores_without_a_baseline(metric):
    measurement = measure(metric, FP32, baseline_features=None)
    json.loads(json.dumps(asdict(measurement.score), allow_nan=False))
    assert measurement.score.difference in (0.0, None)
    assert measure(metric, FP32).score.difference in (pytest.approx(0.0, abs=1e-6), None)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_survive_pickling(metric):
    copy = pickle.loads(pickle.dumps(metric))
    assert measure(copy, QUANTIZED).score == measure(metric, QUANTIZED).score


@pytest.mark.parametrize(
    ("metric", "name", "label"),
    [
        (Fid(), "inception", "fid"),
        (Fid(), "lite0", "fid[lite0]"),
        (FidAgainstFp32(), "inception", "fid-fp32"),
        (FidAgainstFp32(), "lite0", "fid-fp32[lite0]"),
        (Kid(), "inception", "kid"),
        (Kid(), "lite0", "kid[lite0]"),
        (Cmmd(), "clip", "cmmd[clip]"),
        (Psnr(), "inception", "psnr"),
        (Ssim(), "lite0", "ssim"),
    ],
)
def test_only_inception_is_called_fid(metric, name, label):
    assert metric.label(context(extractor=extractor(name))) == label


def test_kid_without_real_images_says_so():
    assert Kid().label(context(reference_features=None)) == "kid-fp32[lite0]"


def test_fid_is_the_distance_with_a_paired_difference():
    measurement = measure(Fid(), QUANTIZED)
    reference = Reference.from_features(REAL, "t")
    own, baseline = (frechet_distance(reference, side) for side in (QUANTIZED, FP32))
    assert measurement.score.value == pytest.approx(own)
    assert measurement.score.difference == pytest.approx(own - baseline)
    fp32 = measure(Fid(), FP32, baseline_features=None)
    assert fp32.score.value == pytest.approx(baseline)
    paired = paired_standard_error(measurement.influence, fp32.influence)
    assert measurement.score.difference_standard_error == pytest.approx(paired)


def test_scores_against_other_data_are_told_apart():
    score = measure(Fid(), QUANTIZED).score
    for changes in (
        {"reference_digest": "other"},
        {"evaluation_digest": "other"},
        {"extractor": extractor("inception")},
    ):
        assert measure(Fid(), QUANTIZED, **changes).score.against != score.against


def test_one_metric_object_serves_runs_with_other_data():
    metric = Fid()
    first = measure(metric, QUANTIZED).score.value
    moved = measure(metric, QUANTIZED, reference_features=REAL + np.float32(1)).score
    assert moved.value == pytest.approx(
        frechet_distance(Reference.from_features(REAL + np.float32(1), "t"), QUANTIZED)
    )
    assert measure(metric, QUANTIZED, baseline_features=QUANTIZED).score.difference == 0.0
    assert measure(metric, QUANTIZED).score.value == first


def test_distance_to_fp32():
    measurement = measure(FidAgainstFp32(), QUANTIZED, reference_features=None)
    expected = measure_pair(QUANTIZED, FP32)
    assert measurement.score.value == pytest.approx(expected.distance)
    factor = second_order_factor(
        expected.influence, None, lambda rows: measure_pair(QUANTIZED[rows], FP32[rows]).influence
    )
    assert np.sqrt(0.5) <= factor < 1.0
    np.testing.assert_allclose(measurement.influence, FRECHET_CALIBRATION * factor * expected.influence)
    fp32 = measure(FidAgainstFp32(), FP32, baseline_features=None)
    assert fp32.score.value == 0.0
    assert fp32.score.standard_error is None
    assert fp32.influence is None


def test_clips_widen_the_interval():
    """Ten clips of four frames each; within a clip the maps moved alike."""
    base = np.repeat(GENERATOR.standard_normal((10, DIMENSION)), 4, axis=0).astype(np.float32)
    clips = np.repeat(np.arange(10), 4)
    alone, clustered = (
        measure(FidAgainstFp32(), base * 1.3, baseline_features=base, clusters=labels).score.standard_error
        for labels in (None, clips)
    )
    assert clustered > 1.8 * alone


def test_a_run_may_stop_early():
    """The first images of the set are compared with the same images of FP32."""
    measurement = measure(Fid(), QUANTIZED[:21], clusters=np.arange(IMAGES))
    reference = Reference.from_features(REAL, "t")
    expected = frechet_distance(reference, QUANTIZED[:21]) - frechet_distance(reference, FP32[:21])
    assert measurement.score.difference == pytest.approx(expected)


def test_kid_is_the_unbiased_sum():
    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (first.astype(float) @ second.T.astype(float) / DIMENSION + 1) ** 3

    def mean_off_diagonal(gram: np.ndarray) -> float:
        return (gram.sum() - np.trace(gram)) / (len(gram) * (len(gram) - 1))

    expected = (
        mean_off_diagonal(kernel(QUANTIZED, QUANTIZED))
        + mean_off_diagonal(kernel(REAL, REAL))
        - 2 * kernel(QUANTIZED, REAL).mean()
    )
    measurement = measure(Kid(), QUANTIZED)
    assert measurement.score.value == pytest.approx(expected, rel=1e-9)
    baseline = measure(Kid(), FP32, baseline_features=None)
    assert measurement.score.difference == pytest.approx(expected - baseline.score.value)
    paired = paired_standard_error(measurement.influence, baseline.influence)
    assert measurement.score.difference_standard_error == pytest.approx(paired)


def test_paired_kid_is_zero_at_equality_and_its_error_is_right():
    equal = paired_kernel_distance(FP32, FP32)
    assert equal.distance == 0.0
    generator = np.random.default_rng(1)
    values, errors = [], []
    for _ in range(150):
        base = generator.standard_normal((120, 3))
        measured = paired_kernel_distance(base * 1.5 + 0.7, base)
        values.append(measured.distance)
        errors.append(measured.influence.std() / np.sqrt(120))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_kid_uses_evenly_chosen_real_images():
    chosen = evenly_chosen(REAL, 10)
    assert len(chosen) == 10
    np.testing.assert_array_equal(chosen[[0, -1]], REAL[[0, -1]])
    score = measure(Kid(reference_images=10), QUANTIZED).score
    whole = measure(Kid(), QUANTIZED, reference_features=chosen).score
    assert score.value == whole.value
    assert "10 images" in score.against
    assert mean_kernel_between_rows(chosen) != mean_kernel_between_rows(REAL)


@pytest.mark.parametrize("metric", [Fid(), FidAgainstFp32(), Kid()], ids=lambda metric: metric.name)
def test_bad_contexts_and_batches_are_refused(metric):
    with pytest.raises(SpecError, match="extractor"):
        metric.start(context(extractor=None))
    accumulator = metric.start(context())
    with pytest.raises(ScoreError, match="no image"):
        accumulator.compute()
    with pytest.raises(SpecError, match="needs features"):
        accumulator.update(ScoredBatch(0, PICTURES[:2], PICTURES[:2], None))
    accumulator.update(ScoredBatch(0, PICTURES[:2], PICTURES[:2], FP32[:2]))
    with pytest.raises(DataError, match="starts at image 5, expected 2"):
        accumulator.update(ScoredBatch(5, PICTURES[:2], PICTURES[:2], FP32[:2]))
    broken = QUANTIZED.copy()
    broken[3] = np.inf
    with pytest.raises(ScoreError, match="1 of 40 images are NaN or infinite"):
        measure(metric, broken)
    with pytest.raises(ScoreError, match="at least 2 images"):
        measure(metric, QUANTIZED[:1])
    with pytest.raises(DataError, match="3 values for 7 images"):
        measure(metric, QUANTIZED[:7], baseline_features=FP32[:3])


def test_fid_needs_real_images():
    with pytest.raises(SpecError, match="real images") as caught:
        Fid().start(context(reference_features=None))
    assert "--reference" in caught.value.hint
    with pytest.raises(SpecError, match="reference_images=1"):
        Kid(reference_images=1)


def test_two_sets_have_an_error_from_both_sides():
    score = score_of_two_sets(QUANTIZED, REAL, extractor("lite0"))
    back = score_of_two_sets(REAL, QUANTIZED, extractor("lite0"))
    assert score.value == pytest.approx(back.value)
    assert score.standard_error == pytest.approx(back.standard_error)
    assert (score.metric, score.images) == ("fid[lite0]", IMAGES)


def test_few_images_warn():
    assert "15 images, fewer than the 16 features of lite0" in sample_size_warning(15, extractor("lite0"))
    assert sample_size_warning(16, extractor("lite0")) is None


@pytest.mark.parametrize("reference", [REAL, None])
def test_cmmd_is_the_papers_without_pairs_of_a_picture_with_itself(reference):
    """Jayasumana et al. 2024, their code written out: rows of length 1, sigma 10, times 1000."""
    own, other = (
        side / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (np.float64(QUANTIZED), np.float64(FP32 if reference is None else reference))
    )

    def mean(one, two, *, is_paired):
        squares = ((one[:, None] - two[None]) ** 2).sum(-1)
        kernel = 1000 * np.exp(-squares / (2 * 10**2))
        return kernel[~np.eye(len(one), dtype=bool)].mean() if is_paired else kernel.mean()

    expected = mean(own, own, is_paired=True) + mean(other, other, is_paired=True)
    expected -= 2 * mean(own, other, is_paired=reference is None)
    assert measure(Cmmd(), QUANTIZED, reference_features=reference).score.value == pytest.approx(expected)
