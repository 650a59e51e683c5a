"""Direct training of a compact generator on single frames."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from qsens.zoo.training.batches import TrainingClips, draw_talker_batch
from qsens.zoo.training.callbacks import GeneratorValidation
from qsens.zoo.training.losses import gradient_l1, pooled_l1, region_weights, weighted_l1
from qsens.zoo.training.module import TrainingModule, seed_networks
from qsens.zoo.training.spec import TalkerSpec
from qsens.zoo.training.starting import load_start
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.published import GENERATOR

MOUTH_STATES = 3


class TalkerTraining(TrainingModule):
    """A generator learns to redraw frames from another frame of the clip and the sound.

    A linear head that is thrown away reads the known mouth state off the audio embedding: without it
    the audio branch begins to matter only after many thousand samples.
    """

    spec: TalkerSpec

    def __init__(self, spec: TalkerSpec, clips: TrainingClips, validation: TrainingClips | None) -> None:
        super().__init__(spec, clips)
        seed_networks(spec.seed)
        self.generator = Wav2Lip(spec.width, residual=spec.residual)
        if spec.start is not None:
            load_start(self.generator, spec.start, GENERATOR)
        self.generator = self.generator.to(memory_format=torch.channels_last)
        self.mouth_head = nn.LazyLinear(MOUTH_STATES)
        self._embedding = torch.empty(0)
        self.generator.audio_encoder.register_forward_hook(self._keep_embedding)
        with torch.no_grad():
            self.generator.audio_encoder.eval()(torch.zeros(1, 1, 80, 16))
            self.mouth_head(self._embedding)
        self.generator.train()
        if spec.compile:
            self.generator.compile()
        self.register_buffer(
            "region",
            region_weights(spec.mouth_weight, spec.lower_weight, torch.device("cpu")),
            persistent=False,
        )
        self._validation = GeneratorValidation(validation or clips, spec.window, spec.validation_samples)

    def losses(self, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        batch = draw_talker_batch(self.clips, self.spec, generator, self.device)
        made = self.generator(batch.mel, batch.face).float()
        parts = {
            "pixel": weighted_l1(made, batch.target, self.region),
            "edge": gradient_l1(made, batch.target),
            "pooled": pooled_l1(made, batch.target),
        }
        loss = (
            parts["pixel"] + self.spec.edge_weight * parts["edge"] + self.spec.pooled_weight * parts["pooled"]
        )
        if batch.mouth is not None and self.spec.audio_weight:
            read = self.mouth_head(self._embedding).float()
            parts["audio"] = (read - batch.mouth).square().mean()
            loss = loss + self.spec.audio_weight * parts["audio"]
        return {"loss": loss, **parts}

    def validation_metrics(self) -> dict[str, float]:
        return self._validation.metrics(self.generator, self.device)

    def kept_networks(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator}

    def facts(self) -> Mapping[str, Any]:
        return {"mouth_state_known": self.clips.has_mouth}

    def _keep_embedding(self, _module: nn.Module, _inputs: Any, made: torch.Tensor) -> None:
        self._embedding = made.flatten(1)
