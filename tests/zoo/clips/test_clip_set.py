import numpy as np
import pytest
from clip_folders import FACE_INPUT, INPUTS, MEL_INPUT, write_clip, write_mouth
from scipy.io import wavfile

from qsens.calibration.plugin_set import PluginSampleSet
from qsens.calibration.splits import split_sample_set
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputSpec
from qsens.zoo.audio.mel import mel_spectrogram
from qsens.zoo.audio.wave import read_wave
from qsens.zoo.audio.windows import inference_window
from qsens.zoo.clips.clip_set import open_clips
from qsens.zoo.clips.usable import SkipReason


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "talks"
    write_clip(root, "ann/1", range(20), clip=0)
    write_clip(root, "bob/1", [*range(4), *range(8, 24)], clip=1)
    write_clip(root, "bob/2", range(10), clip=2, seconds=0)
    return root


def opened(root, *, seed=0, count=None, inputs=INPUTS, **options):
    return open_clips(root, inputs=inputs, seed=seed, count=count, **options)


def places(clips):
    return [(frame["clip"], frame["frame"]) for frame in map(clips.annotation, range(len(clips)))]


def test_every_sample_keeps_the_contract(root):
    clips = opened(root)
    checked = PluginSampleSet("clips", clips, INPUTS)
    assert len(checked) == 40
    for index in range(len(checked)):
        sample = checked.sample(index)
        assert sample["face"].min() >= 0.0
        assert sample["face"].max() <= 1.0
        assert sample["face"].flags["C_CONTIGUOUS"]
        assert np.abs(sample["mel"]).max() <= 4.0


def test_samples_are_clip_after_clip_and_clips_are_clusters(root):
    clips = opened(root)
    numbers = [*range(4), *range(8, 24)]
    assert places(clips) == [("ann/1", n) for n in range(20)] + [("bob/1", n) for n in numbers]
    assert clips.clusters == ("ann/1",) * 20 + ("bob/1",) * 20
    assert clips.name == "talks"


def test_mel_is_the_inference_window_of_the_frame(root):
    clips = opened(root)
    mel = mel_spectrogram(read_wave(root / "bob/1/audio.wav").samples)
    index = places(clips).index(("bob/1", 12))
    assert np.array_equal(clips.sample(index)["mel"], inference_window(mel, 12)[None])


def test_faces_are_bgr_with_the_lower_half_of_the_target_masked(root):
    clips = opened(root, reference="same")
    face = clips.sample(places(clips).index(("bob/1", 12)))["face"]
    colour = np.array([200, 70, 60]) / 255  # blue, green, red of that frame's upper half
    np.testing.assert_allclose(face[:3, 10, 10], colour, atol=0.015)
    np.testing.assert_allclose(face[3:, 10, 10], colour, atol=0.015)
    assert np.all(face[:3, 48:] == 0.0)
    assert face[0, 47].mean() > 0.7  # the last row above the mask still holds the picture
    np.testing.assert_allclose(face[3:, 80, 10], [0.0, 70 / 255, 60 / 255], atol=0.015)


def test_another_frame_is_a_few_frames_away_and_chosen_by_the_seed(root):
    def references(clips):
        greens = [255 * clips.sample(index)["face"][4, 10, 10] for index in range(len(clips))]
        return np.round((np.array(greens) - 10) / 5).astype(int)

    clips = opened(root)
    numbers = np.array([frame for _, frame in places(clips)])
    assert np.abs(references(clips) - numbers).min() >= 5
    assert len(set(references(clips))) > 15
    assert np.array_equal(references(clips), references(opened(root)))
    assert not np.array_equal(references(clips), references(opened(root, seed=1)))


def test_references_do_not_depend_on_other_clips(root):
    both = opened(root)
    (root / "bob.txt").write_text("bob/1\n")
    alone = opened(root, filelist="bob.txt")
    assert places(alone) == places(both)[20:]
    assert all(
        np.array_equal(alone.sample(n)["face"], both.sample(20 + n)["face"]) for n in range(len(alone))
    )


def test_annotation_holds_the_real_frame_and_the_mouth(root):
    write_mouth(root / "ann/1", range(20))
    clips = opened(root)
    known = clips.annotation(3)
    assert known["folder"] == root / "ann/1"
    assert known["target"].shape == (3, 96, 96)
    assert known["target"].dtype == np.uint8
    np.testing.assert_allclose(known["target"][:, 10, 10], [20, 25, 200], atol=3)
    np.testing.assert_allclose(known["mouth"], [0.03, 0.5, 0.25], rtol=1e-6)
    assert "mouth" not in clips.annotation(25)


def test_inputs_of_other_names_are_matched_by_shape(root):
    names = (
        InputSpec("video_frames", (6, None, None), "float32", is_batched=True),
        InputSpec("mel_spectrogram", (1, 80, 16), "float32", is_batched=True),
    )
    sample = opened(root, inputs=names).sample(0)
    assert sample["mel_spectrogram"].shape == (1, 80, 16)
    assert sample["video_frames"].shape == (6, 96, 96)


def test_inputs_of_the_same_free_shape_are_matched_by_name(root):
    free = tuple(InputSpec(name, (None, None, None), "float32", is_batched=True) for name in ("face", "mel"))
    assert opened(root, inputs=free).sample(0)["mel"].shape == (1, 80, 16)


def test_half_precision_inputs_get_half_precision(root):
    half = tuple(InputSpec(spec.name, spec.shape, "float16", is_batched=True) for spec in INPUTS)
    assert {array.dtype for array in opened(root, inputs=half).sample(0).values()} == {np.dtype("float16")}


@pytest.mark.parametrize(
    "inputs",
    [
        (MEL_INPUT,),
        (FACE_INPUT, FACE_INPUT),
        (MEL_INPUT, FACE_INPUT, InputSpec("z", (4,), "float32", is_batched=True)),
        (MEL_INPUT, InputSpec("face", (6, 5, 96, 96), "float32", is_batched=True)),
        (MEL_INPUT, InputSpec("face", (6, 96, 96), "uint8", is_batched=True)),
        (MEL_INPUT, InputSpec("face", (6, 256, 256), "float32", is_batched=True)),
    ],
)
def test_a_graph_that_clips_cannot_feed_is_refused(root, inputs):
    with pytest.raises(SpecError, match="clips cannot feed"):
        opened(root, inputs=inputs)


def test_every_keeps_each_nth_frame(root):
    assert [frame for _, frame in places(opened(root, every=6))] == [0, 6, 12, 18, 0, 10, 16, 22]
    with pytest.raises(SpecError):
        opened(root, every=0)


def test_count_takes_frames_of_all_clips_in_turn(root):
    chosen = places(opened(root, count=7))
    assert len(set(chosen)) == 7
    assert sorted(chosen) == chosen
    assert sorted(sum(clip == name for clip, _ in chosen) for name in ("ann/1", "bob/1")) == [3, 4]
    assert places(opened(root, count=7)) == chosen
    assert places(opened(root, count=7, seed=3)) != chosen
    assert len(opened(root, count=100)) == 40


def test_what_is_left_out_is_counted_and_told(root):
    clips = opened(root)
    assert clips.skipped.count(SkipReason.NO_AUDIO) == 1
    assert clips.skipped.count(SkipReason.MISSING_FRAMES) == 4
    described = clips.describe()
    assert "1 clips without audio.wav: bob/2" in described["skipped"]
    assert described["count"] == "40"
    assert described["clips"] == "2"
    assert "16 kHz, inference windows" in described["sound"]


def test_a_resampled_sound_is_told(root):
    samples = np.random.default_rng(0).normal(0, 0.1, 44_100).astype(np.float32)
    wavfile.write(root / "ann/1/audio.wav", 44_100, samples)
    assert "resampled by scipy resample_poly (clips: 1 of 44100 Hz)" in opened(root).describe()["sound"]


def test_a_single_frame_needs_the_same_reference(tmp_path):
    write_clip(tmp_path, "a/1", [3])
    assert len(opened(tmp_path, reference="same")) == 1
    with pytest.raises(DataError, match="no usable frame") as caught:
        opened(tmp_path)
    assert "1 clips with one frame only" in caught.value.hint


def test_an_unknown_reference_is_refused(root):
    with pytest.raises(SpecError, match="'next'"):
        opened(root, reference="next")


def test_the_digest_covers_files_and_options(root):
    first = opened(root).digest
    assert opened(root).digest == first
    others = [
        opened(root, **options).digest for options in ({"seed": 1}, {"reference": "same"}, {"every": 2})
    ]
    write_mouth(root / "ann/1", range(20))
    others.append(opened(root).digest)
    frame = root / "bob/1/9.jpg"
    frame.write_bytes((root / "bob/1/10.jpg").read_bytes())
    others.append(opened(root).digest)
    wave = root / "ann/1/audio.wav"
    wave.write_bytes(wave.read_bytes()[:-1] + b"\x11")
    others.append(opened(root).digest)
    assert len({first, *others}) == 7


def test_the_digest_does_not_depend_on_where_the_folder_lies(root, tmp_path):
    first = opened(root).digest
    assert opened(root.rename(tmp_path / "moved")).digest == first


def test_parts_share_no_clip(root):
    parts = split_sample_set(PluginSampleSet("clips", opened(root), INPUTS), 20, 20, 0)
    assert set(parts[0].clusters).isdisjoint(parts[1].clusters)


def test_an_index_beyond_the_end_is_refused(root):
    with pytest.raises(IndexError):
        opened(root).sample(40)
