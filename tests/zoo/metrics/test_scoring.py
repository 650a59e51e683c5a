import numpy as np
import pytest
from annotated_sets import FrameSet

from qsens.core.errors import DataError, ScoreError
from qsens.zoo.metrics import scoring
from qsens.zoo.metrics.scoring import StateCorrelations, score_talker, wrong_audio_partners
from qsens.zoo.syncnet.lse import SyncScore

CLIPS = {"s0/a": 6, "s1/a": 9, "s2/a": 4}


class LevelReader:
    """Reads the state off the mean level of the mouth: open as it is, width reversed, round nothing."""

    identity = "level"

    def read(self, images):
        level = images[:, 0, 60:80, 30:60].mean(axis=(1, 2), dtype=np.float32) / 255
        return np.stack([level, 1 - level, np.zeros_like(level)], axis=1)


@pytest.fixture(autouse=True)
def level_reader(monkeypatch):
    monkeypatch.setattr(scoring, "shipped_reader", LevelReader)


def corpus(*, has_mouth=True):
    """Frames whose lower half has the grey level that every value of the mel window names."""
    generator = np.random.default_rng(0)
    annotations, inputs = [], []
    for clip, count in CLIPS.items():
        levels = generator.integers(20, 230, count)
        for frame, level in enumerate(levels):
            target = np.full((3, 96, 96), 128, np.uint8)
            target[:, 48:] = level
            known = {"clip": clip, "frame": frame, "target": target}
            if has_mouth:
                known["mouth"] = np.array([level / 255, level / 255, level / 255], np.float32)
            face = np.full((6, 96, 96), 128 / 255, np.float32)
            face[:3, 48:] = 0
            face[3:, 48:] = levels[(frame + 1) % count] / 255
            annotations.append(known)
            inputs.append({"mel": np.full((1, 80, 16), level / 255, np.float32), "face": face})
    return FrameSet(annotations, inputs)


def listens(mel, face):
    """Draws what the sound says."""
    made = face[:, :3].copy()
    made[:, :, 48:] = mel[:, :, :1, :1]
    return made


def copies(mel, face):
    return face[:, 3:]


def test_a_generator_that_listens_is_told_from_one_that_copies():
    samples = corpus()
    good, bad = score_talker(listens, samples), score_talker(copies, samples)
    assert (good.frames, good.clips) == (19, 3)
    assert good.mouth_psnr_db == good.frame_psnr_db == 100.0
    assert good.margin_over_wrong_audio_db > 50
    assert good.margin_over_reference_db == good.mouth_psnr_db - good.reference_mouth_psnr_db > 50
    assert bad.margin_over_wrong_audio_db == 0.0
    assert bad.margin_over_reference_db == 0.0
    assert bad.reference_mouth_psnr_db == good.reference_mouth_psnr_db


def test_psnr_is_over_the_frame_and_over_the_mouth_box():
    def off_above(mel, face):
        made = listens(mel, face)
        made[:, :, :48] += 10 / 255
        return made

    scores = score_talker(off_above, corpus())
    assert scores.mouth_psnr_db == 100.0
    assert scores.frame_psnr_db == pytest.approx(10 * np.log10(255**2 / 50), abs=1e-6)


def test_correlations_tell_right_sound_wrong_sound_and_ceiling():
    readings = score_talker(listens, corpus()).readings
    partners = wrong_audio_partners(corpus(), 0)
    truth = np.array([corpus().annotation(index)["mouth"][0] for index in range(19)])
    expected = np.corrcoef(truth, truth[partners])[0, 1]
    assert readings.generated.open == pytest.approx(1.0)
    assert readings.generated.width == pytest.approx(-1.0)
    assert readings.generated.round == 0.0
    assert readings.true_frames == readings.generated
    assert readings.wrong_audio_given.open == pytest.approx(1.0)
    assert readings.wrong_audio.open == pytest.approx(expected, abs=1e-4)
    assert -0.9 < readings.copied_reference.open < 0.9
    assert readings.reader == "level"


def test_without_a_known_mouth_only_pictures_are_compared():
    scores = score_talker(listens, corpus(has_mouth=False))
    assert scores.readings is None
    assert scores.mouth_psnr_db == 100.0


def test_wrong_sound_comes_from_the_same_place_of_one_other_clip():
    samples = corpus()
    partners = wrong_audio_partners(samples, 0)
    clips = np.array(samples.clusters)
    assert (clips[partners] != clips).all()
    for clip in CLIPS:
        others = partners[clips == clip]
        assert len(set(clips[others])) == 1
        members = np.flatnonzero(clips == clips[others[0]])
        assert others.tolist() == [members[place % len(members)] for place in range(CLIPS[clip])]
    assert np.array_equal(partners, wrong_audio_partners(samples, 0))
    assert {clips[wrong_audio_partners(samples, seed)[0]] for seed in range(8)} == {"s1/a", "s2/a"}


def test_lip_sync_stands_beside_the_ground_truth(monkeypatch):
    class Meter:
        identity = "meter"

        def score(self, images, sound):
            level = float(images.mean())
            return SyncScore(level, 2 * level, 0)

    run = scoring.ground_truth_scores.__globals__["FrameRun"]("s0/a", 0, tuple(range(6)))
    spoken = scoring.spoken_runs.__globals__["SpokenRuns"]((run,), (np.zeros(3840, np.float32),), 0)
    monkeypatch.setattr(scoring, "spoken_runs", lambda samples, who: spoken)
    monkeypatch.setattr("qsens.zoo.metrics.lip_sync.spoken_runs", lambda samples, who: spoken)
    rows = score_talker(lambda mel, face: np.zeros_like(face[:, :3]), corpus(), meter=Meter()).lip_sync
    truth = np.mean([corpus().annotation(index)["target"].mean() for index in range(6)])
    assert (rows.lse_d, rows.lse_c, rows.runs) == (0.0, 0.0, 1)
    assert rows.truth_lse_d == pytest.approx(truth)
    assert rows.truth_lse_c == pytest.approx(2 * truth)


def test_says_how_far_it_is():
    heard = []
    score_talker(listens, corpus(), progress=lambda done, total, label: heard.append((done, total)))
    assert heard == [(16, 19), (19, 19)]


def test_broken_output_one_clip_and_missing_frames_are_refused():
    with pytest.raises(ScoreError, match="NaN"):
        score_talker(lambda mel, face: face[:, :3] * np.float32(np.nan), corpus())
    alone = FrameSet([{"clip": "a"}])
    with pytest.raises(DataError, match="holds 1 clip"):
        score_talker(listens, alone)
    blank = FrameSet([{"clip": "a"}, {"clip": "b"}], [{"mel": 0}, {"mel": 0}])
    with pytest.raises(DataError, match="does not know the real frames"):
        score_talker(listens, blank)


def test_a_state_has_the_parts_that_the_reader_reads():
    assert list(StateCorrelations.__dataclass_fields__) == ["open", "width", "round"]
