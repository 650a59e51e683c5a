import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import DataError, SpecError
from qsens.zoo.audio.windows import (
    NO_WINDOW,
    WindowKind,
    inference_starts,
    inference_window,
    sync_window,
    training_window,
    window_starts,
)

MEL = np.arange(161, dtype=np.float32)[None] + np.zeros((80, 1), np.float32)


def starts_by_the_rule(mel_frames, fps):
    starts, i = [], 0
    while True:
        start = math.floor(Fraction(80 * i) / Fraction(fps))
        if start + 16 > mel_frames:
            return [*starts, mel_frames - 16]
        starts.append(start)
        i += 1


def test_two_seconds_have_47_windows():
    starts = inference_starts(161)
    assert len(starts) == 47
    assert starts[:7].tolist() == [0, 3, 6, 9, 12, 16, 19]
    assert starts[-3:].tolist() == [140, 144, 145]


@settings(deadline=None)
@given(st.integers(16, 600), st.sampled_from([25.0, 24.0, 29.97, 30.0, 50.0, 60.0, 12.5]))
def test_starts_follow_the_rule(mel_frames, fps):
    assert inference_starts(mel_frames, fps).tolist() == starts_by_the_rule(mel_frames, fps)


def test_one_window_exactly():
    assert inference_starts(16).tolist() == [0, 0]  # whole, and once more as the tail


def test_less_than_one_window_is_refused():
    with pytest.raises(DataError, match="15 mel frames"):
        inference_starts(15)
    assert window_starts(WindowKind.INFERENCE, np.arange(3), 15).tolist() == [NO_WINDOW] * 3


@pytest.mark.parametrize("fps", [0.0, -25.0, math.nan])
def test_a_frame_rate_must_be_positive(fps):
    with pytest.raises(SpecError):
        inference_starts(161, fps)


def test_a_frame_sees_its_own_sound():
    assert inference_window(MEL, 10)[0].tolist() == list(range(32, 48))
    assert sync_window(MEL, 10)[0].tolist() == list(range(32, 48))
    assert training_window(MEL, 10)[0].tolist() == list(range(28, 44))  # floor(80 * 9 / 25) = 28


def test_training_windows_are_the_inference_windows_of_the_frame_before():
    for frame in range(1, 46):
        assert np.array_equal(training_window(MEL, frame), inference_window(MEL, frame - 1))


def test_frame_zero_has_no_training_window():
    assert inference_window(MEL, 0)[0, 0] == 0
    with pytest.raises(DataError, match="video frame 0 has no training window"):
        training_window(MEL, 0)


def test_the_tail_window_belongs_to_the_first_frame_past_the_last_whole_one():
    assert inference_window(MEL, 46)[0, 0] == 145
    with pytest.raises(DataError, match="video frame 47"):
        inference_window(MEL, 47)
    with pytest.raises(DataError, match="video frame 46 has no sync window"):
        sync_window(MEL, 46)
    with pytest.raises(DataError, match="video frame 47 has no training window"):
        training_window(MEL, 47)


def test_frames_before_the_first_have_no_window():
    for kind in WindowKind:
        assert window_starts(kind, np.array([-1]), 161).tolist() == [NO_WINDOW]


def test_sixty_frames_a_second():
    assert inference_window(MEL, 3, fps=60.0)[0, 0] == 4
    assert training_window(MEL, 3, fps=60.0)[0, 0] == 2
