import pytest
import torch
from torch import nn

from qsens.core.errors import LoadError
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator, open_discriminator
from qsens.zoo.wav2lip.expert import LipSyncExpert, lower_halves, open_expert


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return LipSyncExpert().eval()


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return QualityDiscriminator().eval()


def kinds(module):
    return [type(part).__name__ for part in module.modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]


def test_the_expert_has_the_published_size_and_names(expert):
    assert sum(parameter.numel() for parameter in expert.parameters()) == 16_435_072
    state = expert.state_dict()
    assert len(state) == 217
    assert {key.rsplit(".conv_block", 1)[0] for key in state} == {
        *(f"face_encoder.{place}" for place in range(17)),
        *(f"audio_encoder.{place}" for place in range(14)),
    }
    assert state["face_encoder.1.conv_block.0.weight"].shape == (64, 32, 5, 5)
    assert state["face_encoder.14.conv_block.0.weight"].shape == (512, 512, 3, 3)
    assert state["audio_encoder.11.conv_block.0.weight"].shape == (256, 256, 3, 3)
    assert state["audio_encoder.12.conv_block.0.weight"].shape == (512, 256, 3, 3)


@torch.no_grad()
def test_sizes_inside_the_expert_are_the_published_ones(expert):
    seen = []
    hooks = [
        part.register_forward_hook(lambda _part, _given, made: seen.append(tuple(made.shape[1:])))
        for part in expert.face_encoder
    ]
    expert(**expert.example_inputs())
    for hook in hooks:
        hook.remove()
    assert list(dict.fromkeys(seen)) == [
        (32, 48, 96), (64, 46, 47), (128, 23, 24), (256, 12, 12), (512, 6, 6), (512, 3, 3), (512, 1, 1)
    ]  # fmt: skip
    residual = [part.is_residual for part in expert.face_encoder]
    assert [place for place, is_residual in enumerate(residual) if is_residual] == [
        2,
        3,
        5,
        6,
        7,
        9,
        10,
        12,
        13,
    ]


@torch.no_grad()
def test_embeddings_have_length_one_and_give_the_probability(expert):
    torch.manual_seed(1)
    mel, faces = torch.rand(3, 1, 80, 16) * 8 - 4, torch.rand(3, 15, 48, 96)
    sound, mouths = expert(mel, faces)
    torch.testing.assert_close(sound.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(mouths.norm(dim=1), torch.ones(3))
    probability = expert.sync_probability(mel, faces)
    torch.testing.assert_close(probability, nn.functional.cosine_similarity(sound, mouths))
    assert ((probability >= 0) & (probability <= 1)).all()


def test_lower_halves_puts_frame_after_frame():
    frames = torch.zeros(2, 3, 5, 96, 96)
    for channel in range(3):
        for frame in range(5):
            frames[:, channel, frame, 48:] = 10 * frame + channel
            frames[:, channel, frame, :48] = -1
    halves = lower_halves(frames)
    assert halves.shape == (2, 15, 48, 96)
    assert [float(halves[1, place, 0, 0]) for place in range(15)] == [
        10 * frame + channel for frame in range(5) for channel in range(3)
    ]
    assert (halves >= 0).all()


def test_the_discriminator_has_the_published_size_and_names(discriminator):
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 14_113_793
    state = discriminator.state_dict()
    assert len(state) == 28
    assert set(kinds(discriminator)) == {"Conv2d"}
    shapes = {key: tuple(value.shape) for key, value in state.items() if key.endswith("weight")}
    assert shapes["face_encoder_blocks.1.0.conv_block.0.weight"] == (64, 32, 5, 5)
    assert shapes["face_encoder_blocks.6.1.conv_block.0.weight"] == (512, 512, 1, 1)
    assert shapes["binary_pred.0.weight"] == (1, 512, 1, 1)


@torch.no_grad()
def test_the_discriminator_sees_lower_halves_in_time_major_order(discriminator):
    torch.manual_seed(2)
    frames = torch.rand(2, 3, 3, 96, 96)
    judged = discriminator(frames)
    assert judged.shape == (6, 1)
    assert ((judged > 0) & (judged < 1)).all()
    torch.testing.assert_close(judged[2 * 2 + 1], discriminator(frames[1:2, :, 2])[0])
    changed = frames.clone()
    changed[:, :, :, :48] = 0
    assert torch.equal(discriminator(changed), judged)
    changed[:, :, :, 48:] = 0
    assert not torch.equal(discriminator(changed), judged)


@pytest.mark.slow
def test_loads_the_published_forms(expert, discriminator, tmp_path):
    path = tmp_path / "lipsync_expert.pth"
    prefixed = {f"module.{key}": value for key, value in expert.state_dict().items()}
    torch.save({"state_dict": prefixed, "optimizer": None, "global_step": 1, "global_epoch": 1}, path)
    opened = open_expert(path)
    assert not opened.training
    assert all(torch.equal(value, expert.state_dict()[key]) for key, value in opened.state_dict().items())
    torch.save({"state_dict": discriminator.state_dict(), "optimizer": None}, path)
    loaded = open_discriminator(path).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in discriminator.state_dict().items())


def test_one_is_not_taken_for_the_other(expert, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(expert.state_dict(), path)
    with pytest.raises(LoadError, match=r"holds the lip-sync expert.*, not the visual-quality discriminator"):
        open_discriminator(path)


def test_a_shorter_audio_encoder_is_refused(expert, tmp_path):
    path = tmp_path / "file.pth"
    state = {key: value for key, value in expert.state_dict().items() if "audio_encoder.13" not in key}
    torch.save(state, path)
    with pytest.raises(LoadError) as caught:
        open_expert(path)
    assert (
        "'audio_encoder.13.conv_block.0.weight', nothing in the file and 512x512x1x1" in caught.value.message
    )
    assert "as published" in caught.value.hint


def test_an_expert_of_a_fork_is_named(expert, tmp_path):
    path = tmp_path / "file.pth"
    torch.save({**expert.state_dict(), "face_encoder.0.act.weight": torch.zeros(1)}, path)
    with pytest.raises(LoadError, match="fork of Wav2Lip: it has PReLU activations"):
        open_expert(path)
