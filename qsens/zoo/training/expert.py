"""Training of the lip-sync expert."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from qsens.zoo.training.batches import TrainingClips, draw_pairs, evaluation_generator
from qsens.zoo.training.losses import match_loss, sync_probability
from qsens.zoo.training.module import TrainingModule, seed_networks
from qsens.zoo.training.spec import ExpertSpec
from qsens.zoo.training.starting import load_start
from qsens.zoo.wav2lip.expert import LipSyncExpert
from qsens.zoo.wav2lip.published import EXPERT

CHUNK = 32


class ExpertTraining(TrainingModule):
    """The expert learns to tell a window's own sound from that of another window of the clip."""

    spec: ExpertSpec

    def __init__(self, spec: ExpertSpec, clips: TrainingClips, validation: TrainingClips | None) -> None:
        super().__init__(spec, clips)
        seed_networks(spec.seed)
        self.expert = LipSyncExpert()
        if spec.start is not None:
            load_start(self.expert, spec.start, EXPERT)
        self.expert = self.expert.to(memory_format=torch.channels_last)
        if spec.compile:
            self.expert.compile()
        self._validation = validation or clips

    def losses(self, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        pairs = draw_pairs(self.clips, self.spec.batch_size, generator, self.device)
        return {"loss": match_loss(sync_probability(self.expert, pairs.frames, pairs.mel), pairs.is_match)}

    def validation_metrics(self) -> dict[str, float]:
        """Loss over pairs of the validation clips, and the share of pairs told right at p = 0.5."""
        pairs = draw_pairs(
            self._validation, self.spec.validation_samples, evaluation_generator(), self.device
        )
        chunks = zip(pairs.frames.split(CHUNK), pairs.mel.split(CHUNK), strict=True)
        probability = torch.cat([sync_probability(self.expert, frames, mel) for frames, mel in chunks])
        is_right = (probability > 0.5) == (pairs.is_match > 0.5)
        return {
            "sync_loss": float(match_loss(probability, pairs.is_match)),
            "sync_accuracy": float(is_right.float().mean()),
        }

    def kept_networks(self) -> Mapping[str, nn.Module]:
        return {"expert": self.expert}
