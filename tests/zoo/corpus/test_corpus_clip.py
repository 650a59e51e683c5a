"""A clip: sound and picture in step, the truth is what is drawn, speakers and clips differ."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from qsens.zoo.corpus.clip import AFTER_S, LEAD_S, ClipPlan, Motion, make_clip, time_of_mouth
from qsens.zoo.corpus.identity import BeardStyle
from qsens.zoo.corpus.lips import half_width_of
from qsens.zoo.corpus.phones import PAUSE, Spoken, track_of
from qsens.zoo.corpus.speech import SAMPLE_RATE
from qsens.zoo.corpus.writing import PICTURE_MODEL


def plan(speaker=0, clip=0, frames=50, size=96, seed=4):
    return ClipPlan(seed, speaker, clip, frames, size)


def test_a_frame_shows_the_mouth_a_little_after_its_own_middle():
    assert time_of_mouth(0) == pytest.approx(0.08)
    assert time_of_mouth(10) == pytest.approx(0.48)
    clip = make_clip(plan(size=32))
    for number in (0, 7, 49):
        expected = clip.track.mouth_at(0.02 + number / 25 + LEAD_S)
        assert astuple(clip.mouths[number]) == pytest.approx(astuple(expected))


def test_the_mouth_of_every_frame_lies_in_its_window_of_sound():
    for number in range(50):
        assert number / 25 < time_of_mouth(number) < number / 25 + 0.2


def test_the_sound_outlasts_the_frames_by_a_window():
    clip = make_clip(plan(frames=30, size=32))
    assert len(clip.samples) == round((30 / 25 + AFTER_S) * SAMPLE_RATE)
    assert AFTER_S >= 0.2
    assert clip.samples.dtype == np.float32


@pytest.mark.slow
def test_the_lips_lead_the_sound_by_the_lead():
    """Loudness follows the opening: their correlation is highest where the sound is `LEAD_S` later."""
    lags = np.arange(-0.10, 0.22, 0.01)
    openings, loudness = [], [[] for _ in lags]
    for speaker in range(10):
        clip = make_clip(plan(speaker, size=32))
        window = np.hanning(801) / np.hanning(801).sum()
        level = np.log(np.convolve(clip.samples.astype(float) ** 2, window, "same") + 1e-6)
        times = (np.arange(5, 45) + 0.5) / 25
        openings.append([mouth.open for mouth in clip.mouths[5:45]])
        for lag, series in zip(lags, loudness, strict=True):
            series.append(np.interp(times + lag, np.arange(len(level)) / SAMPLE_RATE, level))
    truth = np.concatenate(openings)
    correlations = [np.corrcoef(truth, np.concatenate(series))[0, 1] for series in loudness]
    best = int(np.argmax(correlations))
    assert correlations[best] > 0.5
    assert lags[best] == pytest.approx(LEAD_S, abs=0.021)


def between_green_lips(picture):
    """Pixels of all columns between the uppermost and lowermost lip that are no lip."""
    red, green, blue = (picture[40:, :, channel].astype(int) for channel in range(3))
    is_lip = (green > 90) & (green > 2 * red) & (green > 2 * blue)
    below = np.maximum.accumulate(is_lip, axis=0) & np.maximum.accumulate(is_lip[::-1], axis=0)[::-1]
    return int((below & ~is_lip).sum())


def test_the_picture_follows_the_truth():
    """What lies between the lips grows with the opening, whatever the head does."""
    clip = make_clip(plan(speaker=1))
    lips = replace(clip.identity.lips, colour=np.array([0, 1, 0], np.float32), gloss=0.0)
    scene = replace(clip.scene, background=np.full((3, 96, 96), 0.5, np.float32))
    painted = replace(clip, scene=scene, identity=replace(clip.identity, lips=lips, beard=BeardStyle.NONE))
    areas = [between_green_lips(picture) for picture in painted.frames()]
    shown = [mouth.open * half_width_of(lips, mouth) for mouth in clip.mouths]
    assert np.corrcoef(areas, shown)[0, 1] > 0.95
    assert np.corrcoef(areas, [mouth.open for mouth in clip.mouths])[0, 1] > 0.85


def test_the_upper_half_of_every_frame_is_the_same_in_silence(monkeypatch):
    """Head, lids and brows move on their own: without the words they move as with them."""
    talking = list(make_clip(plan(frames=6)).frames())
    monkeypatch.setattr(
        "qsens.zoo.corpus.clip.speak",
        lambda random, duration_s, rate: track_of([Spoken(PAUSE, duration_s + 1)]),
    )
    silent = list(make_clip(plan(frames=6)).frames())
    assert all(np.array_equal(first[:48], second[:48]) for first, second in zip(talking, silent, strict=True))
    assert any(not np.array_equal(first, second) for first, second in zip(talking, silent, strict=True))


def test_everybody_blinks_now_and_then():
    motions = [Motion.draw(np.random.default_rng(seed), 4.0) for seed in range(20)]
    blinks = np.array([[motion.at(number / 25)[1].blink for number in range(100)] for motion in motions])
    assert (blinks.max(axis=1) > 0.6).mean() > 0.7
    assert 0.01 < (blinks > 0.5).mean() < 0.15


def test_the_same_plan_gives_the_same_clip():
    first, second = make_clip(plan(7, frames=5)), make_clip(plan(7, frames=5))
    assert np.array_equal(first.samples, second.samples)
    assert first.mouths == second.mouths
    assert np.array_equal(next(first.frames()), next(second.frames()))


def test_clips_of_a_speaker_share_the_face_and_not_the_words():
    first, second = make_clip(plan(3, 0, 10, 32)), make_clip(plan(3, 1, 10, 32))
    assert first.identity.head == second.identity.head
    assert np.array_equal(first.identity.skin.texture, second.identity.skin.texture)
    assert first.track.names != second.track.names
    assert not np.array_equal(first.scene.background, second.scene.background)


def test_speakers_and_seeds_differ():
    heads = {
        make_clip(plan(speaker, frames=1, size=32, seed=seed)).identity.head
        for speaker in range(3)
        for seed in (1, 2)
    }
    assert len(heads) == 6


def test_the_model_is_the_one_its_number_names():
    """If this fails on purpose, raise `PICTURE_MODEL`: folders made before must not be continued."""
    clip = make_clip(ClipPlan(1, 2, 0, 6, 96))
    picture = list(clip.frames())[5]
    ninths = picture.reshape(3, 32, 3, 32, 3).mean(axis=(1, 3, 4))
    levels_db = [
        20 * np.log10(np.sqrt(np.mean(part.astype(float) ** 2))) for part in np.array_split(clip.samples, 4)
    ]
    assert PICTURE_MODEL == 1
    assert ninths == pytest.approx(np.array([[126, 118, 129], [112, 117, 110], [99, 103, 126]]), abs=0.6)
    assert levels_db == pytest.approx([-22.0, -17.9, -21.6, -61.1], abs=0.1)
    assert [mouth.open for mouth in clip.mouths] == pytest.approx(
        [0.150, 0.156, 0.286, 0.398, 0.391, 0.193], abs=0.001
    )
