"""Multiply-accumulates of a network, read off the operations that it runs; on the meta device it is free."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm"}
)


@dataclass(frozen=True)
class Work:
    """What one input costs.

    `macs`: true multiply-accumulates of convolutions and matrix products, attention included.
    `macs_paper`: the convention of Kim et al. 2023: transposed convolutions at output resolution, and one
    for each output element of a batch normalisation.
    """

    parameters: int
    macs: int
    macs_paper: int


def work_of(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Work:
    """Run the module in eval mode on one input and count; the module is left as it was.

    Counting operations, not modules, also sees what no module stands for, such as attention.
    """
    was_training = module.training
    counting = _Counting()
    try:
        # With gradients on, attention does not take its fused path, which hides its matrix products.
        with torch.enable_grad(), counting:
            module.eval()(*inputs.values())
    finally:
        module.train(was_training)
    parameters = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return Work(parameters, counting.macs, counting.macs_paper)


class _Counting(TorchDispatchMode):
    """Adds up the work of every operation that runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.macs_paper = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name == "convolution":
            self._add(*_of_convolution(args, made))
        elif name in _NORMS:
            self._add(0, args[0].numel())
        elif name in ("mm", "bmm"):
            self._add(*2 * (args[0].numel() * args[1].shape[-1],))
        elif name in ("addmm", "baddbmm"):
            self._add(*2 * (args[1].numel() * args[2].shape[-1],))
        elif name.startswith("_scaled_dot_product"):
            self._add(*2 * (args[0].numel() * args[1].shape[-2] + made[0].numel() * args[1].shape[-2],))
        return made

    def _add(self, macs: int, macs_paper: int) -> None:
        self.macs += macs
        self.macs_paper += macs_paper


def _of_convolution(args: tuple[Any, ...], made: torch.Tensor) -> tuple[int, int]:
    """True multiply-accumulates, and those at output resolution."""
    given, weight, is_transposed, groups = args[0], args[1], args[6], args[8]
    if not is_transposed:
        macs = made.numel() * prod(weight.shape[1:])
        return macs, macs
    at_output = made.numel() * (weight.shape[0] // groups) * prod(weight.shape[2:])
    return given.numel() * prod(weight.shape[1:]), at_output
