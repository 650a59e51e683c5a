"""Packed clips as torch batches of frames or windows of five: colour order, masking, augmentation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qsens.core.errors import DataError
from qsens.zoo.clips.batches import FrameBatch
from qsens.zoo.clips.layout import FACE_SIZE
from qsens.zoo.clips.packed import PackedClips, pack_clips
from qsens.zoo.training.spec import TalkerSpec

HALF = FACE_SIZE // 2
EVALUATION_SEED = 20


@dataclass(frozen=True)
class TalkerBatch:
    """Single frames on the training device.

    `mel`: float32 (B, 1, 80, 16), -4 to 4. `face`: float32 (B, 6, 96, 96), 0 to 1, BGR, the masked target
    and the reference. `target`: float32 (B, 3, 96, 96), 0 to 1, BGR. `mouth`: float32 (B, 3), 0 to 1, or
    `None` where the clips do not state it.
    """

    mel: torch.Tensor
    face: torch.Tensor
    target: torch.Tensor
    mouth: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class TrainingClips:
    """Clips of one or more roots; `digest` is the sha256 over every frame and every mel as trained on."""

    packs: tuple[PackedClips, ...]
    digest: str

    @property
    def frames(self) -> int:
        """The number of frames in all roots."""
        return sum(len(pack.frames) for pack in self.packs)

    @property
    def clips(self) -> int:
        """The number of clips in all roots."""
        return sum(len(pack.clips) for pack in self.packs)

    @property
    def has_mouth(self) -> bool:
        """Whether the mouth state of every frame is known."""
        return all(pack.mouth is not None for pack in self.packs)

    def skipped(self) -> list[str]:
        """The parts of the roots that were left out, with reasons, one line each."""
        return [line for pack in self.packs for line in pack.skipped.lines()]

    def shares(self, generator: np.random.Generator, count: int) -> list[tuple[PackedClips, int]]:
        """The number out of `count` samples that each root gives, drawn in proportion to its frames."""
        sizes = np.array([len(pack.frames) for pack in self.packs])
        drawn = generator.multinomial(count, sizes / sizes.sum())
        return [(pack, int(number)) for pack, number in zip(self.packs, drawn, strict=True) if number]


def open_training_clips(roots: Sequence[Path]) -> TrainingClips:
    """Read every root into memory.

    Raises:
        DataError: if a root holds no usable clip.
    """
    packs = tuple(pack_clips(root) for root in roots)
    digest = hashlib.sha256()
    for pack in packs:
        digest.update(np.ascontiguousarray(pack.frames).data)
        for mel in pack.mels:
            digest.update(np.ascontiguousarray(mel).data)
    return TrainingClips(packs, digest.hexdigest())


def draw_talker_batch(
    clips: TrainingClips, spec: TalkerSpec, generator: np.random.Generator, device: torch.device
) -> TalkerBatch:
    """A batch of random frames, each with another frame of its clip as reference, augmented."""
    drawn = [
        pack.draw(generator, count, window=spec.window, reference="other")
        for pack, count in clips.shares(generator, spec.batch_size)
    ]
    return augmented(_joined(drawn, device), spec, generator)


def augmented(batch: TalkerBatch, spec: TalkerSpec, generator: np.random.Generator) -> TalkerBatch:
    """The batch with mirrored pictures, changed colours and noisy sound; target and reference alike."""
    count, device = len(batch.mel), batch.mel.device

    def tensor(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    gain = tensor(1 + spec.colour_gain * generator.uniform(-1, 1, (count, 3, 1, 1)))
    is_mirrored = torch.from_numpy(generator.random((count, 1, 1, 1)) < 0.5 * spec.mirror).to(device)
    target, face = (
        torch.where(is_mirrored, pictures.flip(3), pictures)
        for pictures in (
            (batch.target * gain).clamp(0, 1),
            (batch.face * gain.repeat(1, 2, 1, 1)).clamp(0, 1),
        )
    )
    mel = batch.mel + spec.mel_gain * tensor(generator.standard_normal((count, 1, 1, 1)))
    if spec.mel_noise:
        mel = mel + spec.mel_noise * tensor(generator.standard_normal(mel.shape))
    layout = torch.channels_last
    return TalkerBatch(
        mel, face.contiguous(memory_format=layout), target.contiguous(memory_format=layout), batch.mouth
    )


def evaluation_batch(
    clips: TrainingClips, window: str, count: int, device: torch.device
) -> tuple[TalkerBatch, torch.Tensor]:
    """Evenly spread frames with the frame half a clip away as reference, and mel windows of other clips.

    The second value, float32 (N, 1, 80, 16), is the wrong sound for each frame.

    Raises:
        DataError: if no frame has a mel window.
    """
    drawn = [_spread(pack, window, -(-count // len(clips.packs))) for pack in clips.packs]
    batch = _joined(drawn, device)
    # Half of the set away lies another clip wherever there are two or more.
    return batch, batch.mel.roll(len(batch.mel) // 2, 0)


def pictures_to_bgr(pictures: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """uint8 (..., H, W, 3) RGB to float32 (..., 3, H, W), 0 to 1, BGR."""
    tensor = torch.from_numpy(pictures).to(device)
    return tensor.flip(-1).movedim(-1, -3).float() / 255


def masked_faces(target: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Six channels: the target with its lower half zero, then the reference; channel axis `-3`."""
    upper = target.clone()
    upper[..., HALF:, :] = 0
    return torch.cat([upper, reference], dim=-3)


def _joined(drawn: Sequence[FrameBatch], device: torch.device) -> TalkerBatch:
    mouths = [batch.mouth for batch in drawn if batch.mouth is not None]
    target = pictures_to_bgr(np.concatenate([batch.target for batch in drawn]), device)
    reference = pictures_to_bgr(np.concatenate([batch.reference for batch in drawn]), device)
    mel = torch.from_numpy(np.concatenate([batch.mel for batch in drawn])).to(device)
    is_stated = len(mouths) == len(drawn)
    mouth = torch.from_numpy(np.concatenate(mouths)).to(device) if is_stated else None
    return TalkerBatch(mel, masked_faces(target, reference), target, mouth)


def _spread(pack: PackedClips, window: str, count: int) -> FrameBatch:
    usable = pack.usable(window)
    if not len(usable):
        raise DataError(f"no frame has a {window} window", "give clips with longer sound")
    chosen = usable[np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int)]
    first, counts = pack.first_frames[pack.clip_of[chosen]], pack.counts[pack.clip_of[chosen]]
    other = first + (chosen - first + counts // 2) % counts
    mouth = None if pack.mouth is None else pack.mouth[chosen]
    return FrameBatch(
        chosen, pack.mel_windows(chosen, window), pack.frames[chosen], pack.frames[other], mouth
    )


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
