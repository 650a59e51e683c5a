import numpy as np
import pytest
from clip_folders import picture, write_clip, write_mouth
from PIL import Image

from qsens.core.errors import DataError
from qsens.zoo.clips.layout import list_clips, read_frame, read_mouth, resize_bilinear


def test_clips_are_sorted_and_frames_are_numbers(tmp_path):
    write_clip(tmp_path, "b/2", [0, 1])
    write_clip(tmp_path, "b/10", [0, 1])
    write_clip(tmp_path, "a/x", [2, 10, 9])
    clips = list_clips(tmp_path)
    assert [clip.name for clip in clips] == ["a/x", "b/10", "b/2"]
    assert clips[0].frames == (2, 9, 10)
    assert clips[0].speaker == "a"
    assert clips[0].missing_frames == (3, 4, 5, 6, 7, 8)


def test_hidden_folders_and_other_files_are_no_clips(tmp_path):
    write_clip(tmp_path, "a/x", [0, 1])
    (tmp_path / ".cache" / "y").mkdir(parents=True)
    (tmp_path / "manifest.toml").write_text("")
    (tmp_path / "a" / "notes.txt").write_text("")
    assert [clip.name for clip in list_clips(tmp_path)] == ["a/x"]


def test_a_clip_without_frames_is_listed(tmp_path):
    write_clip(tmp_path, "a/x", [], seconds=1)
    assert list_clips(tmp_path)[0].frames == ()
    assert list_clips(tmp_path)[0].missing_frames == ()


@pytest.mark.parametrize("name", ["001.jpg", "first.jpg", "-1.jpg", "1.5.jpg"])
def test_frames_not_named_by_number_are_refused(tmp_path, name):
    folder = write_clip(tmp_path, "a/x", [0, 1])
    Image.fromarray(picture(0, 0)).save(folder / name)
    with pytest.raises(DataError, match="not named by its frame number"):
        list_clips(tmp_path)


def test_a_root_without_clips_is_refused(tmp_path):
    with pytest.raises(DataError, match="no clip in"):
        list_clips(tmp_path)
    with pytest.raises(DataError, match="cannot list folder"):
        list_clips(tmp_path / "absent")


def test_a_file_list_keeps_its_clips_and_ignores_the_rest_of_a_line(tmp_path):
    for name in ("a/1", "a/2", "b/1"):
        write_clip(tmp_path, name, [0, 1])
    (tmp_path / "train.txt").write_text("b/1 NF\n\na/2 MV 12 something\n")
    clips = list_clips(tmp_path, filelist=tmp_path / "train.txt")
    assert [clip.name for clip in clips] == ["a/2", "b/1"]


def test_a_listed_clip_that_is_missing_is_named(tmp_path):
    write_clip(tmp_path, "a/1", [0, 1])
    (tmp_path / "train.txt").write_text("a/1\na/7\n")
    with pytest.raises(DataError, match="no clip 'a/7'"):
        list_clips(tmp_path, filelist=tmp_path / "train.txt")
    with pytest.raises(DataError, match=r"cannot read .*test\.txt"):
        list_clips(tmp_path, filelist=tmp_path / "test.txt")


def test_frames_are_rgb(tmp_path):
    write_clip(tmp_path, "a/x", [3], clip=2)
    frame = read_frame(list_clips(tmp_path)[0], 3)
    assert frame.shape == (96, 96, 3)
    np.testing.assert_allclose(frame[10, 10], [100, 25, 200], atol=3)
    np.testing.assert_allclose(frame[80, 10], [100, 25, 0], atol=3)


def test_frames_of_another_size_are_resized(tmp_path):
    write_clip(tmp_path, "a/x", [3], size=190)
    clip = list_clips(tmp_path)[0]
    assert read_frame(clip, 3).shape == (96, 96, 3)
    assert read_frame(clip, 3, size=32).shape == (32, 32, 3)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_broken_picture_is_named(tmp_path, content):
    folder = write_clip(tmp_path, "a/x", [0, 1])
    (folder / "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*1\.jpg"):
        read_frame(list_clips(tmp_path)[0], 1)


def test_a_truncated_picture_is_named(tmp_path):
    folder = write_clip(tmp_path, "a/x", [0, 1])
    whole = (folder / "1.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read .*1\.jpg"):
        read_frame(list_clips(tmp_path)[0], 1)


def test_bilinear_sampling_of_a_ramp_is_a_ramp():
    ramp = np.broadcast_to(np.arange(192, dtype=np.uint8)[:, None, None], (192, 50, 3))
    resized = resize_bilinear(ramp, 96)
    # Target row r lies at source row 2 r + 0.5, halfway between two levels, which rounds up.
    assert resized[:, 0, 0].tolist() == [2 * row + 1 for row in range(96)]


def test_bilinear_sampling_agrees_with_a_loop():
    source = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    size, expected = 24, np.zeros((24, 24, 3))
    for row in range(size):
        for column in range(size):
            y, x = (row + 0.5) * 37 / size - 0.5, (column + 0.5) * 53 / size - 0.5
            top, left = int(y), int(x)
            for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
                for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
                    expected[row, column] += wy * wx * source[min(top + dy, 36), min(left + dx, 52)]
    assert np.abs(resize_bilinear(source, size).astype(float) - expected).max() <= 0.51


def test_enlarging_repeats_the_edge():
    assert resize_bilinear(np.array([[[10], [20]]], np.uint8), 4)[0, :, 0].tolist() == [10, 13, 18, 20]


def test_mouth_is_read_in_the_order_of_the_frames(tmp_path):
    folder = write_clip(tmp_path, "a/x", [2, 10, 9])
    write_mouth(folder, [10, 9, 2, 3])
    mouth = read_mouth(list_clips(tmp_path)[0])
    assert mouth.dtype == np.float32
    np.testing.assert_allclose(mouth[:, 0], [0.02, 0.09, 0.10], rtol=1e-6)
    np.testing.assert_allclose(mouth[:, 1:], [[0.5, 0.25]] * 3)


def test_mouth_is_absent_without_a_file(tmp_path):
    write_clip(tmp_path, "a/x", [0, 1])
    assert read_mouth(list_clips(tmp_path)[0]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,open,width,round\n0,0.1,0.1,0.1\n", "no row or column for 1"),
        ("frame,open,width\n0,0.1,0.1\n1,0.1,0.1\n", "no row or column for 'round'"),
        ("frame,open,width,round\n0,a,0.1,0.1\n", "could not convert"),
        ("frame,open,width,round\n0,2,0.1,0.1\n1,0,0,0\n", "values from 0 to 2"),
        ("frame,open,width,round\n0,nan,0.1,0.1\n1,0,0,0\n", "values from nan"),
        ("frame,open,width,round\n0\n1,0,0,0\n", "cannot read"),
    ],
)
def test_a_bad_mouth_file_is_refused(tmp_path, text, message):
    folder = write_clip(tmp_path, "a/x", [0, 1])
    (folder / "mouth.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_mouth(list_clips(tmp_path)[0])
