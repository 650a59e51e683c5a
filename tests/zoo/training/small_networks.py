"""Stand-ins for the networks that are too large for fast tests, with the same interfaces."""

import torch
from torch import nn

from qsens.zoo.training.extractors import FeatureStages


class SmallExpert(nn.Module):
    """Embeds 16 mel bands' means and 8x8 pooled faces in four dimensions, at least 0, of length one."""

    def __init__(self):
        super().__init__()
        self.face_encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(15 * 16, 4))
        self.audio_encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 4))

    def forward(self, mel, faces):
        sound, mouths = self.audio_encoder(mel), self.face_encoder(faces)
        return tuple(nn.functional.normalize(part.exp(), dim=1) for part in (sound, mouths))


class SmallDiscriminator(nn.Module):
    """One strided convolution over lower halves."""

    def __init__(self):
        super().__init__()
        self.judge = nn.Sequential(nn.Conv2d(3, 1, 16, 16), nn.AdaptiveAvgPool2d(1), nn.Sigmoid())

    def forward(self, frames):
        if frames.dim() == 5:
            frames = frames.permute(2, 0, 1, 3, 4).flatten(0, 1)
        return self.judge(frames[:, :, 48:]).flatten(1)


class SmallExtractor(FeatureStages):
    """Four strided convolutions with fixed weights."""

    def __init__(self):
        super().__init__("small, seed 0")
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList(
            nn.Conv2d(3 if place == 0 else 4, 4, 4, 4 if place == 0 else 2, 1) for place in range(4)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.3, generator=generator)

    def stages(self, pictures):
        found = []
        for layer in self.layers:
            pictures = layer(pictures).relu()
            found.append(pictures)
        return found


def small_extractor():
    return SmallExtractor().eval().requires_grad_(requires_grad=False)


def small_expert():
    torch.manual_seed(5)
    return SmallExpert().eval().requires_grad_(requires_grad=False)
