"""Losses of the quality discriminator and against it, on probabilities (N, 1)."""

import torch

from qsens.zoo.training.losses.cross_entropy import binary_cross_entropy


def deceiving_loss(of_made: torch.Tensor) -> torch.Tensor:
    """What the generator pays for frames that the discriminator recognises: BCE(D(made), 1)."""
    return binary_cross_entropy(of_made, 1.0)


def discriminating_loss(of_real: torch.Tensor, of_made: torch.Tensor) -> torch.Tensor:
    """What the discriminator pays: BCE(D(real), 1) + BCE(D(made), 0)."""
    return binary_cross_entropy(of_real, 1.0) + binary_cross_entropy(of_made, 0.0)
