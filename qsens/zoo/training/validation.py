"""How well a generator redraws frames it was not trained on, with two controls."""

import torch
from torch import nn

from qsens.zoo.clips.layout import MOUTH_BOX
from qsens.zoo.training.batches import TrainingClips, evaluation_batch

CHUNK = 50


class GeneratorValidation:
    """PSNR in dB over evenly spread frames, each with the frame half a clip away as reference.

    `psnr_db` is over whole pictures; `mouth_psnr_db` over the mouth box; `wrong_audio_psnr_db` over the
    mouth box when the sound is another clip's; `copy_psnr_db` over the mouth box of the reference itself.
    A generator that ignores the sound shows equal second and third figures.
    """

    def __init__(self, clips: TrainingClips, window: str, frames: int) -> None:
        self._clips = clips
        self._window = window
        self._frames = frames

    def metrics(self, generator: nn.Module, device: torch.device) -> dict[str, float]:
        """The four figures; `generator` is in evaluation mode."""
        batch, wrong = evaluation_batch(self._clips, self._window, self._frames, device)
        made, made_wrong = (redraw(generator, mel, batch.face) for mel in (batch.mel, wrong))
        return {
            "psnr_db": psnr_db(made, batch.target),
            "mouth_psnr_db": mouth_psnr_db(made, batch.target),
            "wrong_audio_psnr_db": mouth_psnr_db(made_wrong, batch.target),
            "copy_psnr_db": mouth_psnr_db(batch.face[:, 3:], batch.target),
        }


def redraw(generator: nn.Module, mel: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    """Outputs for all samples, a few at a time."""
    pairs = zip(mel.split(CHUNK), face.split(CHUNK), strict=True)
    return torch.cat([generator(one_mel, one_face).float() for one_mel, one_face in pairs])


def psnr_db(made: torch.Tensor, target: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in 0..1, one mean square over all of them."""
    return float(-10 * torch.log10((made - target).square().mean()))


def mouth_psnr_db(made: torch.Tensor, target: torch.Tensor) -> float:
    """`psnr_db` inside the mouth box."""
    box = (..., *MOUTH_BOX)
    return psnr_db(made[box], target[box])
