"""The visual-quality discriminator of Wav2Lip: is the lower half of this face real?"""

from pathlib import Path

import torch
from torch import nn

from qsens.zoo.wav2lip.published import DISCRIMINATOR, open_network

SIZE = 96
_SLOPE = 0.01


class LeakyBlock(nn.Module):
    """Convolution with bias and leaky ReLU, without normalisation."""

    def __init__(
        self, channels: tuple[int, int], kernel: int, *, stride: int | tuple[int, int] = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(*channels, kernel, stride, padding))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to (N, C', H', W')."""
        return nn.functional.leaky_relu(self.conv_block(features), _SLOPE)


class QualityDiscriminator(nn.Module):
    """Judges single frames by their lower half (Prajwal et al. 2020); parameters named as published."""

    def __init__(self) -> None:
        super().__init__()
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(LeakyBlock((3, 32), 7, padding=3)),
                _halving(32, 64, 5, stride=(1, 2)),
                _halving(64, 128, 5),
                _halving(128, 256, 5),
                _halving(256, 512, 3),
                _halving(512, 512, 3),
                nn.Sequential(LeakyBlock((512, 512), 3), LeakyBlock((512, 512), 1)),
            ]
        )
        self.binary_pred = nn.Sequential(nn.Conv2d(512, 1, 1), nn.Sigmoid())

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Probability that each frame is real: float (N, 1), 0..1.

        `frames`: float (N, 3, 96, 96), 0..1, BGR; or (B, 3, T, 96, 96), then N is T*B in time-major order.
        """
        if frames.dim() == 5:
            frames = frames.permute(2, 0, 1, 3, 4).flatten(0, 1)
        features = frames[:, :, SIZE // 2 :]
        for stage in self.face_encoder_blocks:
            features = stage(features)
        return self.binary_pred(features).flatten(1)

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One random frame, the same at every call."""
        return {"frames": torch.rand((1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))}


def open_discriminator(checkpoint: Path, *, trust_checkpoint: bool = False) -> QualityDiscriminator:
    """The discriminator with published weights (`visual_quality_disc.pth`), in eval mode.

    Raises:
        LoadError: for a file that cannot be read, holds another network, or does not fit.
    """
    return open_network(QualityDiscriminator, checkpoint, DISCRIMINATOR, trust_checkpoint=trust_checkpoint)


def _halving(inputs: int, outputs: int, kernel: int, *, stride: int | tuple[int, int] = 2) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        LeakyBlock((inputs, outputs), kernel, stride=stride, padding=padding),
        LeakyBlock((outputs, outputs), kernel, padding=padding),
    )
