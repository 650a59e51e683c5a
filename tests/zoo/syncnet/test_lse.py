import math

import numpy as np
import pytest
import torch

from qsens.core.errors import DataError
from qsens.zoo.syncnet.lse import audio_windows, mfcc, shift_distances, sync_scores, window_count


def published_procedure(video, audio):
    """Distances as the specification says them, window by window, with torch's own distance."""
    padded = torch.nn.functional.pad(torch.from_numpy(audio), (0, 0, 15, 15))
    rows = []
    for window in range(len(video)):
        feature = torch.from_numpy(video[window]).repeat(31, 1)
        rows.append(torch.nn.functional.pairwise_distance(feature, padded[window : window + 31]))
    return torch.stack(rows, 1).mean(1).numpy()


def features(seed, count=60, dimension=24):
    return np.random.default_rng(seed).normal(size=(count, dimension))


def test_distances_follow_the_published_procedure():
    video, audio = features(0), features(1)
    assert np.allclose(shift_distances(video, audio), published_procedure(video, audio), rtol=1e-12)


@pytest.mark.parametrize("delay", [-15, -4, 0, 3, 15])
def test_a_delay_of_the_sound_is_found_with_the_smallest_distance(delay):
    track = features(2, count=120)
    video, audio = track[30:90], track[30 - delay : 90 - delay]
    score = sync_scores(video, audio)
    assert score.offset == -delay
    # Only the windows that look beyond the end of the sound differ.
    lost = np.linalg.norm(video[len(video) - delay :] if delay > 0 else video[:-delay], axis=1).sum()
    assert score.lse_d == pytest.approx(lost / 60, abs=1e-5)
    assert score.lse_d < np.partition(shift_distances(video, audio), 1)[1]


def test_constant_features_get_their_confidence_from_the_padding_alone():
    constant = np.tile([3.0, 4.0], (45, 1))
    score = sync_scores(constant, constant)
    # At shift s, |s| of 45 windows meet zeros at distance 5; the median of |s| over -15..15 is 8.
    assert score.lse_d == pytest.approx(math.sqrt(2) * 1e-6)
    assert score.lse_c == pytest.approx(8 / 45 * 5, abs=1e-5)
    assert score.offset == 0


def test_the_median_is_the_sixteenth_of_31():
    distances = np.sort(shift_distances(features(3), features(4)))
    score = sync_scores(features(3), features(4))
    assert score.lse_c == distances[15] - distances[0]


def test_refuses_features_that_do_not_pair():
    with pytest.raises(DataError, match=r"\(60, 24\) \(picture\) and \(59, 24\) \(sound\)"):
        sync_scores(features(0), features(0)[:-1])
    with pytest.raises(DataError, match="features of shapes"):
        sync_scores(features(0)[:0], features(0)[:0])


@pytest.mark.parametrize(
    ("frames", "samples", "windows"), [(50, 32_000, 45), (50, 31_999, 44), (30, 32_000, 25), (4, 32_000, 0)]
)
def test_windows_of_a_clip_are_limited_by_picture_and_sound(frames, samples, windows):
    assert window_count(frames, samples) == windows


def test_window_i_starts_at_mfcc_4i_of_the_16_bit_levels():
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    windows = audio_windows(sound, 45)
    assert windows.shape == (45, 1, 13, 20)
    assert windows.dtype == np.float32
    levels = np.round(sound.astype(np.float64) * 32768)
    assert np.allclose(windows[44, 0], mfcc(levels)[176:196].T, atol=1e-4)
