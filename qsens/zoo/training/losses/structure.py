"""Structural similarity (Wang et al. 2004) and total variation as in OMGD (Ren et al. 2021)."""

import torch
from torch.nn import functional

WINDOW = 11
SIGMA = 1.5


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
