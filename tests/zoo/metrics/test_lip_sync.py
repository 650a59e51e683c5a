import numpy as np
import pytest
from annotated_sets import FrameSet, context_of, pictures

from qsens.core.errors import LoadError, ScoreError, SpecError
from qsens.core.interfaces import ScoredBatch
from qsens.scoring.intervals import few_groups_factor
from qsens.testing import check_metric
from qsens.zoo.audio.wave import write_wave
from qsens.zoo.metrics import lip_sync
from qsens.zoo.metrics.lip_sync import LseC, LseD, ground_truth_scores, spoken_runs
from qsens.zoo.syncnet.lse import SyncScore


class BrightnessMeter:
    """Distance is the mean grey level, confidence its opposite; counts the clips and keeps the sounds."""

    identity = "brightness"

    def __init__(self):
        self.sounds = []

    def score(self, images, sound):
        self.sounds.append(sound)
        return SyncScore(float(images.mean()), 255.0 - float(images.mean()), 0)


@pytest.fixture
def meter(monkeypatch):
    shared = lip_sync._SharedMeasurements(BrightnessMeter())
    monkeypatch.setattr(lip_sync, "_shared", lambda weights, jpeg_quality: shared)
    return shared.meter


@pytest.fixture
def talking(tmp_path):
    """Makes a set of clips with sound, whose frames all look like the clip's grey level."""

    def make(seconds=8.0, **frames_and_levels):
        annotations = []
        for clip, (frames, level) in frames_and_levels.items():
            folder = tmp_path / clip
            folder.mkdir(exist_ok=True)
            write_wave(folder / "audio.wav", np.arange(int(seconds * 16_000)) / 200_000)
            target = np.full((3, 8, 8), level, np.uint8)
            annotations += [
                {"clip": clip, "frame": frame, "folder": folder, "target": target} for frame in frames
            ]
        return FrameSet(annotations)

    return make


def measure(metric, samples, images, size=7):
    state = metric.start(context_of(samples))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        state.update(ScoredBatch(start, part, part, None))
    return state.compute()


def flat(*levels_and_counts):
    return np.concatenate([np.full((count, 3, 8, 8), level, np.uint8) for level, count in levels_and_counts])


def test_a_set_scores_the_mean_over_its_clips_beside_the_ground_truth(meter, talking):
    samples = talking(a=(range(30), 10), b=(range(60), 40))
    images = flat((20, 30), (60, 60))
    distance, confidence = measure(LseD(), samples, images), measure(LseC(), samples, images)
    assert distance.score.value == pytest.approx(40.0)
    assert distance.score.metric == "lse-d[truth 25.00]"
    assert distance.score.lower_is_better
    assert confidence.score.value == pytest.approx(215.0)
    assert confidence.score.metric == "lse-c[truth 230.00]"
    assert not confidence.score.lower_is_better
    assert "runs=2" in distance.score.against
    assert "truth=25.0000" in distance.score.against


def test_both_metrics_and_the_truth_measure_a_clip_once(meter, talking):
    samples = talking(a=(range(30), 10), b=(range(60), 40))
    images = flat((20, 30), (60, 60))
    measure(LseD(), samples, images)
    measure(LseC(), samples, images)
    assert len(meter.sounds) == 4  # two clips of the map, two of the truth


def test_the_standard_error_is_that_of_the_mean_over_clips(meter, talking):
    samples = talking(a=(range(30), 0), b=(range(60), 0), c=(range(25), 0))
    measured = measure(LseD(), samples, flat((20, 30), (60, 60), (100, 25)))
    textbook = np.std([20, 60, 100], ddof=1) / np.sqrt(3)
    assert measured.score.standard_error == pytest.approx(textbook * few_groups_factor(3))
    assert measured.influence.mean() == pytest.approx(0, abs=1e-12)


def test_the_sound_is_that_of_the_runs_own_time(meter, talking):
    samples = talking(a=([*range(10, 40), *range(50, 80)], 0))
    spoken = spoken_runs(samples, "lse-d")
    assert [run.first_frame for run in spoken.runs] == [10, 50]
    assert [len(sound) for sound in spoken.sounds] == [30 * 640, 30 * 640]
    assert spoken.sounds[1][0] == pytest.approx(50 * 640 / 200_000, abs=1e-4)


def test_short_runs_and_runs_without_sound_are_left_out_and_counted(meter, talking):
    samples = talking(seconds=2.0, a=([*range(30), *range(40, 50), *range(60, 90)], 0))
    spoken = spoken_runs(samples, "lse-d")
    assert [run.first_frame for run in spoken.runs] == [0]
    assert spoken.too_short == 2
    measured = measure(LseD(), samples, flat((0, 30), (255, 40)))
    assert measured.score.value == 0.0
    assert "too-short=2" in measured.score.against


def test_the_ground_truth_is_measured_on_the_real_frames(meter, talking):
    samples = talking(a=(range(30), 10), b=(range(60), 40))
    truth = ground_truth_scores(samples, meter)
    assert (truth.lse_d, truth.lse_c) == (25.0, 230.0)
    assert [entry.score.lse_d for entry in truth.runs] == [10.0, 40.0]


@pytest.mark.parametrize("make", [LseD, LseC])
def test_keeps_the_contract_of_metrics(monkeypatch, talking, make):
    intact = np.random.default_rng(0).integers(0, 256, (48, 3, 96, 96), dtype=np.uint8)

    class DistanceToIntact:
        identity = "intact"

        def score(self, images, sound):
            distance = float(np.abs(images.astype(float) - intact).mean()) if images.shape[2] == 96 else 0.0
            return SyncScore(distance, -distance, 0)

    shared = lip_sync._SharedMeasurements(DistanceToIntact())
    monkeypatch.setattr(lip_sync, "_shared", lambda weights, jpeg_quality: shared)
    check_metric(make, samples=talking(a=(range(48), 0)), side=96)


def test_needs_runs_of_a_second(meter, talking):
    samples = talking(a=(range(24), 0), b=([0, 2, 4], 0))
    with pytest.raises(SpecError, match=r"at least 25 .* 27 samples of 2 clips, .* frames is 24"):
        LseD().start(context_of(samples))


@pytest.mark.parametrize("key", ["clip", "frame", "folder", "target"])
def test_says_which_annotation_is_missing(meter, talking, key):
    whole = talking(a=(range(30), 0))
    annotations = [whole.annotation(index) for index in range(30)]
    for known in annotations:
        del known[key]
    samples = FrameSet(annotations)
    with pytest.raises(SpecError, match=f"needs '{key}'"):
        LseD().label(context_of(samples))


def test_without_weights_it_says_where_to_put_them(tmp_path, monkeypatch, talking):
    monkeypatch.setenv("QSENS_SYNCNET_WEIGHTS", str(tmp_path / "absent.model"))
    lip_sync._shared.cache_clear()
    with pytest.raises(LoadError, match=r"absent\.model"):
        LseC().label(context_of(talking(a=(range(30), 0))))


def test_needs_every_sample(meter, talking):
    samples = talking(a=(range(30), 0))
    state = LseD().start(context_of(samples))
    state.update(ScoredBatch(0, pictures(3), pictures(3), None))
    with pytest.raises(ScoreError, match="3 of 30 samples"):
        state.compute()
