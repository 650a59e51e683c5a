"""Channel distillation (Zhou et al. 2020) as in online multi-granularity distillation (Ren et al. 2021)."""

from collections.abc import Sequence

import torch
from torch import nn


class ChannelDistillation(nn.Module):
    """Pulls the mean of each channel of the student towards the teacher's, through adaptors.

    An adaptor (1x1 convolution without bias, batch normalisation, ReLU) lifts a student's tap to the
    teacher's channels; it is trained with the student and thrown away.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], reduction: str = "sum") -> None:
        super().__init__()
        self.adaptors = nn.ModuleList(
            _adaptor(own, wanted) for own, wanted in zip(student, teacher, strict=True)
        )
        self.reduction = reduction

    def forward(self, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum (or mean) over the taps of the mean squared difference of channel means.

        `student` and `teacher`: one (N, C, H, W) tensor for each tap, sizes agreeing but for C.
        """
        taps = zip(self.adaptors, student, teacher, strict=True)
        parts = torch.stack([_distance(adaptor(own), wanted) for adaptor, own, wanted in taps])
        return parts.mean() if self.reduction == "mean" else parts.sum()


def _distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return (student.float().mean(dim=(2, 3)) - teacher.float().mean(dim=(2, 3))).square().mean()


def _adaptor(student: int, teacher: int) -> nn.Sequential:
    convolution, norm = nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher)
    nn.init.normal_(convolution.weight, 0.0, 0.02)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    nn.init.zeros_(norm.bias)
    return nn.Sequential(convolution, norm, nn.ReLU())
