"""Image classifiers of Figure 1, without trained weights, and the operations that they run, counted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm"}
)
SIDE = 224
CLASSES = 1000
_SOURCE = "torchvision 0.28, metadata of its IMAGENET1K_V1 weights"


@dataclass(frozen=True)
class Work:
    """The cost of one input.

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


@dataclass(frozen=True)
class Classifier:
    """A published classifier; `parameters` and `giga_macs` as published by `source`."""

    name: str
    title: str
    make: Callable[[], nn.Module]
    parameters: int
    giga_macs: float
    source: str = _SOURCE


class _Residual(nn.Module):
    """A body added to its input, or to a projection of it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.shortcut(x) + self.body(x)
        return added


class _Attention(nn.Module):
    """Self-attention over tokens (batch, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.into(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        mixed: torch.Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class _Tokens(nn.Module):
    """Patches of a picture as tokens, a class token first, positions added."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 1 + (SIDE // patch) ** 2, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat((self.first.expand(len(x), -1, -1), tokens), dim=1) + self.places


class _First(nn.Module):
    """The first token."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def resnet50() -> nn.Module:
    """He et al. 2016: bottlenecks of 3, 4, 6 and 3, stride in the 3x3 convolution."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            layers.append(_bottleneck(channels, width, stride if index == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, *_head(channels))


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018: inverted residuals; expansion, channels, repeats and stride as in its Table 2."""
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    layers: list[nn.Module] = list(_convolution(3, 32, 3, 2))
    channels = 32
    for expansion, wide, count, stride in stages:
        for index in range(count):
            layers.append(_inverted(channels, wide, expansion, stride if index == 0 else 1))
            channels = wide
    return nn.Sequential(*layers, *_convolution(channels, 1280, 1, 1), *_head(1280))


def vgg16() -> nn.Module:
    """Simonyan and Zisserman 2015, configuration D, without batch normalisation."""
    layers: list[nn.Module] = []
    channels = 3
    for wide, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Flatten(), nn.Linear(channels * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, *dense, nn.Linear(4096, CLASSES))


def vit_b16() -> nn.Module:
    """Dosovitskiy et al. 2021: 12 blocks of width 768 over patches of 16x16 pixels."""
    width = 768
    blocks: list[nn.Module] = []
    for _ in range(12):
        attend = nn.Sequential(nn.LayerNorm(width), _Attention(width, 12))
        dense = (nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        blocks += [
            _Residual(attend, nn.Identity()),
            _Residual(nn.Sequential(nn.LayerNorm(width), *dense), nn.Identity()),
        ]
    return nn.Sequential(
        _Tokens(width, 16), *blocks, nn.LayerNorm(width), _First(), nn.Linear(width, CLASSES)
    )


def _convolution(
    channels: int, wide: int, size: int, stride: int, *, groups: int = 1, is_last: bool = False
) -> Iterator[nn.Module]:
    yield nn.Conv2d(channels, wide, size, stride, size // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(wide)
    if not is_last:
        yield nn.ReLU()


def _bottleneck(channels: int, width: int, stride: int) -> nn.Module:
    body = nn.Sequential(
        *_convolution(channels, width, 1, 1),
        *_convolution(width, width, 3, stride),
        *_convolution(width, 4 * width, 1, 1, is_last=True),
    )
    if stride == 1 and channels == 4 * width:
        return nn.Sequential(_Residual(body, nn.Identity()), nn.ReLU())
    projection = nn.Sequential(*_convolution(channels, 4 * width, 1, stride, is_last=True))
    return nn.Sequential(_Residual(body, projection), nn.ReLU())


def _inverted(channels: int, wide: int, expansion: int, stride: int) -> nn.Module:
    inner = channels * expansion
    body = nn.Sequential(
        *(_convolution(channels, inner, 1, 1) if expansion > 1 else ()),
        *_convolution(inner, inner, 3, stride, groups=inner),
        *_convolution(inner, wide, 1, 1, is_last=True),
    )
    return _Residual(body, nn.Identity()) if stride == 1 and channels == wide else body


def _head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)


CLASSIFIERS = (
    Classifier("mobilenet-v2", "MobileNetV2", mobilenet_v2, 3_504_872, 0.301),
    Classifier("resnet-50", "ResNet-50", resnet50, 25_557_032, 4.089),
    Classifier("vgg-16", "VGG-16", vgg16, 138_357_544, 15.470),
    Classifier("vit-b16", "ViT-B/16", vit_b16, 86_567_656, 17.564),
)
