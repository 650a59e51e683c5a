"""Residual super-resolution networks, trained in minutes on photographs of scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

LOW_SIDE = 40
CHANNELS = 24
BLOCKS = 4
STEPS = 500
BATCH = 16
SEED = 0


class ResidualBlock(nn.Module):
    """Two convolutions and a skip (Lim et al. 2017, without scaling)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to features of the same shape."""
        return values + self.second(torch.relu(self.first(values)))


class SuperResolution(nn.Module):
    """Twice the size: head, residual body with a long skip, sub-pixel convolution, tail.

    It has 4 layers and 2 for each block; those of the body are alike.
    """

    def __init__(self, blocks: int = BLOCKS, channels: int = CHANNELS) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 5, padding=2)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)
        self.up = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3, 5, padding=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """RGB in 0..1, (N, 3, H, W) to (N, 3, 2H, 2W)."""
        head = torch.relu(self.head(image))
        features = self.merge(self.body(head)) + head
        return self.tail(torch.relu(nn.functional.pixel_shuffle(self.up(features), 2)))


def write_trained(folder: Path, photographs: Path, *, blocks: int = BLOCKS, channels: int = CHANNELS) -> Path:
    """Train on a folder of photographs; returns the checkpoint, made once."""
    size = "" if (blocks, channels) == (BLOCKS, CHANNELS) else f"-{blocks}-{channels}"
    checkpoint = folder / f"superresolution{size}.pt"
    if checkpoint.exists():
        return checkpoint
    torch.manual_seed(SEED)
    network, random = SuperResolution(blocks, channels), np.random.default_rng(SEED)
    crops = np.stack([np.asarray(Image.open(path)) for path in sorted(photographs.glob("*.png"))])
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        large = torch.from_numpy(_patches(crops, random))
        loss = (network(nn.functional.avg_pool2d(large, 2)) - large).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), checkpoint)
    return checkpoint


def write_low_resolution(folder: Path, photographs: Path) -> Path:
    """The photographs at `LOW_SIDE` pixels as PNG files; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(photographs.glob("*.png")):
        Image.open(path).resize((LOW_SIDE, LOW_SIDE), Image.Resampling.BOX).save(folder / path.name)
    return folder


def _patches(crops: np.ndarray, random: np.random.Generator, side: int = 64) -> np.ndarray:
    """Random squares, mirrored at random, of crops uint8 (N, H, W, 3): float32 (BATCH, 3, side, side)."""
    found = []
    for _ in range(BATCH):
        crop = crops[random.integers(len(crops))]
        top, left = random.integers(0, crop.shape[0] - side, 2)
        patch = crop[top : top + side, left : left + side]
        found.append(patch[:, :: random.choice((-1, 1))])
    return np.stack(found).transpose(0, 3, 1, 2).astype(np.float32) / 255
