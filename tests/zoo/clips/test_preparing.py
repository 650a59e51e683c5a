import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed")

from click.testing import CliRunner
from clip_folders import INPUTS
from PIL import Image
from video_files import HEIGHT, WIDTH, Recipe, face_pictures, gray, number_of, write_video

from qsens.calibration.sets import open_sample_set
from qsens.cli.main import main
from qsens.core.errors import SpecError
from qsens.zoo.clips.faces import Box, Margins
from qsens.zoo.clips.layout import list_clips
from qsens.zoo.clips.packed import pack_clips
from qsens.zoo.clips.preparing import PrepareOptions, prepare_videos

PLAIN = PrepareOptions(Margins(), is_smoothed=False)
FACTS = ("--licence", "CC0-1.0", "--origin", "made by a test", "--quiet")


class BrightFaces:
    """Finds a face in frames 3 and on, and never in frame 10, at a place that moves with the number."""

    name = "bright 1"

    def __init__(self):
        self.seen = 0

    def detect(self, frame):
        self.seen += 1
        number = number_of(frame)
        return None if number < 3 or number == 10 else Box(10, 110, number, number + 100)


def silent(done, total, label):
    assert done <= total
    assert label


def prepared(root, *videos, options=PLAIN, detector=None):
    return prepare_videos(videos, root, options, detector, silent)


def qsens(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_frames_keep_their_numbers_and_gaps(tmp_path):
    video = write_video(tmp_path / "talk.mkv", gray)
    report = prepared(tmp_path / "set", video, detector=BrightFaces())
    made = report.prepared[0]
    assert (made.clip, made.frames, made.missing, made.was_there) == ("talk/0", 25, 4, False)
    clip = list_clips(tmp_path / "set")[0]
    assert clip.frames == tuple(n for n in range(3, 25) if n != 10)
    assert {Image.open(clip.frame_path(number)).size for number in clip.frames} == {(100, 100)}
    packed = pack_clips(tmp_path / "set")
    assert [number_of(frame) for frame in packed.frames][:9] == [3, 4, 5, 6, 7, 8, 9, 11, 12]


def test_margins_and_smoothing_change_the_crop(tmp_path):
    def ramp(number):
        level = np.linspace(0, 255, WIDTH, dtype=np.uint8)
        return np.broadcast_to(level[None, :, None], (HEIGHT, WIDTH, 3))

    class Jumping:
        name = "jumping 1"

        def __init__(self):
            self.calls = 0

        def detect(self, frame):
            self.calls += 1
            left = 0 if self.calls % 2 else 100
            return Box(20, 60, left, left + 40)

    video = write_video(tmp_path / "a.mkv", ramp, Recipe(seconds=0.4))
    options = PrepareOptions(Margins(top=30, bottom=5, left=10, right=7), is_smoothed=True)
    prepared(tmp_path / "set", video, options=options, detector=Jumping())
    clip = list_clips(tmp_path / "set")[0]
    first = np.asarray(Image.open(clip.frame_path(0)))
    assert first.shape == (65, 57, 3)  # 40 and 35 more, cut to 25 above; 40 and 17 more
    # Boxes at 0, 100, 0, 100, 0 average to 40, ten pixels of margin make it 30.
    assert abs(float(first[:, 0].mean()) - 30 / 319 * 255) < 4


def test_whole_frames_need_no_detector(tmp_path):
    report = prepared(tmp_path / "set", write_video(tmp_path / "a.mkv", gray))
    assert report.prepared[0].missing == 0
    assert Image.open(tmp_path / "set/a/0/24.jpg").size == (WIDTH, HEIGHT)


def test_videos_that_fail_are_told_and_the_others_are_kept(tmp_path):
    videos = [
        write_video(tmp_path / "silent.mkv", gray, Recipe(has_sound=False)),
        write_video(tmp_path / "good.mkv", gray),
        write_video(tmp_path / "dark.mkv", lambda _: gray(0)),
        write_video(tmp_path / "short.mkv", gray, Recipe(seconds=0.16)),
        tmp_path / "absent.mkv",
    ]
    report = prepared(tmp_path / "set", *videos, detector=BrightFaces())
    assert [made.clip for made in report.prepared] == ["good/0"]
    messages = [failed.message for failed in report.failed]
    for message, part in zip(
        messages,
        ["has no sound", "a face in 0 of 25 frames", "0.16 s of sound is shorter", "no video"],
        strict=True,
    ):
        assert part in message
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["good"]


def test_a_second_run_makes_only_what_is_new(tmp_path):
    first, second = (write_video(tmp_path / f"{name}.mkv", gray) for name in "ab")
    prepared(tmp_path / "set", first, detector=BrightFaces())
    detector = BrightFaces()
    report = prepared(tmp_path / "set", first, second, detector=detector)
    assert [made.was_there for made in report.prepared] == [True, False]
    assert report.prepared[0].missing == report.prepared[1].missing == 4
    assert detector.seen == 25


def test_other_options_or_another_file_make_the_clip_again(tmp_path):
    video = write_video(tmp_path / "a.mkv", gray)
    prepared(tmp_path / "set", video, detector=BrightFaces())
    wider = PrepareOptions(Margins(right=9), is_smoothed=False)
    assert not prepared(tmp_path / "set", video, options=wider, detector=BrightFaces()).prepared[0].was_there
    assert Image.open(tmp_path / "set/a/0/5.jpg").size == (109, 100)
    write_video(video, gray, Recipe(seconds=0.8))
    assert not prepared(tmp_path / "set", video, options=wider, detector=BrightFaces()).prepared[0].was_there
    assert list_clips(tmp_path / "set")[0].frames[-1] == 19


def test_a_run_that_was_stopped_leaves_no_clip(tmp_path):
    class Stopped(BrightFaces):
        def detect(self, frame):
            if self.seen == 12:
                raise KeyboardInterrupt
            return super().detect(frame)

    video = write_video(tmp_path / "a.mkv", gray)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "set", video, detector=Stopped())
    assert list((tmp_path / "set").iterdir()) == []
    assert prepared(tmp_path / "set", video, detector=BrightFaces()).prepared[0].frames == 25


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    video = write_video(tmp_path / "a.mkv", gray)
    (tmp_path / "set/a").mkdir(parents=True)
    (tmp_path / "set/a/mine.txt").write_text("keep")
    with pytest.raises(SpecError, match="was not made by qsens zoo prepare"):
        prepared(tmp_path / "set", video)
    assert (tmp_path / "set/a/mine.txt").read_text() == "keep"


def test_two_videos_of_one_name_are_refused(tmp_path):
    with pytest.raises(SpecError, match="'a/0'"):
        prepared(tmp_path / "set", tmp_path / "x/a.mkv", tmp_path / "y/a.mp4")


def test_names_become_plain_folder_names(tmp_path):
    report = prepared(tmp_path / "set", write_video(tmp_path / "my talk (1).mkv", gray))
    assert report.prepared[0].clip == "my_talk_1_/0"


def test_the_command_makes_a_set_that_the_core_opens(tmp_path):
    video = write_video(tmp_path / "a.mkv", gray, Recipe(fps=Fraction(30), rate=44_100))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no")
    result = qsens(
        "zoo", "prepare", video, broken, "--out", tmp_path / "set", "--whole-frame", "--every", 3, *FACTS
    )
    assert result.exit_code == 0, result.output
    assert "a.mkv: a/0 written, 25 frames; 30 frames a second taken at 25; sound resampled" in result.output
    assert "broken.mp4: failed: cannot read" in result.output
    opened = open_sample_set(str(tmp_path / "set"), inputs=INPUTS, rules={}, seed=0)
    assert len(opened) == 8  # frames 0, 3, ..., 21; the sound ends before frame 23
    assert opened.sample(0)["face"].shape == (6, 96, 96)
    assert opened.describe()["licence"] == "CC0-1.0"


def test_the_command_says_when_nothing_worked(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no")
    result = qsens("zoo", "prepare", broken, "--out", tmp_path / "set", "--whole-frame", *FACTS)
    assert result.exit_code == 1
    assert "none of 1 videos could be used" in result.output
    assert not (tmp_path / "set/manifest.toml").exists()


def test_the_command_wants_licence_and_origin_first(tmp_path):
    video = write_video(tmp_path / "a.mkv", gray)
    result = qsens("zoo", "prepare", video, "--out", tmp_path / "set", "--whole-frame", "--quiet")
    assert result.exit_code == 2
    assert "no licence stated" in result.output
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1.5,0,0,0"])
def test_the_command_refuses_other_margins(tmp_path, text):
    result = qsens("zoo", "prepare", tmp_path / "a.mkv", "--out", tmp_path, "--pad", text, *FACTS)
    assert result.exit_code == 2
    assert "TOP,BOTTOM,LEFT,RIGHT" in result.output


def test_the_report_as_json(tmp_path):
    video = write_video(tmp_path / "a.mkv", gray)
    result = qsens("zoo", "prepare", video, "--out", tmp_path / "set", "--whole-frame", "--json", *FACTS)
    report = json.loads(result.output)
    assert report["prepared"][0]["clip"] == "a/0"
    assert Path(report["prepared"][0]["video"]) == video
    assert report["failed"] == []


@pytest.mark.slow
def test_a_talking_face_becomes_a_set_that_is_swept(tmp_path):
    pytest.importorskip("dlib", reason="dlib-bin is not installed")
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    video = write_video(tmp_path / "talk.mp4", face_pictures(), Recipe(seconds=2.0, rate=48_000))
    result = qsens("zoo", "prepare", video, "--out", tmp_path / "set", "--pad", "0,10,0,0", *FACTS)
    assert result.exit_code == 0, result.output
    clip = list_clips(tmp_path / "set")[0]
    assert len(clip.frames) == 50
    sizes = np.array([Image.open(clip.frame_path(number)).size for number in clip.frames])
    assert (np.abs(sizes - [90, 136]) < 30).all()  # the astronaut's face, and 10 pixels below
    opened = open_sample_set(str(tmp_path / "set"), inputs=INPUTS, rules={}, seed=0)
    assert len(opened) == 47
