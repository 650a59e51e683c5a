"""Losses of all trainings: pixels, structure, features and style, channels, discriminator, lip-sync."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from qsens.zoo.clips.layout import FACE_SIZE, MASKED_ROWS, MOUTH_BOX
from qsens.zoo.wav2lip.expert import lower_halves

WINDOW = 11
SIGMA = 1.5
FEATURE_STAGE = 1  # relu2_2 of VGG16


def gaussian_window() -> torch.Tensor:
    """The 11x11 Gaussian of SSIM, standard deviation 1.5, sum 1."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    profile = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    profile = profile / profile.sum()
    return torch.outer(profile, profile).float()


def ssim(made: torch.Tensor, target: torch.Tensor, dynamic_range: float = 1.0) -> torch.Tensor:
    """Mean SSIM of pictures (N, C, H, W): each channel alone, borders padded with zeros.

    `dynamic_range` is the L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2. OMGD takes 1 also for pictures in -1..1.
    """
    channels = made.shape[1]
    window = gaussian_window().to(made).expand(channels, 1, WINDOW, WINDOW)

    def blurred(pictures: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(pictures, window, padding=WINDOW // 2, groups=channels)

    mean_made, mean_target = blurred(made), blurred(target)
    variance_made = blurred(made * made) - mean_made**2
    variance_target = blurred(target * target) - mean_target**2
    covariance = blurred(made * target) - mean_made * mean_target
    small, smaller = (0.03 * dynamic_range) ** 2, (0.01 * dynamic_range) ** 2
    above = (2 * mean_made * mean_target + smaller) * (2 * covariance + small)
    below = (mean_made**2 + mean_target**2 + smaller) * (variance_made + variance_target + small)
    return (above / below).mean()


def ssim_loss(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - SSIM."""
    return 1 - ssim(made, target)


def total_variation(made: torch.Tensor) -> torch.Tensor:
    """Sum over the batch (N, C, H, W) of absolute differences of vertical and horizontal neighbours.

    A sum, not a mean: it grows with batch size, frames and resolution.
    """
    return made.diff(dim=-2).abs().sum() + made.diff(dim=-1).abs().sum()


def region_weights(mouth: float, lower: float, device: torch.device) -> torch.Tensor:
    """Weights (1, 1, 96, 96) with mean 1: the mouth box, the rest of the lower half, and 1 elsewhere."""
    weights = torch.ones(1, 1, FACE_SIZE, FACE_SIZE, device=device)
    weights[..., MASKED_ROWS, :] = lower
    weights[(..., *MOUTH_BOX)] = mouth
    return weights / weights.mean()


def weighted_l1(made: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of (B, 3, H, W) pictures under weights (1, 1, H, W)."""
    return (weights * (made - target).abs()).mean()


def gradient_l1(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the vertical and of the horizontal differences of neighbours, added."""
    difference = made - target
    return difference.diff(dim=-2).abs().mean() + difference.diff(dim=-1).abs().mean()


def pooled_l1(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the pictures shrunk 4 times and 8 times, added."""
    difference = made - target
    return torch.stack([functional.avg_pool2d(difference, side).abs().mean() for side in (4, 8)]).sum()


def binary_cross_entropy(probability: torch.Tensor, wanted: float | torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy in FP32; `wanted` is one probability or one for each."""
    with torch.autocast(probability.device.type, enabled=False):
        # Rounding may take a cosine just above 1, which binary cross-entropy refuses.
        given = probability.float().clamp(max=1.0)
        target = wanted if isinstance(wanted, torch.Tensor) else torch.full_like(given, wanted)
        return functional.binary_cross_entropy(given, target)


class ChannelDistillation(nn.Module):
    """Pulls the mean of each channel of the student towards the teacher's, through adaptors.

    An adaptor (1x1 convolution without bias, batch normalisation, ReLU) lifts a student's tap to the
    teacher's channels; it is trained with the student and thrown away.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], reduction: str = "sum") -> None:
        super().__init__()
        self.adaptors = nn.ModuleList(
            _adaptor(own, wanted) for own, wanted in zip(student, teacher, strict=True)
        )
        self.reduction = reduction

    def forward(self, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum (or mean) over the taps of the mean squared difference of channel means.

        `student` and `teacher`: one (N, C, H, W) tensor for each tap, sizes agreeing but for C.
        """
        taps = zip(self.adaptors, student, teacher, strict=True)
        parts = torch.stack([_distance(adaptor(own), wanted) for adaptor, own, wanted in taps])
        return parts.mean() if self.reduction == "mean" else parts.sum()


def _distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return (student.float().mean(dim=(2, 3)) - teacher.float().mean(dim=(2, 3))).square().mean()


def _adaptor(student: int, teacher: int) -> nn.Sequential:
    convolution, norm = nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher)
    nn.init.normal_(convolution.weight, 0.0, 0.02)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    nn.init.zeros_(norm.bias)
    return nn.Sequential(convolution, norm, nn.ReLU())


def deceiving_loss(of_made: torch.Tensor) -> torch.Tensor:
    """The generator's loss for frames that the discriminator recognises: BCE(D(made), 1)."""
    return binary_cross_entropy(of_made, 1.0)


def discriminating_loss(of_real: torch.Tensor, of_made: torch.Tensor) -> torch.Tensor:
    """The discriminator's loss: BCE(D(real), 1) + BCE(D(made), 0)."""
    return binary_cross_entropy(of_real, 1.0) + binary_cross_entropy(of_made, 0.0)


def gram_matrices(features: torch.Tensor) -> torch.Tensor:
    """F F^T / (C H W) of each sample: (N, C, H, W) to (N, C, C)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def feature_loss(made: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of the second stage's features."""
    return (made[FEATURE_STAGE] - target[FEATURE_STAGE]).abs().mean()


def style_loss(made: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over the stages of the mean absolute difference of Gram matrices."""
    pairs = zip(made, target, strict=True)
    return torch.stack(
        [(gram_matrices(one) - gram_matrices(other)).abs().mean() for one, other in pairs]
    ).sum()


def extractor_input(pictures: torch.Tensor, output_range: tuple[float, float]) -> torch.Tensor:
    """BGR pictures (N, 3, H, W) in `output_range` to RGB in 0..1, without ImageNet's mean and deviation."""
    low, high = output_range
    return ((pictures - low) / (high - low)).flip(1)


def match_loss(probability: torch.Tensor, is_match: torch.Tensor) -> torch.Tensor:
    """The expert's loss: mean BCE of probabilities (B,) against 1 for a match and 0 for none."""
    return binary_cross_entropy(probability, is_match)


def sync_probability(expert: nn.Module, frames: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """Cosine similarity float32 (B,) of sound and mouths.

    `frames`: float (B, 3, 5, 96, 96), 0 to 1, BGR; `mel`: float (B, 1, 80, 16), the window that starts at
    the first frame.
    """
    sound, mouths = expert(mel, lower_halves(frames))
    similarity: torch.Tensor = (sound.float() * mouths.float()).sum(dim=1)
    return similarity


def sync_loss(expert: nn.Module, frames: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """Mean of -log p, p being the probability that made frames match their sound."""
    return binary_cross_entropy(sync_probability(expert, frames, mel), 1.0)
