"""Windows of five frames as torch batches."""

from dataclasses import dataclass

import numpy as np
import torch

from qsens.zoo.training.batches import TrainingClips, masked_faces, pictures_to_bgr

EVALUATION_SEED = 20


@dataclass(frozen=True)
class WindowBatch:
    """Windows of T = 5 frames on the training device.

    `mel`: float32 (B, T, 1, 80, 16), -4 to 4, one window a frame. `sync_mel`: float32 (B, 1, 80, 16), the
    window of the first frame. `face`: float32 (B, 6, T, 96, 96), 0 to 1, BGR, masked targets and references.
    `target`: float32 (B, 3, T, 96, 96), 0 to 1, BGR.
    """

    mel: torch.Tensor
    sync_mel: torch.Tensor
    face: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class SoundPairs:
    """Five frames and sound that matches or not.

    `frames`: float32 (B, 3, 5, 96, 96), 0 to 1, BGR. `mel`: float32 (B, 1, 80, 16). `is_match`: float32
    (B,), 1 or 0.
    """

    frames: torch.Tensor
    mel: torch.Tensor
    is_match: torch.Tensor


def draw_windows(
    clips: TrainingClips, window: str, count: int, generator: np.random.Generator, device: torch.device
) -> WindowBatch:
    """Random windows, each with another window of its clip as reference."""
    drawn = [
        pack.draw_fives(generator, share, window=window, reference="other")
        for pack, share in clips.shares(generator, count)
    ]
    target = pictures_to_bgr(np.concatenate([batch.target for batch in drawn]), device)
    reference = pictures_to_bgr(np.concatenate([batch.reference for batch in drawn]), device)
    return WindowBatch(
        torch.from_numpy(np.concatenate([batch.mel for batch in drawn])).to(device),
        torch.from_numpy(np.concatenate([batch.sync_mel for batch in drawn])).to(device),
        masked_faces(target, reference).transpose(1, 2),
        target.transpose(1, 2),
    )


def draw_pairs(
    clips: TrainingClips, count: int, generator: np.random.Generator, device: torch.device
) -> SoundPairs:
    """Random windows, half of them with the sound of another window of the clip."""
    drawn = [pack.draw_sync(generator, share) for pack, share in clips.shares(generator, count)]
    return SoundPairs(
        pictures_to_bgr(np.concatenate([batch.frames for batch in drawn]), device).transpose(1, 2),
        torch.from_numpy(np.concatenate([batch.mel for batch in drawn])).to(device),
        torch.from_numpy(np.concatenate([batch.is_match for batch in drawn])).to(device),
    )


def evaluation_generator() -> np.random.Generator:
    """Randomness of validation draws, the same at every validation."""
    return np.random.default_rng(EVALUATION_SEED)


def as_frames(windows: torch.Tensor) -> torch.Tensor:
    """(B, C, T, H, W) to (T*B, C, H, W), time-major as the generator flattens."""
    return windows.permute(2, 0, 1, 3, 4).flatten(0, 1)
