"""Training of a compact generator by knowledge distillation: Eq. 2 of Kim et al. 2023."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qsens.zoo.training.batches import TrainingClips, WindowBatch, as_frames, draw_windows
from qsens.zoo.training.extractors import FeatureStages, open_extractor
from qsens.zoo.training.losses import (
    ChannelDistillation,
    extractor_input,
    feature_loss,
    ssim_loss,
    style_loss,
    sync_loss,
    total_variation,
)
from qsens.zoo.training.module import adamw, seed_networks
from qsens.zoo.training.spec import StudentSpec
from qsens.zoo.training.starting import load_start, open_teacher
from qsens.zoo.training.windowed import (
    BETAS,
    BETAS_WITH_GAN,
    WindowTraining,
    redraw_of,
    step,
    update_with_equation_one,
)
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator
from qsens.zoo.wav2lip.generator import TappedOutput, Wav2Lip
from qsens.zoo.wav2lip.published import GENERATOR


class StudentTraining(WindowTraining):
    """A student learns to make what a teacher makes: no ground truth and no discriminator of its own.

    The offline teacher is frozen, in eval mode. The online teacher is trained alongside by Eq. 1, and the
    student follows what it made in the same step.
    """

    spec: StudentSpec

    def __init__(self, spec: StudentSpec, clips: TrainingClips, validation: TrainingClips | None) -> None:
        super().__init__(spec, clips, validation)
        self.teacher: Wav2Lip | None = None
        self.discriminator: QualityDiscriminator | None = None
        offline = None if spec.teacher_mode == "online" else open_teacher(spec.teacher)
        extractor = open_extractor(spec.extractor, spec.vgg16_weights)
        seed_networks(spec.seed)
        self.generator = Wav2Lip(spec.width, residual=spec.residual)
        if spec.start is not None:
            load_start(self.generator, spec.start, GENERATOR)
        self.generator = self.generator.to(memory_format=torch.channels_last)
        if offline is None:
            self._add_online_teacher()
        else:
            self.lean_on("teacher", offline)
        self.distillation = ChannelDistillation(
            tap_channels(self.generator), tap_channels(offline or self.teacher), spec.channel_reduction
        )
        self.lean_on("extractor", extractor)
        self._redraw = redraw_of(self.generator, is_compiled=spec.compile)

    def training_step(self, _step: int) -> None:
        spec = self.spec
        batch = draw_windows(self.clips, spec.window, spec.batch_size, self.step_generator(), self.device)
        of_teacher, teacher_losses = self._taught(batch)
        made = self._redraw(batch.mel, batch.face)
        losses = self.equation_two(made, of_teacher, batch)
        step(self, self.optimizer_named("student"), losses["loss"])
        self.finish_step({**losses, **{f"teacher_{name}": loss for name, loss in teacher_losses.items()}})

    def equation_two(
        self, made: TappedOutput, of_teacher: TappedOutput, batch: WindowBatch
    ) -> dict[str, torch.Tensor]:
        """The student's losses: channel distillation, output distillation, and lip sync where it is on."""
        spec = self.spec
        frames, wanted = as_frames(made.frames).float(), as_frames(of_teacher.frames).float()
        losses = {"channel": self.distillation(made.taps, of_teacher.taps)}
        with torch.autocast(self.device.type, enabled=False):
            of_made, of_wanted = self._stages(frames), self._stages(wanted)
            losses["ssim"] = ssim_loss(frames, wanted)
            losses["feature"] = feature_loss(of_made, of_wanted)
            losses["style"] = style_loss(of_made, of_wanted)
            losses["variation"] = total_variation(frames)
        weights = {
            "channel": spec.channel_weight,
            "ssim": spec.ssim_weight,
            "feature": spec.feature_weight,
            "style": spec.style_weight,
            "variation": spec.variation_weight,
        }
        if self.is_sync_on():
            losses["sync"] = sync_loss(self.leaned_on("expert"), made.frames, batch.sync_mel)
            weights["sync"] = spec.kd_sync_weight
        loss = torch.stack([weights[name] * losses[name] for name in weights]).sum()
        return {"loss": loss, **losses}

    def configure_optimizers(self) -> Any:
        spec = self.spec
        own = [*self.generator.parameters(), *self.distillation.parameters()]
        optimizers = [adamw(own, spec, BETAS_WITH_GAN)]
        for network in (self.teacher, self.discriminator):
            if network is not None:
                betas = BETAS_WITH_GAN if spec.gan_weight else BETAS
                optimizers.append(adamw(list(network.parameters()), spec, betas))
                optimizers[-1].param_groups[0]["rate_factor"] = (
                    spec.teacher_learning_rate / spec.learning_rate
                )
        return optimizers

    def optimizer_names(self) -> tuple[str, ...]:
        # The teacher's is called as in its own training, which `update_with_equation_one` looks for.
        return ("student", "generator", "discriminator")

    def validation_metrics(self) -> dict[str, float]:
        return self.generator_metrics(self.generator)

    def kept_networks(self) -> Mapping[str, nn.Module]:
        networks: dict[str, nn.Module] = {"generator": self.generator}
        return networks if self.teacher is None else {**networks, "teacher": self.teacher}

    def identity(self) -> dict[str, str]:
        extractor: FeatureStages = self.leaned_on("extractor")
        return {**super().identity(), "extractor": extractor.identity}

    def _taught(self, batch: WindowBatch) -> tuple[TappedOutput, dict[str, torch.Tensor]]:
        """The teacher's output for the batch, without gradients; an online teacher learns from it first."""
        if self.teacher is not None:
            redraw = self.teacher.forward_with_taps
            return update_with_equation_one(self, redraw, self.discriminator, batch)
        with torch.no_grad():
            return self.leaned_on("teacher").forward_with_taps(batch.mel, batch.face), {}

    def _stages(self, frames: torch.Tensor) -> Any:
        return self.leaned_on("extractor").stages(extractor_input(frames, self.spec.output_range))

    def _add_online_teacher(self) -> None:
        spec = self.spec
        self.teacher = Wav2Lip(spec.teacher_width, residual=spec.teacher_residual)
        if spec.teacher is not None:
            load_start(self.teacher, spec.teacher, GENERATOR)
        self.teacher = self.teacher.to(memory_format=torch.channels_last)
        self.discriminator = QualityDiscriminator() if spec.gan_weight else None


def tap_channels(generator: Wav2Lip | None) -> list[int]:
    """Channels of the last layer of each decoder block."""
    assert generator is not None
    return [stage.channels for stage in generator.architecture.decoder]
