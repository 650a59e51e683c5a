import numpy as np
import pytest
import torch
from annotated_sets import pictures

from qsens.core.errors import DataError, LoadError
from qsens.zoo.metrics.sync_meter import (
    WEIGHTS_FILE,
    WEIGHTS_VARIABLE,
    SyncMeter,
    locate_weights,
    open_sync_meter,
)
from qsens.zoo.syncnet.lse import audio_windows, sync_scores
from qsens.zoo.syncnet.network import SyncNet


class RecordingNetwork:
    """Keeps the windows it is given; features are projections of them."""

    def __init__(self):
        self.faces, self.sound = [], []

    def video_features(self, faces):
        self.faces.append(faces.clone())
        return faces.mean(dim=(3, 4)).flatten(1).repeat(1, 69)[:, :1024]

    def audio_features(self, mfcc):
        self.sound.append(mfcc.clone())
        return mfcc.flatten(1).repeat(1, 4)[:, :1024]


def sound_of(frames, seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, frames * 640).astype(np.float32)


@pytest.fixture
def network():
    return RecordingNetwork()


def test_the_network_sees_five_frames_in_bgr_from_0_to_255(network):
    images = np.zeros((30, 3, 96, 96), np.uint8)
    images[:, 0] = np.arange(30)[:, None, None]  # red counts the frames
    images[:, 2] = 200
    SyncMeter(network, "test").score(images, sound_of(30))
    faces = torch.cat(network.faces)
    assert faces.shape == (25, 3, 5, 224, 224)
    assert torch.equal(faces[7, 2, :, 0, 0], torch.arange(7.0, 12.0))
    assert (faces[:, 0] == 200).all()
    assert (faces[:, 1] == 0).all()


def test_the_network_hears_the_mfcc_windows(network):
    sound = sound_of(30)
    SyncMeter(network, "test").score(pictures(30), sound)
    assert np.array_equal(torch.cat(network.sound).numpy(), audio_windows(sound, 25))


def test_the_score_is_that_of_all_windows_in_order(network):
    images, sound = pictures(30), sound_of(30)
    score = SyncMeter(network, "test").score(images, sound)
    shown, heard = RecordingNetwork(), RecordingNetwork()
    video = shown.video_features(torch.cat(network.faces)).numpy()
    audio = heard.audio_features(torch.cat(network.sound)).numpy()
    expected = sync_scores(video, audio)
    assert score.lse_d == pytest.approx(expected.lse_d, rel=1e-5)
    assert score.offset == expected.offset


def test_pictures_are_scaled_without_changing_flat_colours_and_rounded(network):
    half = np.zeros((30, 3, 96, 96), np.uint8)
    half[..., 48:] = 101
    SyncMeter(network, "test").score(half, sound_of(30))
    faces = network.faces[0]
    assert set(faces[..., :100].unique().tolist()) == {0.0}
    assert set(faces[..., 130:].unique().tolist()) == {101.0}
    assert torch.equal(faces, faces.round())


def test_compression_changes_the_pictures(network):
    images, other = pictures(30), RecordingNetwork()
    SyncMeter(network, "test").score(images, sound_of(30))
    SyncMeter(other, "test", jpeg_quality=20).score(images, sound_of(30))
    change = (network.faces[0] - other.faces[0]).abs().mean()
    assert 1 < change < 80


def test_a_clip_without_a_window_is_refused(network):
    with pytest.raises(DataError, match=r"5 frames and 0\.20 s"):
        SyncMeter(network, "test").score(pictures(5), sound_of(5))


def test_weights_are_found_by_name_then_by_variable_then_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(LoadError, match="no weights of the evaluation SyncNet") as caught:
        locate_weights()
    assert WEIGHTS_VARIABLE in caught.value.hint
    cached = tmp_path / "cache" / "qsens" / WEIGHTS_FILE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"cached")
    assert locate_weights() == cached
    named = tmp_path / "named.model"
    named.write_bytes(b"named")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(named))
    assert locate_weights() == named
    with pytest.raises(LoadError, match=r"other\.model"):
        locate_weights(tmp_path / "other.model")


def test_weights_are_fetched_only_when_asked_and_whole(tmp_path, monkeypatch):
    source = tmp_path / "published.model"
    source.write_bytes(b"weights")
    monkeypatch.setattr("qsens.zoo.metrics.sync_meter.WEIGHTS_URL", source.as_uri())
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "cache" / "syncnet.model"))
    with pytest.raises(LoadError, match="no weights"):
        locate_weights()
    assert locate_weights(download=True).read_bytes() == b"weights"


def test_a_quality_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="a JPEG quality of 0"):
        open_sync_meter(tmp_path / "any.model", jpeg_quality=0)


@pytest.mark.slow
def test_published_weights_are_opened_and_named_by_their_digest(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / WEIGHTS_FILE
    torch.save(SyncNet().state_dict(), path)
    meter = open_sync_meter(path, jpeg_quality=90)
    assert meter.identity.startswith("syncnet/")
    assert meter.identity.endswith("/jpeg90")
    score = meter.score(pictures(10), sound_of(10))
    assert score.lse_d > 0
    assert score.lse_c >= 0
    assert -15 <= score.offset <= 15
