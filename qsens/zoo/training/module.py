"""The common part of all trainings: counted steps, seeded batches, a validation, networks to keep."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from qsens.scoring.weights import file_digest
from qsens.zoo.training.batches import TrainingClips
from qsens.zoo.training.spec import WEIGHT_FILES, TrainingSpec


class StepNumbers(IterableDataset[int]):
    """Numbers of the steps still to do.

    A batch is drawn from seed and step number, so a resumed run sees what an uninterrupted one would see.
    """

    def __init__(self, first: int, end: int) -> None:
        self._range = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)


class TrainingModule(pl.LightningModule):
    """Base of all trainings. `latest` holds the losses of the last step, on the device."""

    spec: TrainingSpec
    counted: tuple[str, ...] = ("done_steps", "samples_seen", "seconds_spent")

    def __init__(self, spec: TrainingSpec, clips: TrainingClips) -> None:
        super().__init__()
        self.spec = spec
        self.clips = clips
        self.done_steps = 0
        self.samples_seen = 0
        self.seconds_spent = 0.0
        self.latest: dict[str, torch.Tensor] = {}
        # A plain dictionary: torch would make modules in attributes part of this one.
        self._leaned_on: dict[str, nn.Module] = {}

    @abstractmethod
    def losses(self, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """The losses of one freshly drawn batch by name; `loss` is the one to minimise."""

    @abstractmethod
    def validation_metrics(self) -> dict[str, float]:
        """Figures on the validation clips; called in evaluation mode without gradients."""

    @abstractmethod
    def kept_networks(self) -> Mapping[str, nn.Module]:
        """Networks that the result consists of, by file name without suffix."""

    def identity(self) -> dict[str, str]:
        """Digests of everything outside the spec that the weights depend on."""
        spec_files = ((key, getattr(self.spec, key, None)) for key in WEIGHT_FILES)
        digests = {f"{key}_sha256": file_digest(path) for key, path in spec_files if path is not None}
        return {"corpus_sha256": self.clips.digest, **digests}

    def facts(self) -> Mapping[str, Any]:
        """Further facts about this training for its result."""
        return {}

    def lean_on(self, name: str, network: nn.Module) -> None:
        """Use a frozen network that belongs neither to the checkpoints nor to what is trained."""
        self._leaned_on[name] = network

    def leaned_on(self, name: str) -> Any:
        """A network given to `lean_on`, on this module's device; `None` where there is none."""
        network = self._leaned_on.get(name)
        return None if network is None else network.to(self.device)

    def after_validation(self, figures: Mapping[str, float]) -> None:
        """Hear the figures of a validation during training."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters that the optimizer changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def step_generator(self) -> np.random.Generator:
        """Randomness of the current step on this device."""
        return np.random.default_rng((self.spec.seed, self.done_steps, self.global_rank))

    def training_step(self, _step: int) -> torch.Tensor:
        losses = self.losses(self.step_generator())
        self.finish_step(losses)
        return losses["loss"]

    def finish_step(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Count the step and remember its losses."""
        self.latest = {name: loss.detach() for name, loss in losses.items()}
        self.done_steps += 1
        self.samples_seen += self.spec.batch_size * self.trainer.world_size

    def configure_optimizers(self) -> Any:
        return adamw(self.trained_parameters(), self.spec)

    def train_dataloader(self) -> DataLoader[int]:
        return DataLoader(StepNumbers(self.done_steps, self.spec.steps), batch_size=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = {name: getattr(self, name) for name in self.counted}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, value in checkpoint["progress"].items():
            setattr(self, name, value)


def adamw(
    parameters: list[nn.Parameter], spec: TrainingSpec, betas: tuple[float, float] = (0.9, 0.999)
) -> Any:
    """AdamW with the learning rate and decay of the spec; without decay it is Adam."""
    return torch.optim.AdamW(parameters, spec.learning_rate, betas=betas, weight_decay=spec.weight_decay)


def seed_networks(seed: int) -> None:
    """Seed what initial weights are drawn from."""
    torch.manual_seed(seed)
