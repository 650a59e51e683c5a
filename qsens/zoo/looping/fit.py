"""Trains the demos `diffusion` and `video`: `python -m qsens.zoo.looping.fit NAME STEPS OUT`."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qsens.zoo.looping.networks import Denoiser, Upscaler
from qsens.zoo.looping.pictures import CLIP_SIDE, FACE_SIDE, NOISE, STATE_CHANNELS, drawn_clip

TRAINED_TIMES = 1000
FACES, FACES_PER_CLIP = 6000, 2
CLIPS, CLIP_FRAMES, CROP = 400, 10, 64
SEED = 7001
BATCH, CLIP_BATCH = 64, 6
# Of the copy of the weights that is kept: it follows those that are trained.
_FOLLOWS = 0.995
Losses = Callable[[nn.Module, np.random.Generator], Tensor]


def fit(network: nn.Module, loss_of: Losses, steps: int, rate: float) -> nn.Module:
    """Train with AdamW, its rate falling to zero as a cosine; the averaged copy is returned."""
    random = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    kept = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_FOLLOWS)
    )
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    mean = 0.0
    for step in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(network, random)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        falling.step()
        kept.update_parameters(network)
        mean += (float(loss) - mean) / min(step + 1, 100)
        if step % 100 == 99:
            sys.stderr.write(f"{step + 1} of {steps}: {mean:.4f}\n")
    return kept.module


def velocity_loss(faces: Tensor) -> Losses:
    """Squared error of the velocity (Lipman et al. 2023) at logistic-normal times (Esser et al. 2024)."""

    def loss_of(network: nn.Module, random: np.random.Generator) -> Tensor:
        clean = faces[torch.from_numpy(random.integers(0, len(faces), BATCH))].float() / 127.5 - 1
        clean = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, clean, clean.flip(3))
        noise, times = torch.randn_like(clean), torch.sigmoid(torch.randn(BATCH))
        mixed = torch.lerp(clean, noise, times[:, None, None, None])
        return (network(mixed, times * TRAINED_TIMES)["velocity"] - (noise - clean)).square().mean()

    return loss_of


def clip_loss(clips: Tensor) -> Losses:
    """Absolute error of every frame of a clip, whose states are handed on."""

    def loss_of(network: nn.Module, random: np.random.Generator) -> Tensor:
        chosen = clips[torch.from_numpy(random.integers(0, len(clips), CLIP_BATCH))]
        top, left = random.integers(0, CLIP_SIDE - CROP + 1, 2)
        sharp = chosen[:, :, :, top : top + CROP, left : left + CROP].float() / 255
        state = torch.zeros(CLIP_BATCH, STATE_CHANNELS, CROP // 2, CROP // 2)
        total = torch.zeros(())
        for frame in range(CLIP_FRAMES):
            made = network(small_and_noisy(sharp[:, frame]), state)
            state = made["next_state"]
            total = total + (made["picture"] - sharp[:, frame]).abs().mean()
        return total / CLIP_FRAMES

    return loss_of


def small_and_noisy(pictures: Tensor) -> Tensor:
    """Frames at half their side, as a camera gives them in little light."""
    small = nn.functional.avg_pool2d(pictures, 2)
    return (small + NOISE * torch.randn_like(small)).clamp(0, 1)


@click.command()
@click.argument("name", type=click.Choice(("diffusion", "video")))
@click.argument("steps", type=click.IntRange(min=1))
@click.argument("out", type=click.Path(path_type=Path))
def main(*, name: str, steps: int, out: Path) -> None:
    """Draw pictures, train the network of a demo on them for STEPS, and write its weights in FP16 to OUT."""
    torch.set_num_threads(1)
    if name == "diffusion":
        drawn = [
            drawn_clip(SEED, number, FACES_PER_CLIP, FACE_SIDE) for number in range(FACES // FACES_PER_CLIP)
        ]
        network = fit(Denoiser(), velocity_loss(torch.from_numpy(np.concatenate(drawn))), steps, 1e-3)
    else:
        drawn = [drawn_clip(SEED, number, CLIP_FRAMES, CLIP_SIDE) for number in range(CLIPS)]
        network = fit(Upscaler(), clip_loss(torch.from_numpy(np.stack(drawn))), steps, 1e-3)
    save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, out)


if __name__ == "__main__":
    main()
