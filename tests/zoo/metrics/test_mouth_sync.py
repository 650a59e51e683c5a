import numpy as np
import pytest
from annotated_sets import FrameSet, context_of, pictures

from qsens.core.errors import DataError, ScoreError, SpecError
from qsens.core.interfaces import ScoredBatch
from qsens.testing import check_metric
from qsens.zoo.metrics import mouth
from qsens.zoo.metrics.mouth import MouthSync, correlate
from qsens.zoo.metrics.mouth_reader import shipped_reader


class BrightnessReader:
    """Reads the first pixel as the opening."""

    identity = "brightness"

    def read(self, images):
        return np.repeat(images[:, 0, :1, 0].astype(np.float32) / 255, 3, axis=1)


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setattr(mouth, "shipped_reader", BrightnessReader)


def moving_set(openings, clips=None):
    names = clips or ["a"] * len(openings)
    states = [np.array([opening, 0.5, 0.5], np.float32) for opening in openings]
    return FrameSet(
        {"clip": clip, "frame": frame, "mouth": state}
        for frame, (clip, state) in enumerate(zip(names, states, strict=True))
    )


def measure(samples, images, size=4):
    state = MouthSync().start(context_of(samples))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        state.update(ScoredBatch(start, part, part, None))
    return state.compute()


def test_correlation_is_numpys():
    first, second = np.random.default_rng(0).normal(size=(2, 50))
    assert correlate(first, second).value == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_the_influence_is_the_derivative_of_the_correlation_in_a_samples_weight():
    generator = np.random.default_rng(1)
    first = generator.normal(size=40)
    second = 0.6 * first + generator.gamma(1.0, size=40)
    measured = correlate(first, second)

    def weighted(weights):
        weights = weights / weights.sum()
        one, other = first - weights @ first, second - weights @ second
        return (weights @ (one * other)) / np.sqrt((weights @ one**2) * (weights @ other**2))

    step = 1e-6
    for index in range(40):
        weights = np.full(40, (1 - step) / 40)
        weights[index] += step
        slope = (weighted(weights) - measured.value) / step
        assert measured.influence[index] == pytest.approx(slope, abs=1e-4)
    assert abs(measured.influence.mean()) < 1e-12


def test_the_standard_error_is_that_of_the_jackknife():
    generator = np.random.default_rng(2)
    first = generator.normal(size=400)
    second = 0.8 * first + generator.normal(size=400)
    without = [np.corrcoef(np.delete(first, index), np.delete(second, index))[0, 1] for index in range(400)]
    jackknife = np.sqrt(399 / 400 * np.square(np.array(without) - np.mean(without)).sum())
    influence = correlate(first, second).influence
    assert np.sqrt(np.square(influence).sum() / 399 / 400) == pytest.approx(jackknife, rel=0.02)


@pytest.mark.parametrize("still", [np.zeros(5), np.full(5, 0.1)])
def test_a_mouth_that_does_not_move_follows_nothing(still):
    measured = correlate(still, np.arange(5.0))
    assert measured.value == 0.0
    assert not measured.influence.any()


def test_a_mouth_that_follows_scores_one_and_one_that_opposes_minus_one(brightness):
    openings = np.array([0, 51, 102, 204, 255, 51], np.uint8)
    images = np.broadcast_to(openings[:, None, None, None], (6, 3, 8, 8)).copy()
    samples = moving_set(openings / 255)
    measured = measure(samples, images)
    assert measured.score.value == pytest.approx(1.0)
    assert measured.score.metric == "mouth-sync"
    assert not measured.score.lower_is_better
    assert measure(samples, 255 - images).score.value == pytest.approx(-1.0)
    assert measure(samples, np.full_like(images, 9)).score.value == 0.0


def test_clips_and_not_frames_are_independent(brightness):
    generator = np.random.default_rng(3)
    openings = np.tile(generator.random(10), 2)
    clips = [f"clip{index}" for index in range(10)] * 2
    images = np.tile(pictures(10, 8), (2, 1, 1, 1))
    twice = measure(moving_set(openings, clips), images).score
    once = measure(moving_set(openings[:10], clips[:10]), images[:10]).score
    # Every frame twice in its clip tells nothing new.
    assert twice.standard_error == pytest.approx(once.standard_error)


def test_keeps_the_contract_of_metrics_where_the_truth_is_what_intact_pictures_show():
    intact = np.random.default_rng(0).integers(0, 256, (48, 3, 96, 96), dtype=np.uint8)
    samples = moving_set(shipped_reader().read(intact)[:, 0])
    check_metric(MouthSync, samples=samples, side=96)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (FrameSet([{"clip": "a", "frame": 0}]), SpecError, "mouth-sync needs 'mouth' of every sample"),
        (FrameSet([{"mouth": np.zeros(3)}, {"clip": "a"}]), SpecError, "1 of 2 samples"),
        (None, SpecError, "given none"),
        (moving_set([0.5, 0.5]), DataError, "in all 2 samples"),
    ],
)
def test_says_what_is_missing(samples, error, message):
    with pytest.raises(error, match=message) as caught:
        MouthSync().start(context_of(samples))
    assert caught.value.hint


def test_needs_a_picture():
    with pytest.raises(ScoreError, match="no image was scored"):
        MouthSync().start(context_of(moving_set([0.1, 0.9]))).compute()
