"""Binary cross-entropy of probabilities, safe under mixed precision."""

import torch
from torch.nn import functional


def binary_cross_entropy(probability: torch.Tensor, wanted: float | torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy in FP32; `wanted` is one probability or one for each."""
    with torch.autocast(probability.device.type, enabled=False):
        # Rounding may take a cosine just above 1, which binary cross-entropy refuses.
        given = probability.float().clamp(max=1.0)
        target = wanted if isinstance(wanted, torch.Tensor) else torch.full_like(given, wanted)
        return functional.binary_cross_entropy(given, target)
