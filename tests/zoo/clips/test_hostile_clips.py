"""Clips that were made to hang, to fill the memory or to end in a traceback are refused in words."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from qsens.core.errors import DataError
from qsens.zoo.audio.wave import read_wave, write_wave
from qsens.zoo.clips.layout import Clip, list_clips, read_frame, read_mouth
from qsens.zoo.clips.video import read_facts


@pytest.fixture
def clip(tmp_path):
    return Clip("a/b", tmp_path, (0,))


@pytest.mark.parametrize(
    "text",
    [
        f'frame,open,width,round\n0,"{"1" * 200_000}",0,0\n',
        f"frame,open,width,round\n{'9' * 5000},0,0,0\n",
        "frame,open,width,round\n0,\0,0,0\n",
        "frame,open,width,round\n0,nan,0,0\n",
        "frame,frame,open\n0,1,2\n",
    ],
)
def test_mouths_that_are_none(text, clip):
    (clip.folder / "mouth.csv").write_text(text)
    with pytest.raises(DataError, match=r"mouth\.csv"):
        read_mouth(clip)


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 1_999_999_973, 2**31 - 1])
def test_rates_that_no_sound_has(rate, tmp_path):
    path = tmp_path / "audio.wav"
    write_wave(path, np.zeros(1600))
    content = bytearray(path.read_bytes())
    content[24:32] = struct.pack("<II", rate, 2 * rate & 0xFFFFFFFF)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"holds 1600 samples at {rate} Hz"):
        read_wave(path)


def test_a_frame_of_another_format_is_no_frame(clip):
    Image.new("RGB", (96, 96)).save(clip.frame_path(0), format="EPS")
    with pytest.raises(DataError, match=r"cannot read .*0\.jpg"):
        read_frame(clip, 0)


def test_a_large_frame_is_refused_by_its_header(clip):
    Image.new("L", (9000, 9000)).save(clip.frame_path(0), format="PNG")
    with pytest.raises(DataError, match=r"0\.jpg is 9000x9000, 81 megapixels"):
        read_frame(clip, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda clip: read_mouth(clip),
        lambda clip: read_wave(clip.folder / "mouth.csv"),
        lambda clip: read_facts(clip.folder / "mouth.csv"),
        lambda clip: list_clips(clip.folder, filelist=clip.folder / "mouth.csv"),
    ],
)
def test_a_pipe_is_refused_at_once(read, clip):
    os.mkfifo(clip.folder / "mouth.csv")
    with pytest.raises(DataError, match=r"mouth\.csv is a pipe, not a file"):
        read(clip)
