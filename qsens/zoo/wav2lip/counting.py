"""Parameters and multiply-accumulates of a torch module, measured while it runs once."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d,)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Cost:
    """What one sample costs.

    `parameters`: everything trainable, normalisation included. `macs`: true multiply-accumulates.
    `macs_torchprofile`: the convention of Kim et al. 2023 (torchprofile 0.0.3 and later): transposed
    convolutions at output resolution, and one for each output element of a batch normalisation.
    `layers`: convolutions, transposed convolutions and matrix products.
    """

    parameters: int
    macs: int
    macs_torchprofile: int
    layers: int


def cost_of(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Cost:
    """Run the module in eval mode on one sample and count; the module is left as it was."""
    macs: list[int] = []
    at_output: list[int] = []

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        if isinstance(layer, _NORMS):
            at_output.append(made.numel())
            return
        per_output, per_input = _work(layer)
        at_output.append(made.numel() * per_output)
        macs.append(made.numel() * per_output if per_input is None else given[0].numel() * per_input)

    counted = (*_CONVOLUTIONS, *_TRANSPOSED, *_NORMS, nn.Linear)
    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, counted)]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(**inputs)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    parameters = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return Cost(parameters, sum(macs), sum(at_output), len(macs))


def _work(layer: Any) -> tuple[int, int | None]:
    """Multiplications for each output element as if each were computed alone, and for each input element.

    The second is given where it is the true one: a transposed convolution multiplies only what it is fed.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, None
    taps = prod(layer.kernel_size)
    per_output = layer.in_channels // layer.groups * taps
    return per_output, layer.out_channels // layer.groups * taps if isinstance(layer, _TRANSPOSED) else None
