"""The lip-sync expert of Wav2Lip (SyncNet_color): do five frames and 0.2 s of sound belong together?"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from qsens.zoo.wav2lip.architecture import Stage, audio_layers
from qsens.zoo.wav2lip.blocks import ConvBlock, block_from
from qsens.zoo.wav2lip.published import EXPERT, open_network

FRAMES = 5
MEL_SHAPE = (1, 80, 16)
FACES_SHAPE = (15, 48, 96)
_AUDIO = (Stage(32, 2), Stage(64, 2), Stage(128, 2), Stage(256, 2), Stage(512, 0))
# Channels, and how many residual layers follow, for the stride-2 stages after the first two layers.
_FACE = ((128, 3), (256, 2), (512, 2), (512, 0))


class LipSyncExpert(nn.Module):
    """Embeds sound and mouths in one space (Prajwal et al. 2020); parameters named as published."""

    def __init__(self) -> None:
        super().__init__()
        self.face_encoder = nn.Sequential(*_face_layers())
        self.audio_encoder = nn.Sequential(*(block_from(layer) for layer in audio_layers(_AUDIO)))

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of sound and of mouths: two float (B, 512), at least 0, of length one.

        `mel`: float (B, 1, 80, 16), -4..4, the window that starts at the first frame. `faces`: float
        (B, 15, 48, 96), 0..1, the lower halves of five frames, BGR each, first frame first.
        """
        sound = self.audio_encoder(mel).flatten(1)
        mouths = self.face_encoder(faces).flatten(1)
        return nn.functional.normalize(sound, dim=1), nn.functional.normalize(mouths, dim=1)

    def sync_probability(self, mel: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """Cosine similarity of the two embeddings: float (B,), 0..1, since neither has negative values."""
        sound, mouths = self(mel, faces)
        return (sound * mouths).sum(dim=1)

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One random sample of each input, in its range, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        mel = torch.rand((1, *MEL_SHAPE), generator=generator) * 8 - 4
        return {"mel": mel, "faces": torch.rand((1, *FACES_SHAPE), generator=generator)}


def open_expert(checkpoint: Path, *, trust_checkpoint: bool = False) -> LipSyncExpert:
    """The expert with published weights (`lipsync_expert.pth`), in eval mode.

    Raises:
        LoadError: for a file that cannot be read, holds another network, or does not fit.
    """
    return open_network(LipSyncExpert, checkpoint, EXPERT, trust_checkpoint=trust_checkpoint)


def lower_halves(frames: torch.Tensor) -> torch.Tensor:
    """The part of a window that the expert sees: (B, 3, T, H, W) to (B, 3*T, H/2, W), frame after frame."""
    half = frames[:, :, :, frames.shape[3] // 2 :]
    return half.transpose(1, 2).flatten(1, 2)


def _face_layers() -> Iterator[nn.Module]:
    yield ConvBlock(FACES_SHAPE[0], 32, 7, padding=3)
    yield ConvBlock(32, 64, 5, stride=(1, 2), padding=1)
    for _ in range(2):
        yield ConvBlock(64, 64, 3, padding=1, residual=True)
    inputs = 64
    for wide, residual in _FACE:
        yield ConvBlock(inputs, wide, 3, stride=2, padding=1)
        for _ in range(residual):
            yield ConvBlock(wide, wide, 3, padding=1, residual=True)
        inputs = wide
    yield ConvBlock(inputs, inputs, 3)
    yield ConvBlock(inputs, inputs, 1)
