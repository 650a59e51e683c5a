import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from qsens.zoo.training.losses import (
    ChannelDistillation,
    deceiving_loss,
    discriminating_loss,
    extractor_input,
    feature_loss,
    gradient_l1,
    gram_matrices,
    match_loss,
    pooled_l1,
    region_weights,
    ssim,
    ssim_loss,
    style_loss,
    sync_loss,
    total_variation,
    weighted_l1,
)

CPU = torch.device("cpu")
STUDENT_TAPS, TEACHER_TAPS = (128, 128, 128, 96, 64, 32, 16), (512, 512, 512, 384, 256, 128, 64)


def pictures(seed=0, *shape):
    return torch.rand(shape or (2, 3, 96, 96), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "loss",
    [
        lambda made, target: weighted_l1(made, target, region_weights(6.0, 2.5, CPU)),
        gradient_l1,
        pooled_l1,
        ssim_loss,
        lambda made, target: feature_loss([made] * 4, [target] * 4),
        lambda made, target: style_loss([made] * 4, [target] * 4),
    ],
)
def test_identical_pictures_cost_nothing_and_others_do(loss):
    same = pictures()
    assert float(loss(same, same.clone())) == pytest.approx(0, abs=1e-6)
    assert float(loss(same, pictures(1))) > 1e-4


@pytest.mark.parametrize("loss", [gradient_l1, pooled_l1, ssim_loss])
def test_gradients_reach_what_was_made_and_not_the_target(loss):
    made, target = pictures().requires_grad_(), pictures(1)
    loss(made, target).backward()
    assert made.grad.abs().sum() > 0
    assert target.grad is None


def test_region_weights_have_mean_one_and_the_stated_ratios():
    weights = region_weights(6.0, 2.5, CPU)[0, 0]
    assert weights.mean() == pytest.approx(1)
    top, lower, mouth = weights[0, 0], weights[95, 0], weights[60, 40]
    assert (lower / top, mouth / top) == (pytest.approx(2.5), pytest.approx(6))
    assert int((weights == mouth).sum()) == 30 * 48


def test_weighted_l1_of_a_difference_in_the_mouth_box_alone():
    target = torch.zeros(1, 3, 96, 96)
    made = target.clone()
    made[..., 55:85, 24:72] = 0.5
    total = 48 * 96 + 2.5 * (48 * 96 - 30 * 48) + 6 * 30 * 48
    expected = 0.5 * 6 * 30 * 48 / total
    assert float(weighted_l1(made, target, region_weights(6.0, 2.5, CPU))) == pytest.approx(
        expected, rel=1e-5
    )


def test_gradient_l1_of_a_ramp_is_its_slope_and_of_an_offset_nothing():
    ramp = (torch.arange(96) * 0.01).expand(1, 3, 96, 96)
    assert float(gradient_l1(ramp, torch.zeros(1, 3, 96, 96))) == pytest.approx(0.01, rel=1e-4)
    assert float(gradient_l1(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))) == 0


def test_pooled_l1_of_an_offset_counts_twice_and_a_checkerboard_not_at_all():
    zero = torch.zeros(1, 3, 96, 96)
    board = torch.from_numpy(np.indices((96, 96)).sum(0) % 2).float() * 2 - 1
    assert float(pooled_l1(zero + 0.25, zero)) == pytest.approx(0.5)
    assert float(pooled_l1(zero + board, zero)) == pytest.approx(0, abs=1e-7)


def test_ssim_is_that_of_a_scipy_implementation_with_zero_padding():
    made, target = pictures(0, 1, 1, 24, 20), pictures(1, 1, 1, 24, 20)
    one, other = made[0, 0].double().numpy(), target[0, 0].double().numpy()
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def mean(values):
        return ndimage.correlate(values, kernel, mode="constant")

    variance_one, variance_other = mean(one**2) - mean(one) ** 2, mean(other**2) - mean(other) ** 2
    covariance = mean(one * other) - mean(one) * mean(other)
    light = (2 * mean(one) * mean(other) + 1e-4) / (mean(one) ** 2 + mean(other) ** 2 + 1e-4)
    form = (2 * covariance + 9e-4) / (variance_one + variance_other + 9e-4)
    assert float(ssim(made, target)) == pytest.approx((light * form).mean(), rel=1e-4)


def test_total_variation_sums_over_the_whole_batch():
    step_picture = torch.zeros(2, 3, 10, 8)
    step_picture[..., 4:] = 0.5
    assert float(total_variation(torch.full((2, 3, 10, 8), 0.7))) == 0
    assert float(total_variation(step_picture)) == pytest.approx(2 * 3 * 10 * 0.5)
    step_picture[..., 5:, :] += 1
    assert float(total_variation(step_picture)) == pytest.approx(2 * 3 * (10 * 0.5 + 8 * 1))


def test_gram_and_style_of_constant_features():
    low, high = (torch.full((2, 4, 5, 5), value) for value in (1.0, 3.0))
    assert torch.allclose(gram_matrices(high), torch.full((2, 4, 4), 9 / 4))
    assert float(style_loss([low] * 4, [high] * 4)) == pytest.approx(4 * (9 - 1) / 4)


def test_feature_loss_reads_the_second_stage_only():
    stages = [torch.zeros(1, 2, 3, 3) for _ in range(4)]
    others = [stage + value for stage, value in zip(stages, (9, 0.25, 9, 9), strict=True)]
    assert float(feature_loss(stages, others)) == 0.25


def test_extractors_get_rgb_in_0_to_1():
    bgr = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert extractor_input(bgr, (-1.0, 1.0)).flatten().tolist() == [1.0, 0.5, 0.0]
    assert extractor_input((bgr + 1) / 2, (0.0, 1.0)).flatten().tolist() == [1.0, 0.5, 0.0]


class FixedExpert(nn.Module):
    """Embeddings at a known angle, whatever the input; remembers what it was shown."""

    def __init__(self, cosine):
        super().__init__()
        self.cosine = cosine

    def forward(self, mel, faces):
        self.faces = faces
        mouths = torch.tensor([self.cosine, math.sqrt(1 - self.cosine**2)]).expand(len(mel), 2)
        return torch.tensor([1.0, 0.0]).expand(len(mel), 2), mouths


@pytest.mark.parametrize(("cosine", "expected"), [(1.0, 0.0), (0.5, math.log(2)), (0.1, math.log(10))])
def test_sync_loss_is_minus_log_of_the_cosine(cosine, expected):
    frames, mel = pictures(0, 2, 3, 5, 96, 96), torch.zeros(2, 1, 80, 16)
    assert float(sync_loss(FixedExpert(cosine), frames, mel)) == pytest.approx(expected, abs=1e-6)


def test_the_expert_sees_lower_halves_frame_after_frame():
    frames, expert = pictures(0, 2, 3, 5, 96, 96), FixedExpert(0.5)
    sync_loss(expert, frames, torch.zeros(2, 1, 80, 16))
    assert torch.equal(expert.faces[:, 3:6], frames[:, :, 1, 48:])


def test_match_loss_counts_matches_and_others():
    probability = torch.tensor([1.0, 0.25, 0.25])
    wanted = torch.tensor([1.0, 1.0, 0.0])
    assert float(match_loss(probability, wanted)) == pytest.approx((math.log(4) + math.log(4 / 3)) / 3)
    assert float(match_loss(torch.tensor([1.0000002]), torch.ones(1))) == 0


def test_adversarial_losses_of_a_discriminator_that_does_not_know_and_one_that_does():
    unsure, sure, never = torch.full((4, 1), 0.5), torch.ones(4, 1), torch.zeros(4, 1)
    assert float(deceiving_loss(unsure)) == pytest.approx(math.log(2))
    assert float(discriminating_loss(unsure, unsure)) == pytest.approx(2 * math.log(2))
    assert float(discriminating_loss(sure, never)) == 0
    assert float(deceiving_loss(sure)) == 0
    assert float(deceiving_loss(never)) == pytest.approx(100)


def test_probabilities_under_mixed_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert float(deceiving_loss(torch.full((4, 1), 0.5, dtype=torch.bfloat16))) == pytest.approx(
            math.log(2)
        )


def taps(channels, value=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = (1, 3, 6, 12, 24, 48, 96)
    shapes = [(2, count, side, side) for count, side in zip(channels, sides, strict=True)]
    return [torch.rand(s, generator=generator) if value is None else torch.full(s, value) for s in shapes]


def passing(distillation):
    """The same distillation with adaptors that change nothing."""
    distillation.adaptors = nn.ModuleList(nn.Identity() for _ in distillation.adaptors)
    return distillation


def test_channel_distillation_of_identical_taps_through_identity_adaptors_is_zero():
    channels = (4,) * 7
    same = taps(channels)
    assert float(passing(ChannelDistillation(channels, channels))(same, same)) == 0


def test_channel_distillation_sums_squared_differences_of_channel_means_over_taps():
    channels = (4,) * 7
    low, high = taps(channels, 1.0), taps(channels, 1.5)
    high[0][:, ::2] = 3.0  # half of the channels of one tap
    expected = 6 * 0.25 + (0.25 + 4) / 2
    assert float(passing(ChannelDistillation(channels, channels))(low, high)) == pytest.approx(expected)
    mean = passing(ChannelDistillation(channels, channels, "mean"))(low, high)
    assert float(mean) == pytest.approx(expected / 7)


def test_channel_means_do_not_see_where_things_are():
    channels = (4,) * 7
    there = taps(channels)
    moved = [tap.flip(2, 3) for tap in there]
    assert float(passing(ChannelDistillation(channels, channels))(there, moved)) == pytest.approx(0, abs=1e-9)


def test_adaptors_of_the_quarter_student_have_the_stated_size_and_beginning():
    torch.manual_seed(0)
    distillation = ChannelDistillation(STUDENT_TAPS, TEACHER_TAPS)
    assert sum(parameter.numel() for parameter in distillation.parameters()) == 259_712
    convolution, norm, activation = distillation.adaptors[0]
    assert convolution.bias is None
    assert float(convolution.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(norm.weight.detach().mean()) == pytest.approx(1, abs=0.01)
    assert float(norm.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert not norm.bias.any()
    assert isinstance(activation, nn.ReLU)


def test_channel_distillation_trains_student_and_adaptors():
    small, large = (2,) * 7, (4,) * 7
    distillation = ChannelDistillation(small, large)
    own, wanted = [tap.requires_grad_() for tap in taps(small)], taps(large, seed=1)
    distillation(own, wanted).backward()
    assert all(tap.grad is not None for tap in own)
    assert all(parameter.grad is not None for parameter in distillation.parameters())
    assert all(tap.grad is None for tap in wanted)
