"""The corpus on disk: layout, determinism, resuming, refusals."""

import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image, JpegImagePlugin
from scipy.io import wavfile

from qsens.calibration.files import list_nested_files
from qsens.calibration.manifest import check_manifest, read_manifest
from qsens.core.errors import DataError, RunFolderError, SpecError
from qsens.zoo.clips.layout import list_clips, read_frame, read_mouth
from qsens.zoo.corpus import writing
from qsens.zoo.corpus.clip import make_clip
from qsens.zoo.corpus.writing import CorpusPlan, write_clip, write_corpus

SMALL = CorpusPlan(seed=6, size=32, frames_per_clip=4)


def quiet(done, total, label):
    """No progress."""


def write(folder, plan=SMALL, frames=12, jobs=1):
    return write_corpus(folder, plan, frames, jobs, quiet)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_corpus_has_the_layout_of_clips(tmp_path):
    written = write(tmp_path, frames=9)
    assert (written.made, written.kept, written.frames) == (3, 0, 12)
    clips = list_clips(tmp_path)
    assert [clip.name for clip in clips] == ["s00000/00000", "s00001/00000", "s00002/00000"]
    assert {path.name for path in clips[0].folder.iterdir()} == {
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "audio.wav",
        "mouth.csv",
    }


def test_the_files_of_a_clip_hold_the_clip(tmp_path):
    plan = CorpusPlan(seed=6, frames_per_clip=3)
    write(tmp_path, plan, frames=3)
    (clip,), made = list_clips(tmp_path), make_clip(plan.clip(0))
    rate, samples = wavfile.read(clip.audio)
    assert (rate, samples.dtype, samples.ndim) == (16_000, np.int16, 1)
    assert np.abs(samples / 32768 - made.samples).max() <= 1 / 32768
    rows = list(csv.reader(io.StringIO((clip.folder / "mouth.csv").read_text())))
    assert rows[0] == ["frame", "open", "width", "round"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]
    truth = [(mouth.open, mouth.width, mouth.round) for mouth in made.mouths]
    assert np.abs(read_mouth(clip) - truth).max() < 1e-4
    for number, picture in enumerate(made.frames()):
        assert np.abs(read_frame(clip, number).astype(int) - picture).mean() < 2


def test_frames_keep_their_colour_resolution(tmp_path):
    write(tmp_path, CorpusPlan(seed=6, size=64, frames_per_clip=1), frames=1)
    with Image.open(tmp_path / "s00000/00000/0.jpg") as image:
        assert image.size == (64, 64)
        assert JpegImagePlugin.get_sampling(image) == 0
        reference = io.BytesIO()
        Image.new("RGB", (8, 8)).save(reference, "jpeg", quality=95)
        assert image.quantization == Image.open(reference).quantization


def test_the_manifest_names_the_opener_and_fits_the_files(tmp_path):
    write(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest.opener == "clips"
    assert manifest.licence == "CC0-1.0"
    assert manifest.count == 3 * 6
    assert {file.clip for file in manifest.files} == {f"s{speaker:05d}/00000" for speaker in range(3)}
    check_manifest(list_nested_files(tmp_path), manifest)


def test_growing_in_steps_does_not_change_the_clips(tmp_path):
    write(tmp_path / "one", frames=8)
    write(tmp_path / "steps", frames=4)
    again = write(tmp_path / "steps", frames=8)
    assert (again.made, again.kept) == (1, 1)
    assert contents(tmp_path / "one") == contents(tmp_path / "steps")


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_clips(tmp_path):
    write(tmp_path / "one", frames=24)
    write(tmp_path / "three", frames=24, jobs=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_another_seed_gives_other_clips(tmp_path):
    write(tmp_path / "one", frames=4)
    write(tmp_path / "two", CorpusPlan(seed=7, size=32, frames_per_clip=4), frames=4)
    name = "s00000/00000/audio.wav"
    assert contents(tmp_path / "one")[name] != contents(tmp_path / "two")[name]


def test_clips_of_one_speaker_lie_together(tmp_path):
    write(tmp_path, CorpusPlan(seed=6, size=32, frames_per_clip=2, clips_per_speaker=2), frames=6)
    assert [clip.name for clip in list_clips(tmp_path)] == ["s00000/00000", "s00000/00001", "s00001/00000"]


def test_a_second_run_makes_nothing_again(tmp_path):
    write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert write(tmp_path).made == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}


def test_a_clip_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def save_twice(self, path, **options):
        if path.name == "2.jpg":
            raise OSError(28, "No space left on device", str(path))
        original(self, path, **options)

    original = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", save_twice)
    with pytest.raises(RunFolderError, match="no space left"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    monkeypatch.undo()
    assert write(tmp_path).made == 3


def start(folder, frames):
    command = [sys.executable, "-m", "qsens", "zoo", "corpus", "--frames", str(frames), "--seed", "6"]
    options = ["--size", "32", "--frames-per-clip", "4", "--jobs", "2", "--out", str(folder)]
    return subprocess.Popen(
        command + options, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def stop_when_some_clips_are_there(folder, how):
    process = start(folder, 8000)
    deadline = time.monotonic() + 200
    while len(list(folder.glob("s*/*"))) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    process.communicate(timeout=100)
    return process.returncode


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_run_leaves_whole_clips_and_goes_on(tmp_path, how, code):
    folder = tmp_path / "stopped"
    assert stop_when_some_clips_are_there(folder, how) == code
    clips = list(folder.glob("s*/*"))
    assert 4 <= len(clips) < 2000
    assert all(len(list(clip.iterdir())) == 6 for clip in clips)
    if how is signal.SIGINT:
        assert not (folder / ".making").exists()
    frames = 4 * (1 + max(int(clip.parent.name[1:]) for clip in clips))
    write(folder, frames=frames)
    write(tmp_path / "straight", frames=frames)
    assert contents(folder) == contents(tmp_path / "straight")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (CorpusPlan(7, 32, 4), "seed 6, not 7"),
        (CorpusPlan(6, 64, 4), "size 32, not 64"),
        (CorpusPlan(6, 32, 5), "frames_per_clip 4, not 5"),
        (CorpusPlan(6, 32, 4, 2), "clips_per_speaker 1, not 2"),
    ],
)
def test_a_corpus_made_otherwise_is_refused(tmp_path, other, difference):
    write(tmp_path, frames=4)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=difference) as caught:
        write(tmp_path, other)
    assert "--out" in caught.value.hint
    assert contents(tmp_path) == before


def test_a_corpus_of_an_older_picture_model_is_refused(tmp_path, monkeypatch):
    write(tmp_path, frames=4)
    monkeypatch.setattr(writing, "PICTURE_MODEL", 99)
    with pytest.raises(DataError, match="picture_model"):
        write(tmp_path, frames=8)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"holiday\.jpg"):
        write(tmp_path)
    assert contents(tmp_path) == {"holiday.jpg": hashlib.sha256(b"mine").hexdigest()}


def test_a_broken_corpus_file_is_refused(tmp_path):
    (tmp_path / "corpus.toml").write_text("seed = ")
    with pytest.raises(DataError, match="cannot read"):
        write(tmp_path)


def test_two_runs_at_once_are_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(RunFolderError, match="another run"):
        write(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunFolderError):
        write(tmp_path / "file" / "corpus")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "size": 8}, "size is 8"),
        ({"seed": 0, "size": 5000}, "size is 5000"),
        ({"seed": 0, "frames_per_clip": 0}, "frames_per_clip is 0"),
        ({"seed": 0, "clips_per_speaker": 0}, "clips_per_speaker is 0"),
    ],
)
def test_a_plan_out_of_range_is_refused(values, said):
    with pytest.raises(SpecError, match=said) as caught:
        CorpusPlan(**values)
    assert caught.value.hint


@pytest.mark.parametrize("asked", [{"frames": 0}, {"jobs": 0}])
def test_no_frames_and_no_jobs_are_refused_before_anything_is_written(tmp_path, asked):
    with pytest.raises(SpecError):
        write(tmp_path / "corpus", **asked)
    assert not (tmp_path / "corpus").exists()


def test_a_clip_can_be_written_alone(tmp_path):
    write_clip(tmp_path, SMALL.clip(5))
    assert [clip.name for clip in list_clips(tmp_path)] == ["s00005/00000"]
