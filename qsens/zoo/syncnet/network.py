"""The SyncNet that LSE-D and LSE-C are measured with (Chung and Zisserman 2016)."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from qsens.zoo.wav2lip.published import SYNCNET, open_network

MFCC_SHAPE = (1, 13, 20)
FACES_SHAPE = (3, 5, 224, 224)
FEATURES = 1024


class SyncNet(nn.Module):
    """Features of 0.2 s of sound and of five frames that lie close where the two are in sync.

    Parameters are named as in the published `syncnet_v2.model`. Features are not normalised: their
    Euclidean distance is what the measures use. Evaluate in eval mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(*_audio_layers())
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(*_video_layers())

    def audio_features(self, mfcc: torch.Tensor) -> torch.Tensor:
        """Float (B, 1024) of MFCC windows: float (B, 1, 13, 20), 13 coefficients, 100 steps a second."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def video_features(self, faces: torch.Tensor) -> torch.Tensor:
        """Float (B, 1024) of five frames each: float (B, 3, 5, 224, 224), BGR, 0..255, not scaled."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))

    def forward(self, mfcc: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the sound and of the faces, see `audio_features` and `video_features`."""
        return self.audio_features(mfcc), self.video_features(faces)

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One random sample of each input, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        mfcc = torch.randn((1, *MFCC_SHAPE), generator=generator)
        return {"mfcc": mfcc, "faces": torch.rand((1, *FACES_SHAPE), generator=generator) * 255}


def open_syncnet(checkpoint: Path, *, trust_checkpoint: bool = False) -> SyncNet:
    """SyncNet with published weights (`syncnet_v2.model`), in eval mode.

    Raises:
        LoadError: for a file that cannot be read, holds another network, or does not fit.
    """
    return open_network(SyncNet, checkpoint, SYNCNET, trust_checkpoint=trust_checkpoint)


def _audio_layers() -> Iterator[nn.Module]:
    yield from _conv2d(1, 64, 3, padding=1)
    # Changes nothing, but the published parameter names count it.
    yield nn.MaxPool2d(1, stride=1)
    yield from _conv2d(64, 192, 3, padding=1)
    yield nn.MaxPool2d(3, stride=(1, 2))
    for inputs, outputs in pairwise((192, 384, 256, 256)):
        yield from _conv2d(inputs, outputs, 3, padding=1)
    yield nn.MaxPool2d(3, stride=2)
    yield from _conv2d(256, 512, (5, 4), padding=0)


def _conv2d(inputs: int, outputs: int, kernel: int | tuple[int, int], *, padding: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, kernel, padding=padding)
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU()


def _video_layers() -> Iterator[nn.Module]:
    halve, edge = (1, 2, 2), (0, 1, 1)
    yield nn.Conv3d(3, 96, (5, 7, 7), stride=halve)
    yield from _norm(96)
    yield nn.MaxPool3d((1, 3, 3), stride=halve)
    yield nn.Conv3d(96, 256, (1, 5, 5), stride=halve, padding=edge)
    yield from _norm(256)
    yield nn.MaxPool3d((1, 3, 3), stride=halve, padding=edge)
    for _ in range(3):
        yield nn.Conv3d(256, 256, (1, 3, 3), padding=edge)
        yield from _norm(256)
    yield nn.MaxPool3d((1, 3, 3), stride=halve)
    yield nn.Conv3d(256, 512, (1, 6, 6))
    yield from _norm(512)


def _norm(channels: int) -> Iterator[nn.Module]:
    yield nn.BatchNorm3d(channels)
    yield nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, FEATURES))
