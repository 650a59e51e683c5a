import tomllib

import numpy as np
import pytest
import torch
from tiny_clips import write_tiny_corpus

from qsens.zoo.training.batches import as_frames, draw_windows, evaluation_generator
from qsens.zoo.training.kinds import module_of, train
from qsens.zoo.training.running import run_training
from qsens.zoo.training.windowed import equation_one


def silent(*_):
    """A progress that shows nothing."""


def batch_for(module):
    return draw_windows(module.clips, "training", 2, evaluation_generator(), torch.device("cpu"))


def has_gradients(network):
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters()]


def test_windows_hold_masked_targets_references_and_their_own_sound(make_spec, small_networks):
    batch = batch_for(module_of(make_spec("teacher")))
    assert batch.face.shape == (2, 6, 5, 96, 96)
    assert batch.mel.shape == (2, 5, 1, 80, 16)
    assert batch.sync_mel.shape == (2, 1, 80, 16)
    assert torch.equal(batch.face[:, :3, :, :48], batch.target[:, :, :, :48])
    assert not batch.face[:, :3, :, 48:].any()
    assert not torch.equal(batch.face[:, 3:], batch.target)
    frames = as_frames(batch.target)
    assert torch.equal(frames[2 * 3 + 1], batch.target[1, :, 3])


def test_equation_two_trains_the_student_and_its_adaptors_only(make_spec, small_networks, teacher_file):
    module = module_of(make_spec("student", teacher=str(teacher_file)))
    batch = batch_for(module)
    made = module.generator.forward_with_taps(batch.mel, batch.face)
    with torch.no_grad():
        wanted = module.leaned_on("teacher").forward_with_taps(batch.mel, batch.face)
    losses = module.equation_two(made, wanted, batch)
    assert set(losses) == {"loss", "channel", "ssim", "feature", "style", "variation", "sync"}
    losses["loss"].backward()
    assert sum(has_gradients(module.generator)) > 0.9 * len(has_gradients(module.generator))
    assert sum(has_gradients(module.distillation)) > 0.9 * len(has_gradients(module.distillation))
    for name in ("teacher", "expert", "extractor"):
        assert not any(has_gradients(module.leaned_on(name))), name
    names = [name for name, _ in module.named_parameters()]
    assert not any(part in name for name in names for part in ("expert", "teacher", "extractor"))


def test_equation_two_adds_its_terms_with_the_papers_weights(make_spec, small_networks, teacher_file):
    module = module_of(make_spec("student", teacher=str(teacher_file)))
    batch = batch_for(module)
    with torch.no_grad():
        made = module.generator.forward_with_taps(batch.mel, batch.face)
        of_teacher = module.leaned_on("teacher").forward_with_taps(batch.mel, batch.face)
        losses = module.equation_two(made, of_teacher, batch)
    weights = {"channel": 10, "ssim": 10, "feature": 10, "style": 1e4, "variation": 1e-5, "sync": 3}
    total = sum(weight * float(losses[name]) for name, weight in weights.items())
    assert float(losses["loss"]) == pytest.approx(total, rel=1e-5)


def test_equation_two_of_a_student_that_makes_what_the_teacher_makes(make_spec, small_networks, teacher_file):
    module = module_of(make_spec("student", teacher=str(teacher_file), sync="none"))
    batch = batch_for(module)
    made = module.leaned_on("teacher").forward_with_taps(batch.mel, batch.face)
    module.distillation.adaptors = torch.nn.ModuleList(torch.nn.Identity() for _ in made.taps)
    losses = module.equation_two(made, made, batch)
    for name in ("channel", "ssim", "feature", "style"):
        assert float(losses[name]) == pytest.approx(0, abs=1e-6), name
    assert float(losses["loss"]) == pytest.approx(1e-5 * float(losses["variation"]), rel=1e-2)


@torch.no_grad()
def test_equation_one_is_the_stated_sum_and_sync_counts_once_it_is_on(make_spec, small_networks):
    module = module_of(make_spec("teacher", sync="middle", steps=10))
    batch = batch_for(module)
    frames = module.generator(batch.mel, batch.face)
    before = equation_one(module, frames, module.discriminator, batch)
    assert "sync" not in before
    expected = 0.93 * float(before["l1"]) + 0.07 * float(before["gan"])
    assert float(before["loss"]) == pytest.approx(expected, rel=1e-5)
    module.done_steps = 5
    after = equation_one(module, frames, module.discriminator, batch)
    expected = 0.9 * float(after["l1"]) + 0.03 * float(after["sync"]) + 0.07 * float(after["gan"])
    assert float(after["loss"]) == pytest.approx(expected, rel=1e-5)
    perfect = equation_one(module, batch.target, module.discriminator, batch)
    assert float(perfect["l1"]) == 0


@pytest.mark.parametrize(
    ("sync", "at_start", "at_half", "after_a_good_validation"),
    [
        ("start", True, True, True),
        ("middle", False, True, False),
        ("threshold", False, False, True),
        ("none", False, False, False),
    ],
)
def test_when_the_sync_loss_counts(
    make_spec, small_networks, sync, at_start, at_half, after_a_good_validation
):
    module = module_of(make_spec("teacher", sync=sync, steps=10))
    assert module.is_sync_on() is at_start
    module.after_validation({"sync_loss": 0.76})
    module.done_steps = 5
    assert module.is_sync_on() is at_half
    module.done_steps = 0
    module.after_validation({"sync_loss": 0.74})
    assert module.is_sync_on() is after_a_good_validation
    assert len(small_networks) == (sync != "none")


@pytest.mark.slow
def test_a_teacher_and_its_discriminator_learn_while_the_expert_does_not(make_spec, small_networks):
    spec = make_spec("teacher", sync="start")
    module, untrained = module_of(spec), module_of(spec)
    expert = {key: value.clone() for key, value in module.leaned_on("expert").state_dict().items()}
    run_training(module, silent)
    for name in ("generator", "discriminator"):
        pairs = zip(getattr(module, name).parameters(), getattr(untrained, name).parameters(), strict=True)
        assert all(not torch.equal(one, other) for one, other in pairs), name
    assert all(
        torch.equal(expert[key], value) for key, value in module.leaned_on("expert").state_dict().items()
    )


@pytest.mark.slow
def test_an_offline_teacher_stays_and_an_online_one_learns(make_spec, small_networks, teacher_file):
    few = {"teacher": str(teacher_file), "steps": 2, "teacher_width": 0.125, "teacher_residual": False}
    offline = module_of(make_spec("student", "offline", **few))
    before = {key: value.clone() for key, value in offline.leaned_on("teacher").state_dict().items()}
    run_training(offline, silent)
    after = offline.leaned_on("teacher").state_dict()
    assert all(torch.equal(before[key], value) for key, value in after.items())
    online = module_of(make_spec("student", "online", teacher_mode="online", **few))
    run_training(online, silent)
    weight = "output_block.1.weight"
    assert not torch.equal(before[weight], online.teacher.state_dict()[weight])
    assert (online.spec.out / "teacher.safetensors").exists()


def test_the_talkers_mouth_head_reads_the_sound_and_is_thrown_away(make_spec):
    spec = make_spec("talker")
    module = module_of(spec)
    losses = module.losses(np.random.default_rng(0))
    losses["audio"].backward()
    assert all(has_gradients(module.mouth_head))
    assert any(has_gradients(module.generator.audio_encoder))
    assert not any(has_gradients(module.generator.face_encoder_blocks))
    assert set(module.kept_networks()) == {"generator"}


@pytest.mark.slow
def test_a_corpus_without_mouth_states_trains_without_the_head(make_spec, tmp_path):
    bare = write_tiny_corpus(tmp_path / "bare", clips=1, has_mouth=False)
    train(make_spec("talker", data=[str(bare)]), silent)
    record = tomllib.loads((tmp_path / "run" / "training.toml").read_text())
    assert record["training"]["mouth_state_known"] is False
