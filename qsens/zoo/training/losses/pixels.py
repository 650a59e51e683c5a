"""Losses between pictures: weighted, on their gradients, and after shrinking."""

import torch
from torch.nn import functional

from qsens.zoo.clips.layout import FACE_SIZE, MASKED_ROWS, MOUTH_BOX


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
