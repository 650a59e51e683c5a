"""Losses through the lip-sync expert (Prajwal et al. 2020)."""

import torch
from torch import nn

from qsens.zoo.training.losses.cross_entropy import binary_cross_entropy
from qsens.zoo.wav2lip.expert import lower_halves


def match_loss(probability: torch.Tensor, is_match: torch.Tensor) -> torch.Tensor:
    """What the expert pays: mean BCE of probabilities (B,) against 1 for a match and 0 for none."""
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
