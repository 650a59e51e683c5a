"""Training of a teacher with Eq. 1."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qsens.zoo.training.batches import TrainingClips
from qsens.zoo.training.module import adamw, seed_networks
from qsens.zoo.training.spec import WindowSpec
from qsens.zoo.training.starting import load_start
from qsens.zoo.training.windowed import (
    BETAS,
    BETAS_WITH_GAN,
    WindowTraining,
    redraw_of,
    update_with_equation_one,
)
from qsens.zoo.training.windows import draw_windows
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.published import GENERATOR


class TeacherTraining(WindowTraining):
    """A generator learns from reconstruction, the frozen expert and a discriminator trained alongside."""

    def __init__(self, spec: WindowSpec, clips: TrainingClips, validation: TrainingClips | None) -> None:
        super().__init__(spec, clips, validation)
        seed_networks(spec.seed)
        self.generator = Wav2Lip(spec.width, residual=spec.residual)
        if spec.start is not None:
            load_start(self.generator, spec.start, GENERATOR)
        self.generator = self.generator.to(memory_format=torch.channels_last)
        self.discriminator = QualityDiscriminator() if spec.gan_weight else None
        self._redraw = redraw_of(self.generator, is_compiled=spec.compile)

    def training_step(self, _step: int) -> None:
        batch = draw_windows(
            self.clips, self.spec.window, self.spec.batch_size, self.step_generator(), self.device
        )
        _, losses = update_with_equation_one(self, self._redraw, self.discriminator, batch)
        self.finish_step(losses)

    def configure_optimizers(self) -> Any:
        betas = BETAS_WITH_GAN if self.spec.gan_weight else BETAS
        optimizers = [adamw(list(self.generator.parameters()), self.spec, betas)]
        if self.discriminator is not None:
            optimizers.append(adamw(list(self.discriminator.parameters()), self.spec, betas))
        return optimizers

    def optimizer_names(self) -> tuple[str, ...]:
        return ("generator", "discriminator")[: 1 + (self.discriminator is not None)]

    def validation_metrics(self) -> dict[str, float]:
        return self.generator_metrics(self.generator)

    def kept_networks(self) -> Mapping[str, nn.Module]:
        networks = {"generator": self.generator}
        return networks if self.discriminator is None else {**networks, "discriminator": self.discriminator}
