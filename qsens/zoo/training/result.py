"""The weights that a training leaves behind."""

from pathlib import Path

import torch
from safetensors.torch import save

from qsens.core.files import write_atomically
from qsens.zoo.training.module import TrainingModule
from qsens.zoo.training.spec import GeneratorSpec

RESULT_NAME = "training.toml"


def write_networks(module: TrainingModule, folder: Path) -> None:
    """Write each network as `<name>.safetensors`, the generator rounded to FP16 where the spec says so.

    The module then holds the weights as written, so that what is measured is what is shipped.

    Raises:
        RunFolderError: if a file cannot be written.
    """
    spec = module.spec
    wants_half = isinstance(spec, GeneratorSpec) and spec.fp16
    for name, network in module.kept_networks().items():
        is_half = wants_half and name == "generator"
        weights = {key: stored(value, is_half=is_half) for key, value in network.state_dict().items()}
        write_atomically(folder / f"{name}.safetensors", save(weights, {"format": "pt"}))
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        )


def stored(value: torch.Tensor, *, is_half: bool) -> torch.Tensor:
    """A tensor as the file holds it: on the CPU, in plain layout, floats halved where wanted."""
    plain = value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
    return plain.half() if is_half and plain.is_floating_point() else plain
