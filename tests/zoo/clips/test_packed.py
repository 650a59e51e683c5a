import numpy as np
import pytest
from clip_folders import write_clip, write_mouth
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.mel import mel_spectrogram
from qsens.zoo.audio.wave import read_wave
from qsens.zoo.audio.windows import inference_window, sync_window, training_window
from qsens.zoo.clips.batches import pick_other
from qsens.zoo.clips.packed import pack_clips
from qsens.zoo.clips.usable import SkipReason


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    write_clip(root, "ann/1", range(30), clip=0)
    write_clip(root, "ann/2", [*range(12), *range(15, 40)], clip=1)
    write_clip(root, "bob/1", range(5, 25), clip=2)
    write_clip(root, "bob/2", range(10), clip=3, seconds=0)
    write_clip(root, "bob/3", range(10), clip=3, seconds=0.1)
    write_clip(root, "bob/4", [], seconds=1)
    write_clip(root, "bob/5", [4], clip=3)
    write_clip(root, "eve/1", range(20), clip=4, seconds=0.6)
    return root


@pytest.fixture(scope="module")
def packed(root):
    return pack_clips(root)


def seen_clip(pictures):
    return np.round((pictures[..., 10, 10, 0] - 20.0) / 40).astype(int)


def seen_frame(pictures):
    return np.round((pictures[..., 10, 10, 1] - 10.0) / 5).astype(int)


def test_everything_usable_is_packed_and_the_rest_is_counted(packed):
    assert packed.clips == ("ann/1", "ann/2", "bob/1", "eve/1")
    assert packed.speakers == ("ann", "bob", "eve")
    assert packed.counts.tolist() == [30, 37, 20, 20]
    assert packed.first_frames.tolist() == [0, 30, 67, 87]
    assert len(packed) == 107
    assert packed.frames.shape == (107, 96, 96, 3)
    assert packed.mouth is None
    skipped = packed.skipped
    for reason, count in {
        SkipReason.NO_AUDIO: 1,
        SkipReason.SHORT_AUDIO: 1,
        SkipReason.NO_FRAMES: 1,
        SkipReason.ONE_FRAME: 1,
        SkipReason.MISSING_FRAMES: 3,
        SkipReason.GAP: 4,  # ann/2 from frames 8 to 11
    }.items():
        assert skipped.count(reason) == count, reason
    # 0.6 s: 49 mel frames, whole windows up to start 33, so frames 0 to 10 and the tail at 11.
    assert skipped.count(SkipReason.NO_WINDOW) == 8
    assert "3 frames missing inside clips: ann/2/12.jpg, ann/2/13.jpg, ann/2/14.jpg" in skipped.lines()
    assert "8 frames after the last window of sound: eve/1/12.jpg, eve/1/13.jpg, eve/1/14.jpg, ..." in (
        skipped.lines()
    )


def test_frames_stand_where_the_indices_say(packed):
    order = np.array([0, 1, 2, 4])
    assert np.array_equal(seen_clip(packed.frames), order[packed.clip_of])
    assert np.array_equal(seen_frame(packed.frames), packed.frame_numbers)
    assert np.array_equal(packed.speaker_of, np.array([0, 0, 1, 2])[packed.clip_of])


def test_mel_windows_are_those_of_the_single_clip(packed, root):
    mel = mel_spectrogram(read_wave(root / "bob/1/audio.wav").samples)
    positions = np.array([67, 70, 80])
    for window, single in (
        ("inference", inference_window),
        ("training", training_window),
        ("sync", sync_window),
    ):
        expected = [single(mel, int(packed.frame_numbers[position]))[None] for position in positions]
        assert np.array_equal(packed.mel_windows(positions, window), expected)


def test_a_frame_without_a_window_is_refused(packed):
    with pytest.raises(DataError, match="no training window"):
        packed.mel_windows(np.array([0]), "training")
    assert 0 not in packed.usable("training")
    assert 0 in packed.usable("inference")


def test_drawn_frames_come_with_their_own_sound_and_another_frame(packed):
    batch = packed.draw(np.random.default_rng(0), 400)
    assert batch.mel.shape == (400, 1, 80, 16)
    assert batch.mel.dtype == np.float32
    assert batch.mouth is None
    assert np.array_equal(batch.mel, packed.mel_windows(batch.index))
    assert np.array_equal(batch.target, packed.frames[batch.index])
    assert np.array_equal(seen_clip(batch.target), seen_clip(batch.reference))
    assert np.abs(seen_frame(batch.target) - seen_frame(batch.reference)).min() >= 5
    assert set(packed.clip_of[batch.index]) == {0, 1, 2, 3}


def test_the_reference_may_be_the_same_frame(packed):
    batch = packed.draw(np.random.default_rng(0), 20, reference="same")
    assert np.array_equal(batch.target, batch.reference)


def test_drawing_repeats_with_the_seed(packed):
    first, second, third = (packed.draw(np.random.default_rng(seed), 50).index for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_five_frames_are_consecutive_and_never_span_a_gap(packed):
    batch = packed.draw_fives(np.random.default_rng(0), 150, window="training")
    assert batch.target.shape == (150, 5, 96, 96, 3)
    assert batch.mel.shape == (150, 5, 1, 80, 16)
    for pictures in (batch.target, batch.reference):
        assert np.all(np.diff(seen_frame(pictures), axis=1) == 1)
        assert np.all(seen_clip(pictures) == seen_clip(pictures)[:, :1])
    assert np.array_equal(seen_clip(batch.target), seen_clip(batch.reference))
    assert np.all(seen_frame(batch.target)[:, 0] != seen_frame(batch.reference)[:, 0])
    assert np.array_equal(batch.sync_mel, packed.mel_windows(batch.index, "sync"))
    assert np.array_equal(batch.mel[:, 3], packed.mel_windows(batch.index + 3, "training"))


def test_which_five_frames_are_usable(packed):
    usable = packed.usable_fives("inference")
    ann_2 = packed.frame_numbers[usable[packed.clip_of[usable] == 1]]
    assert ann_2.tolist() == [*range(8), *range(15, 36)]
    # The sync window of frame 10 ends at mel frame 48, and frame 11 has the last inference window.
    eve = packed.frame_numbers[usable[packed.clip_of[usable] == 3]]
    assert eve.tolist() == list(range(8))
    trained = packed.usable_fives("training")
    assert packed.frame_numbers[trained[packed.clip_of[trained] == 0]].min() == 1


def test_half_of_the_sync_windows_match(packed):
    batch = packed.draw_sync(np.random.default_rng(0), 400)
    assert 0.4 < batch.is_match.mean() < 0.6
    own = np.array(
        [
            np.flatnonzero((seen_clip(packed.frames) == clip) & (packed.frame_numbers == frame))[0]
            for clip, frame in zip(seen_clip(batch.frames[:, 0]), seen_frame(batch.frames[:, 0]), strict=True)
        ]
    )
    is_own_sound = (batch.mel == packed.mel_windows(own, "sync")).all(axis=(1, 2, 3))
    assert np.array_equal(is_own_sound, batch.is_match == 1.0)


def test_mouth_is_kept_where_every_clip_states_it(tmp_path):
    for name, frames in (("a/1", range(8)), ("b/1", range(3, 12))):
        write_mouth(write_clip(tmp_path, name, frames), frames)
    packed = pack_clips(tmp_path)
    batch = packed.draw(np.random.default_rng(0), 10)
    np.testing.assert_allclose(packed.mouth[:, 0], packed.frame_numbers / 100, rtol=1e-6)
    assert np.array_equal(batch.mouth, packed.mouth[batch.index])
    assert packed.draw_fives(np.random.default_rng(0), 3).mouth.shape == (3, 5, 3)
    (tmp_path / "a/1/mouth.csv").unlink()
    assert pack_clips(tmp_path).mouth is None


def test_size_limit_and_file_list(root, tmp_path):
    assert pack_clips(root, size=32, limit=1).frames.shape == (30, 32, 32, 3)
    (tmp_path / "train.txt").write_text("bob/1\n")
    assert pack_clips(root, filelist=tmp_path / "train.txt").clips == ("bob/1",)


def test_nothing_usable_says_why(tmp_path):
    write_clip(tmp_path, "a/1", range(5), seconds=0)
    with pytest.raises(DataError, match="no usable clip") as caught:
        pack_clips(tmp_path)
    assert caught.value.hint == "1 clips without audio.wav: a/1"


def test_unknown_words_are_refused(packed):
    with pytest.raises(SpecError, match="'late'"):
        packed.draw(np.random.default_rng(0), 1, window="late")
    with pytest.raises(SpecError, match="'any'"):
        packed.draw(np.random.default_rng(0), 1, reference="any")


def test_no_five_frames_is_an_error(tmp_path):
    write_clip(tmp_path, "a/1", [0, 1, 2, 3, 5, 6, 7, 8])
    with pytest.raises(DataError, match="no window of five"):
        pack_clips(tmp_path).draw_fives(np.random.default_rng(0), 1)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 29), st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_another_position_is_far_enough(length, place, offset, share):
    place %= length
    position, first, end = (np.array([value]) for value in (offset + place, offset, offset + length))
    other = int(pick_other(np.array([share]), position, first, end)[0])
    assert offset <= other < offset + length
    distances = [abs(candidate - place) for candidate in range(length)]
    wanted = 5 if max(distances) >= 5 else min(1, max(distances))
    assert abs(other - offset - place) >= wanted


def test_every_allowed_position_is_drawn_equally_often():
    shares = (np.arange(1200) + 0.5) / 1200
    full = np.full(1200, 0)
    other = pick_other(shares, full + 6, full, full + 15)
    assert np.bincount(other, minlength=15).tolist() == [200, 200] + [0] * 9 + [200] * 4
