"""Trainings on windows of five frames: Eq. 1 of Kim et al. 2023, its sync schedule, and the teacher's."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qsens.core.errors import SpecError
from qsens.zoo.training.batches import TrainingClips, WindowBatch, draw_windows, evaluation_generator
from qsens.zoo.training.callbacks import GeneratorValidation
from qsens.zoo.training.losses import deceiving_loss, discriminating_loss, sync_loss
from qsens.zoo.training.module import TrainingModule, adamw, seed_networks
from qsens.zoo.training.spec import WindowSpec
from qsens.zoo.training.starting import load_start, open_frozen_expert
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator
from qsens.zoo.wav2lip.generator import TappedOutput, Wav2Lip
from qsens.zoo.wav2lip.published import GENERATOR

VALIDATION_FRAMES_PER_WINDOW = 10
CHUNK = 8
BETAS_WITH_GAN = (0.5, 0.999)
BETAS = (0.9, 0.999)
Redraw = Callable[[torch.Tensor, torch.Tensor], TappedOutput]


@dataclass(frozen=True)
class EquationOneWeights:
    """Weights of reconstruction, lip sync and adversarial loss; they add up to one."""

    reconstruction: float
    sync: float
    gan: float


class WindowTraining(TrainingModule):
    """Base of the trainings that update networks one after the other within a step."""

    spec: WindowSpec
    counted = (*TrainingModule.counted, "has_synced")

    def __init__(self, spec: WindowSpec, clips: TrainingClips, validation: TrainingClips | None) -> None:
        super().__init__(spec, clips)
        self.automatic_optimization = False
        self.has_synced = False
        if spec.sync_weight + spec.gan_weight > 1:
            raise SpecError(
                f"sync_weight {spec.sync_weight} and gan_weight {spec.gan_weight} add up to more than 1",
                "the rest is the weight of the pixels",
            )
        if spec.sync != "none":
            self.lean_on("expert", open_frozen_expert(spec.expert))
        self._validation_clips = validation or clips
        self._validation = GeneratorValidation(self._validation_clips, spec.window, spec.validation_samples)

    @abstractmethod
    def optimizer_names(self) -> tuple[str, ...]:
        """Names of the optimizers in the order in which `configure_optimizers` gives them."""

    def optimizer_named(self, name: str) -> Any:
        """One of the optimizers, wrapped by Lightning."""
        wrapped: Any = self.optimizers()
        return (wrapped if isinstance(wrapped, list) else [wrapped])[self.optimizer_names().index(name)]

    def is_sync_on(self) -> bool:
        """Whether the sync loss counts in this step."""
        if self.spec.sync == "middle":
            return self.done_steps >= self.spec.sync_middle * self.spec.steps
        return self.has_synced if self.spec.sync == "threshold" else self.spec.sync == "start"

    def after_validation(self, figures: Mapping[str, float]) -> None:
        if figures.get("sync_loss", float("inf")) < self.spec.sync_threshold:
            self.has_synced = True

    def weights(self) -> EquationOneWeights:
        """The weights of Eq. 1 in this step."""
        sync = self.spec.sync_weight if self.is_sync_on() else 0.0
        return EquationOneWeights(1 - sync - self.spec.gan_weight, sync, self.spec.gan_weight)

    def generator_metrics(self, generator: nn.Module) -> dict[str, float]:
        """PSNR with its controls, and the sync loss where there is an expert."""
        figures = self._validation.metrics(generator, self.device)
        expert = self.leaned_on("expert")
        if expert is not None:
            batch = draw_windows(
                self._validation_clips,
                self.spec.window,
                max(2, self.spec.validation_samples // VALIDATION_FRAMES_PER_WINDOW),
                evaluation_generator(),
                self.device,
            )
            parts = zip(*(part.split(CHUNK) for part in (batch.mel, batch.face, batch.sync_mel)), strict=True)
            losses = [sync_loss(expert, generator(mel, face), sound) for mel, face, sound in parts]
            figures["sync_loss"] = float(torch.stack(losses).mean())
        return figures


def update_with_equation_one(
    module: WindowTraining, redraw: Redraw, discriminator: QualityDiscriminator | None, batch: WindowBatch
) -> tuple[TappedOutput, dict[str, torch.Tensor]]:
    """One step of a generator by Eq. 1, then one of the discriminator; what was made, and the losses.

    Their optimizers are those named `generator` and `discriminator`; `None` leaves the adversarial term out.
    """
    optimizer = module.optimizer_named("generator")
    module.toggle_optimizer(optimizer)
    made = redraw(batch.mel, batch.face)
    losses = equation_one(module, made.frames, discriminator, batch)
    step(module, optimizer, losses["loss"])
    module.untoggle_optimizer(optimizer)
    detached = TappedOutput(made.frames.detach(), tuple(tap.detach() for tap in made.taps))
    if discriminator is not None:
        of_real, of_made = discriminator(batch.target), discriminator(detached.frames)
        losses["discriminator"] = discriminating_loss(of_real, of_made)
        step(module, module.optimizer_named("discriminator"), losses["discriminator"])
    return detached, losses


def equation_one(
    module: WindowTraining,
    frames: torch.Tensor,
    discriminator: QualityDiscriminator | None,
    batch: WindowBatch,
) -> dict[str, torch.Tensor]:
    """The generator's losses: (1 - s - d) L1 + s sync + d adversarial; s is 0 while sync is off."""
    weights = module.weights()
    losses = {"l1": (frames.float() - batch.target).abs().mean()}
    loss = weights.reconstruction * losses["l1"]
    if weights.sync:
        losses["sync"] = sync_loss(module.leaned_on("expert"), frames, batch.sync_mel)
        loss = loss + weights.sync * losses["sync"]
    if discriminator is not None:
        losses["gan"] = deceiving_loss(discriminator(frames))
        loss = loss + weights.gan * losses["gan"]
    return {"loss": loss, **losses}


def step(module: WindowTraining, optimizer: Any, loss: torch.Tensor) -> None:
    """Update what the optimizer holds."""
    optimizer.zero_grad()
    module.manual_backward(loss)
    optimizer.step()


def redraw_of(generator: Wav2Lip, *, is_compiled: bool) -> Redraw:
    """The generator as a function that also gives its taps, compiled where wanted."""
    redraw: Redraw = (
        torch.compile(generator.forward_with_taps) if is_compiled else generator.forward_with_taps
    )
    return redraw


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
