"""Sizes of the Wav2Lip family, ours beside those that Kim et al. 2023 publish."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import nn

from qsens.zoo.syncnet.network import SyncNet
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator
from qsens.zoo.wav2lip.expert import LipSyncExpert
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.variants import variant_named

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d,)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
WHY_TWO_COUNTS = (
    "MACs (paper) count transposed convolutions at output resolution, as torchprofile does, plus one for "
    "each output element of a batch normalisation; true MACs count the multiplications that are done. A "
    "transposed convolution of stride 2 does a quarter of what the paper's convention says, and they are "
    "most of the student: that is why its true ratio is larger."
)
CUT_INNER_IS_A_GUESS = (
    "cut-inner has the published size (Table 3 of the paper); its published widths could not be found, so "
    "these are a guess."
)


@dataclass(frozen=True)
class Cost:
    """The cost of one sample.

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


@dataclass(frozen=True)
class Row:
    """One generator. `paper_*` are as printed in the paper; ratios are the teacher's cost over this one's."""

    name: str
    title: str
    cost: Cost
    parameters_ratio: float
    macs_paper_ratio: float
    macs_ratio: float
    paper_parameters: str
    paper_macs: str


@dataclass(frozen=True)
class Helper:
    """A network that trains or judges the generators."""

    title: str
    cost: Cost


@dataclass(frozen=True)
class _Published:
    name: str
    title: str
    parameters: str
    macs: str


_PUBLISHED = (
    _Published("teacher", "Wav2Lip", "36.3M", "6.21G"),
    _Published("student-residual", "x0.25, residual layers kept", "2.3M (15.9x)", "0.40G (15.6x)"),
    _Published("student", "x0.25, residual layers removed", "1.3M (28.9x)", "0.22G (28.8x)"),
    _Published("cut-inner", "inner layers cut (Kim et al. 2022)", "1.9M", "0.70G"),
)


def generator_rows() -> tuple[Row, ...]:
    """Table 2 of the paper, and the baseline of its Table 3, in that order."""
    costs = {
        entry.name: _cost(partial(Wav2Lip, architecture=variant_named(entry.name))) for entry in _PUBLISHED
    }
    teacher = costs[_PUBLISHED[0].name]
    return tuple(_row(entry, costs[entry.name], teacher) for entry in _PUBLISHED)


def helper_rows() -> tuple[Helper, ...]:
    """The lip-sync expert, the quality discriminator and the SyncNet of the lip-sync measures."""
    makers = (
        ("lip-sync expert (SyncNet_color)", LipSyncExpert),
        ("visual-quality discriminator", QualityDiscriminator),
        ("SyncNet of LSE-D and LSE-C", SyncNet),
    )
    return tuple(Helper(title, _cost(maker)) for title, maker in makers)


def _cost(maker: Callable[[], Any]) -> Cost:
    # Shapes are enough: the meta device neither draws weights nor computes.
    with torch.device("meta"):
        module = maker()
    return cost_of(module, {name: value.to("meta") for name, value in module.example_inputs().items()})


def _row(entry: _Published, cost: Cost, teacher: Cost) -> Row:
    return Row(
        name=entry.name,
        title=entry.title,
        cost=cost,
        parameters_ratio=teacher.parameters / cost.parameters,
        macs_paper_ratio=teacher.macs_torchprofile / cost.macs_torchprofile,
        macs_ratio=teacher.macs / cost.macs,
        paper_parameters=entry.parameters,
        paper_macs=entry.macs,
    )
