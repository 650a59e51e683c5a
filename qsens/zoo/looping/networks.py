"""The networks: a U-Net with attention that moves noise towards faces, a super-resolver that remembers."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qsens.zoo.looping.pictures import STATE_CHANNELS

_GROUPS = 8


class Residual(nn.Module):
    """Two convolutions around a skip; the time's embedding shifts what lies between them."""

    def __init__(self, taken: int, given: int, times: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(_GROUPS, taken), nn.Conv2d(taken, given, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(_GROUPS, given), nn.Conv2d(given, given, 3, padding=1)
        self.time = nn.Linear(times, given)
        self.skip = nn.Identity() if taken == given else nn.Conv2d(taken, given, 1)

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        """`values` (N, taken, H, W), `time` (N, times) to (N, given, H, W)."""
        inner = self.conv1(functional.silu(self.norm1(values))) + self.time(time)[:, :, None, None]
        return self.skip(values) + self.conv2(functional.silu(self.norm2(inner)))


class Attention(nn.Module):
    """Every place looks at every other, with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.ends = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.channels = channels

    def forward(self, values: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        query, key, value = self.ends(self.norm(values)).flatten(2).chunk(3, dim=1)
        weights = torch.softmax(query.transpose(1, 2) @ key / math.sqrt(self.channels), dim=-1)
        return values + self.out((value @ weights.transpose(1, 2)).reshape(values.shape))


class Denoiser(nn.Module):
    """Velocity of flow matching (noise less picture) at a time; pictures are -1..1.

    Two levels of `width` and twice as many channels, at half and a quarter of the picture's side, attention
    at the lower one.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        times, deep = 2 * width, 2 * width
        self.width = width
        self.time1, self.time2 = nn.Linear(width, times), nn.Linear(times, times)
        self.enter = nn.Conv2d(12, width, 3, padding=1)
        self.down1, self.down2 = Residual(width, width, times), Residual(width, width, times)
        self.shrink = nn.Conv2d(width, deep, 3, stride=2, padding=1)
        self.low1, self.attend1 = Residual(deep, deep, times), Attention(deep)
        self.low2, self.attend2 = Residual(deep, deep, times), Attention(deep)
        self.grow = nn.Conv2d(deep, width, 3, padding=1)
        self.up1, self.up2 = Residual(2 * width, width, times), Residual(2 * width, width, times)
        self.norm, self.leave = nn.GroupNorm(_GROUPS, width), nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        """`x` (N, 3, H, W), `t` (N,) from 0 to 1000, to the `velocity` (N, 3, H, W)."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10_000.0) / half))
        angles = t[:, None] * rates[None]
        time = functional.silu(self.time1(torch.cat([angles.sin(), angles.cos()], dim=1)))
        time = functional.silu(self.time2(time))
        first = self.down1(self.enter(functional.pixel_unshuffle(x, 2)), time)
        second = self.down2(first, time)
        low = self.attend1(self.low1(self.shrink(second), time))
        low = self.attend2(self.low2(low, time))
        high = self.grow(functional.interpolate(low, scale_factor=2.0, mode="nearest"))
        high = self.up1(torch.cat([high, second], dim=1), time)
        high = self.up2(torch.cat([high, first], dim=1), time)
        return {"velocity": functional.pixel_shuffle(self.leave(functional.silu(self.norm(high))), 2)}


class Upscaler(nn.Module):
    """Doubles the side of a frame with the help of a state that it hands on to the next one; values 0..1."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.look = nn.Conv2d(3 + STATE_CHANNELS, width, 3, padding=1)
        self.work = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))
        self.remember = nn.Conv2d(width, STATE_CHANNELS, 3, padding=1)
        self.show = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, frame: Tensor, state: Tensor) -> dict[str, Tensor]:
        """`frame` (N, 3, H, W), `state` (N, 24, H, W) to the `picture` (N, 3, 2H, 2W) and `next_state`."""
        values = functional.relu(self.look(torch.cat([frame, state], dim=1)))
        for first, second in zip(self.work[::2], self.work[1::2], strict=True):
            values = values + second(functional.relu(first(values)))
        detail = functional.pixel_shuffle(self.show(functional.relu(values)), 2)
        larger = functional.interpolate(frame, scale_factor=2.0, mode="bilinear")
        return {"picture": larger + detail, "next_state": torch.tanh(self.remember(functional.relu(values)))}


def denoiser() -> nn.Module:
    """The network of the demo `diffusion`, without its weights."""
    return Denoiser().eval()


def upscaler() -> nn.Module:
    """The network of the demo `video`, without its weights."""
    return Upscaler().eval()
