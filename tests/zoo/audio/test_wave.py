import struct

import numpy as np
import pytest
from scipy.io import wavfile

from qsens.core.errors import DataError
from qsens.zoo.audio.wave import SAMPLE_RATE, read_wave, write_wave

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)


def write_pcm24(path, samples, rate=SAMPLE_RATE):
    levels = np.round(samples * (2**23 - 1)).astype(np.int32)
    body = b"".join(struct.pack("<i", level)[:3] for level in levels)
    header = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 3, 3, 24
    )
    path.write_bytes(header + struct.pack("<4sI", b"data", len(body)) + body)


def test_written_samples_come_back_within_one_level(tmp_path):
    write_wave(tmp_path / "a.wav", TONE)
    wave = read_wave(tmp_path / "a.wav")
    assert wave.source_rate == SAMPLE_RATE
    assert not wave.was_resampled
    assert wave.samples.dtype == np.float32
    np.testing.assert_allclose(wave.samples, TONE, atol=0.5 / 32768 + 1e-6)


def test_louder_than_full_scale_is_clipped_when_written(tmp_path):
    write_wave(tmp_path / "a.wav", np.array([2.0, -2.0, 0.0]))
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav").samples, [32767 / 32768, -1.0, 0.0])


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        (np.round(TONE * 127 + 128).astype(np.uint8), 0.02),
        (np.round(TONE * 32767).astype(np.int16), 1e-4),
        (np.round(TONE * (2**31 - 1)).astype(np.int32), 1e-6),
        (TONE.astype(np.float32), 1e-7),
        (TONE, 1e-7),
    ],
    ids=["8 bits", "16 bits", "32 bits", "float32", "float64"],
)
def test_every_sample_format_means_the_same_sound(tmp_path, values, tolerance):
    wavfile.write(tmp_path / "a.wav", SAMPLE_RATE, values)
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav").samples, TONE, atol=tolerance)


def test_24_bits_are_read(tmp_path):
    write_pcm24(tmp_path / "a.wav", TONE)
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav").samples, TONE, atol=1e-6)


def test_stereo_is_averaged(tmp_path):
    wavfile.write(tmp_path / "a.wav", SAMPLE_RATE, np.stack([TONE, -0.5 * TONE], axis=1).astype(np.float32))
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav").samples, 0.25 * TONE, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_and_remembered(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    wavfile.write(tmp_path / "a.wav", rate, tone.astype(np.float32))
    wave = read_wave(tmp_path / "a.wav")
    assert wave.source_rate == rate
    assert wave.was_resampled
    assert len(wave.samples) == SAMPLE_RATE
    middle = slice(1000, -1000)  # the resampling filter rings at the ends
    np.testing.assert_allclose(wave.samples[middle], TONE[middle], atol=2e-3)


def test_duration_is_in_seconds(tmp_path):
    write_wave(tmp_path / "a.wav", TONE[:4000])
    assert read_wave(tmp_path / "a.wav").duration_s == 0.25


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent\.wav"):
        read_wave(tmp_path / "absent.wav")


@pytest.mark.parametrize(
    "content", [b"", b"not a wave file at all", b"RIFF\x00\x00\x00\x00WAVE", b"RIFF\x24\x00\x00\x00WAVEfmt "]
)
def test_a_broken_file_is_refused_with_a_hint(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_wave(tmp_path / "a.wav")
    assert "a.wav" in caught.value.message
    assert caught.value.hint


def test_a_file_cut_short_is_refused(tmp_path):
    write_wave(tmp_path / "a.wav", TONE)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut short"):
        read_wave(tmp_path / "a.wav")


def test_a_file_without_samples_is_refused(tmp_path):
    wavfile.write(tmp_path / "a.wav", SAMPLE_RATE, np.zeros(0, np.int16))
    with pytest.raises(DataError, match="0 samples"):
        read_wave(tmp_path / "a.wav")


@pytest.mark.parametrize(("value", "message"), [(np.nan, "1 samples are NaN"), (3000.0, "reach 3000")])
def test_float_values_that_are_no_sound_are_refused(tmp_path, value, message):
    samples = TONE.astype(np.float32)
    samples[7] = value
    wavfile.write(tmp_path / "a.wav", SAMPLE_RATE, samples)
    with pytest.raises(DataError, match=message):
        read_wave(tmp_path / "a.wav")
