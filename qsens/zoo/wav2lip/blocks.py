"""Convolution blocks of Wav2Lip and its relatives (Prajwal et al. 2020): convolution, norm, ReLU."""

import torch
from torch import nn

from qsens.zoo.wav2lip.architecture import LayerPlan

Pair = int | tuple[int, int]


class ConvBlock(nn.Module):
    """Convolution with bias, batch normalisation, the block's input added if residual, then ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: Pair = 1,
        padding: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs)
        )
        self.is_residual = residual

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to (N, C', H', W'), at least 0."""
        made = self.conv_block(features)
        return torch.relu(made + features if self.is_residual else made)


class DeconvBlock(nn.Module):
    """Transposed convolution with bias, batch normalisation, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: Pair = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, output_padding),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to (N, C', H', W'), at least 0."""
        return torch.relu(self.conv_block(features))


def block_from(layer: LayerPlan) -> nn.Module:
    """The torch module of one planned layer; a plain layer has neither norm nor ReLU."""
    if layer.is_plain:
        return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)
    if layer.is_transposed:
        return DeconvBlock(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            output_padding=layer.output_padding,
        )
    return ConvBlock(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        residual=layer.is_residual,
    )
