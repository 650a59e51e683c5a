"""The Wav2Lip generator at any width, with or without its residual layers."""

from dataclasses import dataclass

import torch
from torch import nn

from qsens.zoo.wav2lip.architecture import Architecture, LayerPlan, layers_of, scaled
from qsens.zoo.wav2lip.blocks import block_from

SIZE = 96
MEL_SHAPE = (1, 80, 16)
FACE_SHAPE = (6, SIZE, SIZE)


@dataclass(frozen=True)
class TappedOutput:
    """Pictures, and what the last layer of each decoder block gave, FD0 first, before the skip is joined.

    `frames`: as `Wav2Lip.forward` returns them. `taps`: seven float tensors (N, C, H, W), H and W being
    1, 3, 6, 12, 24, 48, 96; N is B, or T*B in time-major order for 5-D input.
    """

    frames: torch.Tensor
    taps: tuple[torch.Tensor, ...]


class Wav2Lip(nn.Module):
    """A face and 0.2 s of sound in, the face with its mouth redrawn out (Prajwal et al. 2020).

    `width` scales every channel count but those of the inputs and the picture; `residual=False` leaves
    out the 28 residual layers (Kim et al. 2023). Parameter names and shapes are those of the published
    checkpoints. `architecture` replaces both for a generator that they cannot describe.
    """

    def __init__(
        self, width: float = 1.0, *, residual: bool = True, architecture: Architecture | None = None
    ) -> None:
        super().__init__()
        self.architecture = scaled(width, residual=residual) if architecture is None else architecture
        layers = layers_of(self.architecture)
        # Declared in the published order, which is the order of the checkpoint's keys.
        self.face_encoder_blocks = _stages(layers, "face_encoder_blocks")
        self.audio_encoder = nn.Sequential(*(block_from(item) for item in _of(layers, "audio_encoder")))
        self.face_decoder_blocks = _stages(layers, "face_decoder_blocks")
        self.output_block = nn.Sequential(
            *(block_from(item) for item in _of(layers, "output_block")), nn.Sigmoid()
        )

    def forward(self, mel: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
        """Redraw the mouths.

        `mel`: float (B, 1, 80, 16), -4..4. `face`: float (B, 6, 96, 96), 0..1, BGR: the target frame with
        its lower half zero, then a reference frame. Returns float (B, 3, 96, 96), 0..1, BGR. For T frames
        at once: `mel` (B, T, 1, 80, 16) and `face` (B, 6, T, 96, 96) give (B, 3, T, 96, 96).
        """
        return self.forward_with_taps(mel, face).frames

    def forward_with_taps(self, mel: torch.Tensor, face: torch.Tensor) -> TappedOutput:
        """As `forward`, with what the decoder blocks gave on the way, for channel distillation."""
        if face.dim() == 4:
            return self._redraw(mel, face)
        batch, frames = face.shape[0], face.shape[2]
        flat_mel = mel.transpose(0, 1).flatten(0, 1)
        flat_face = face.permute(2, 0, 1, 3, 4).flatten(0, 1)
        made = self._redraw(flat_mel, flat_face)
        pictures = made.frames.unflatten(0, (frames, batch)).permute(1, 2, 0, 3, 4)
        return TappedOutput(pictures, made.taps)

    def _redraw(self, mel: torch.Tensor, face: torch.Tensor) -> TappedOutput:
        # The sound first: execution order is then the paper's, and that of the exported graph.
        features = self.audio_encoder(mel)
        skips, picture = [], face
        for stage in self.face_encoder_blocks:
            picture = stage(picture)
            skips.append(picture)
        taps = []
        for stage, skip in zip(self.face_decoder_blocks, reversed(skips), strict=True):
            features = stage(features)
            taps.append(features)
            features = torch.cat((features, skip), dim=1)
        return TappedOutput(self.output_block(features), tuple(taps))

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One random sample of each input, in its range, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        mel = torch.rand((1, *MEL_SHAPE), generator=generator) * 8 - 4
        face = torch.rand((1, *FACE_SHAPE), generator=generator)
        face[:, :3, SIZE // 2 :] = 0
        return {"mel": mel, "face": face}


def _of(layers: tuple[LayerPlan, ...], group: str) -> list[LayerPlan]:
    return [layer for layer in layers if layer.group == group]


def _stages(layers: tuple[LayerPlan, ...], group: str) -> nn.ModuleList:
    stages: dict[int, list[nn.Module]] = {}
    for layer in _of(layers, group):
        stages.setdefault(layer.position[0], []).append(block_from(layer))
    return nn.ModuleList(nn.Sequential(*blocks) for blocks in stages.values())
