"""Feature and style losses on the stages of a fixed network (Johnson et al. 2016)."""

from collections.abc import Sequence

import torch

FEATURE_STAGE = 1  # relu2_2 of VGG16


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
