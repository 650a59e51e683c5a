"""The loop of diffusion and flow matching: one network, called step by step from noise to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from qsens.device.errors import DeviceError
from qsens.device.loops import Network, refuse_not_finite

if TYPE_CHECKING:
    from qsens.device.loops import Array, Call, Feed

METHODS = ("ddim", "euler")
# Where none are stated.
METHOD = "ddim"
STEPS = 20
SCHEDULES = ("linear", "scaled-linear", "cosine")
_MOST_STEPS = 10_000
# Nichol and Dhariwal 2021, equation 17, and the largest beta that they allow.
_COSINE_OFFSET, _LARGEST_BETA = 0.008, 0.999


class Sampler:
    """Makes a picture of the noise that a sample gives, in `steps` calls; other inputs are handed on.

    `noisy` is the input that takes the picture so far, and is given noise by samples; `time` the input that
    takes the time; `output` what the network predicts. The picture comes out under the name of `output`.

    `ddim` (Song et al. 2021, equation 12 without its noise): the network predicts the noise, and times are
    `steps` whole numbers spread evenly from `train_steps` - 1 down to 0. `schedule` and `betas` are those of
    the training: betas grow linearly, their roots do (`scaled-linear`), or `cosine` (Nichol and Dhariwal
    2021), which has no use for `betas`.

    `euler` (Lipman et al. 2023, Liu et al. 2023): the network predicts the velocity, which is noise less
    picture, at (1 - t) picture + t noise; t goes from 1 to 0 in equal steps and is fed times `train_steps`.

    Raises:
        DeviceError: for names that the network does not have, or another method or schedule.
    """

    name = "sampler"
    plays_clips = False
    length = 0

    def __init__(  # noqa: PLR0913 - the options of a loop, by keyword
        self,
        noisy: str,
        time: str,
        output: str,
        network: Network,
        method: str = METHOD,
        steps: int = STEPS,
        train_steps: int = 1000,
        schedule: str = "linear",
        betas: Sequence[float] = (1e-4, 0.02),
    ) -> None:
        self.noisy = network.port(noisy, "the one that takes the noisy picture").name
        self._time = network.port(time, "the one that takes the time")
        self.output = network.output(output, "what the network predicts")
        if method not in METHODS:
            raise DeviceError(f"no sampler does {method!r}", f"method is {' or '.join(METHODS)}")
        if not 1 <= steps <= min(_MOST_STEPS, train_steps):
            raise DeviceError(
                f"the sampler is to take {steps} steps of the {train_steps} that the network was trained on",
                f"give a number from 1 to {min(_MOST_STEPS, train_steps)}",
            )
        self._is_ddim = method == "ddim"
        times = (
            np.linspace(train_steps - 1, 0, steps).round() if self._is_ddim else _times(steps, train_steps)
        )
        self._times = [float(one) for one in times]
        self._levels = (
            _alphas(schedule, betas, train_steps, self._times)
            if self._is_ddim
            else np.linspace(1.0, 0.0, steps + 1)
        )
        self.fed: Sequence[str] = (self.noisy, self._time.name)
        self.started: Sequence[str] = (self.noisy,)

    def play(self, call: Call, feeds: Sequence[Feed]) -> list[Mapping[str, Array]]:
        """The outputs of the last call for each feed, the picture in place of the prediction.

        Raises:
            DeviceError: for a prediction of another shape than the picture, or values that are not finite.
        """
        return [self._played(call, feed) for feed in feeds]

    def _played(self, call: Call, feed: Feed) -> Mapping[str, Array]:
        picture = feed[self.noisy]
        outputs: Mapping[str, Array] = {}
        for place, time in enumerate(self._times):
            outputs = call({**feed, self.noisy: picture, self._time.name: self._at(time, len(picture))})
            predicted = outputs[self.output]
            if predicted.shape != picture.shape:
                raise DeviceError(
                    f"the prediction {self.output!r} is {predicted.shape}, the noisy picture {picture.shape}",
                    "name the output that is the noise, or the velocity, of the whole picture",
                )
            levels = float(self._levels[place]), float(self._levels[place + 1])
            step = _ddim if self._is_ddim else _euler
            picture = step(picture, predicted, levels).astype(picture.dtype)
            refuse_not_finite("the picture so far", picture, place + 1)
        return {**outputs, self.output: picture}

    def _at(self, time: float, batch: int) -> Array:
        sides = tuple(1 if side is None else side for side in self._time.shape)
        return np.full(((batch,) if self._time.is_batched else ()) + sides, time, self._time.dtype)


def _ddim(picture: Array, noise: Array, levels: tuple[float, float]) -> Array:
    now, after = levels
    clean = (picture - np.sqrt(1 - now) * noise) / np.sqrt(now)
    return np.asarray(np.sqrt(after) * clean + np.sqrt(1 - after) * noise)


def _euler(picture: Array, velocity: Array, levels: tuple[float, float]) -> Array:
    now, after = levels
    return np.asarray(picture + (after - now) * velocity)


def _times(steps: int, train_steps: int) -> Array:
    return np.linspace(1.0, 0.0, steps + 1)[:-1] * train_steps


def _alphas(schedule: str, betas: Sequence[float], train_steps: int, times: Sequence[float]) -> Array:
    """The cumulative products of 1 - beta at these times, and 1 after the last of them."""
    if schedule not in SCHEDULES:
        raise DeviceError(f"no schedule is called {schedule!r}", f"schedule is {', '.join(SCHEDULES)}")
    if schedule == "cosine":
        places = (np.arange(train_steps + 1) / train_steps + _COSINE_OFFSET) / (1 + _COSINE_OFFSET)
        curve = np.cos(places * np.pi / 2) ** 2
        steps = np.minimum(1 - curve[1:] / curve[:-1], _LARGEST_BETA)
    else:
        if len(betas) != 2 or not 0 < betas[0] <= betas[1] < 1:
            raise DeviceError(
                f"the betas are {list(betas)}", "give the first and the last one, 0 < first <= last < 1"
            )
        power = 2 if schedule == "scaled-linear" else 1
        steps = np.linspace(betas[0] ** (1 / power), betas[1] ** (1 / power), train_steps) ** power
    alphas = np.cumprod(1 - steps)
    return np.append(alphas[np.asarray(times, int)], 1.0)
