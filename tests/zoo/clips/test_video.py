from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed")

from video_files import HEIGHT, WIDTH, Recipe, gray, number_of, tone, write_video

from qsens.core.errors import DataError
from qsens.zoo.clips.video import read_facts, read_sound, video_frames


def shown(path):
    return [number_of(frame) for frame in video_frames(path)]


def test_25_frames_a_second_are_taken_as_they_are(tmp_path):
    path = write_video(tmp_path / "a.mkv", gray)
    assert shown(path) == list(range(25))
    assert read_facts(path).changes == ()


@pytest.mark.parametrize(
    ("kind", "fps"),
    [
        ("mkv", Fraction(50)),
        ("mkv", Fraction(12)),
        ("mp4", Fraction(30)),
        ("mp4", Fraction(30_000, 1001)),  # Matroska rounds timestamps to milliseconds, onto the middles
        ("mp4", Fraction(60_000, 1001)),
    ],
)
def test_other_rates_show_what_was_on_screen_in_the_middle_of_a_frame(tmp_path, kind, fps):
    path = write_video(tmp_path / f"a.{kind}", gray, Recipe(fps=fps))
    duration_s = round(fps) / fps
    middles = [Fraction(2 * n + 1, 50) for n in range(60)]
    expected = [int(middle * fps) for middle in middles if middle < duration_s]
    assert shown(path) == expected
    assert read_facts(path).changes == (f"{float(fps):.4g} frames a second taken at 25",)


def test_frames_are_rgb(tmp_path):
    def red_then_blue(number):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[..., 0 if number < 10 else 2] = 200
        return frame

    frames = list(video_frames(write_video(tmp_path / "a.mkv", red_then_blue)))
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(frames[0].mean(axis=(0, 1)), [200, 0, 0], atol=6)
    np.testing.assert_allclose(frames[20].mean(axis=(0, 1)), [0, 0, 200], atol=6)


def test_a_video_held_sideways_is_turned_upright(tmp_path):
    def top_is_white(_):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[: HEIGHT // 2] = 255
        return frame

    path = write_video(tmp_path / "a.mp4", top_is_white)
    content = bytearray(path.read_bytes())
    # The matrix of the track header: turn a quarter clockwise for display.
    place = content.index(b"\x00\x01\x00\x00" + bytes(12) + b"\x00\x01\x00\x00", content.index(b"tkhd"))
    content[place : place + 20] = bytes(4) + b"\x00\x01\x00\x00" + bytes(4) + b"\xff\xff\x00\x00" + bytes(4)
    path.write_bytes(content)
    frame = next(video_frames(path))
    assert frame.shape == (WIDTH, HEIGHT, 3)
    assert frame[:, HEIGHT // 2 + 10 :].mean() > 240  # what was on top is on the right
    assert frame[:, : HEIGHT // 2 - 10].mean() < 15


def test_sound_is_mono_at_16_khz(tmp_path):
    wave = read_sound(write_video(tmp_path / "a.mkv", gray))
    assert wave.source_rate == 16_000
    np.testing.assert_allclose(wave.samples, tone(1.0, 16_000), atol=1e-4)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_other_sound_rates_are_resampled_and_said(tmp_path, rate):
    path = write_video(tmp_path / "a.mkv", gray, Recipe(rate=rate))
    wave = read_sound(path)
    assert wave.source_rate == rate
    assert abs(len(wave.samples) - 16_000) <= 16
    np.testing.assert_allclose(wave.samples[500:15_000], tone(1.0, 16_000)[500:15_000], atol=5e-3)
    assert read_facts(path).changes == (f"sound resampled from {rate} Hz to 16 kHz",)


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path):
    samples = read_sound(write_video(tmp_path / "a.mkv", gray, Recipe(sound_late_s=0.25))).samples
    assert np.all(samples[:3984] == 0.0)
    np.testing.assert_allclose(samples[4000:12_000], tone(0.5, 16_000), atol=1e-4)


def test_compressed_sound_keeps_its_place(tmp_path):
    samples = read_sound(write_video(tmp_path / "a.mp4", gray, Recipe(seconds=2.0))).samples
    middle = slice(8_000, 24_000)
    assert np.corrcoef(samples[middle], tone(2.0, 16_000)[middle])[0, 1] > 0.99


def test_a_video_without_sound_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", gray, Recipe(has_sound=False))
    for read in (read_facts, read_sound):
        with pytest.raises(DataError, match=r"a\.mkv has no sound"):
            read(path)


def test_a_sound_file_has_no_picture(tmp_path):
    from qsens.zoo.audio.wave import write_wave

    write_wave(tmp_path / "a.wav", tone(1.0, 16_000))
    with pytest.raises(DataError, match=r"a\.wav has no picture"):
        read_facts(tmp_path / "a.wav")


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*a\.mp4 as a video"):
        read_facts(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"no video .*absent\.mp4"):
        next(video_frames(tmp_path / "absent.mp4"))
    with pytest.raises(DataError, match="cannot read"):
        read_facts(tmp_path)
