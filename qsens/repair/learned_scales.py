"""Channel scales and thresholds, learned together by gradients of the picture's error."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from qsens.calibration.ranges import Ranges
from qsens.calibration.thresholds import with_half_scale
from qsens.core.interfaces import Progress
from qsens.core.layer import Layer, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.plan import LoweringPlan, PlacedMap
from qsens.repair.channel_scales import (
    LARGEST_EXPONENT,
    LEARNING_STEPS,
    Array,
    ScalableLayer,
    ScaleLayout,
)
from qsens.repair.gradient_graph import GradientGraph, rounded
from qsens.repair.picture_error import PictureError
from qsens.repair.tries import Tries

# After so many it goes on where it was stopped.
STEPS_AT_ONCE = 10
# Of the binary logarithms of thresholds and of scales, at the first step.
THRESHOLD_RATE, SCALE_RATE = 0.03, 0.05
# Of the means of gradients and of their squares (Kingma and Ba 2015, "Adam", algorithm 1).
DECAYS = (0.9, 0.99)
# Pictures that are equal have no logarithm of their error.
_LEAST_ERROR = 1e-12


@dataclass(frozen=True, eq=False)
class LearnedScales:
    """Exponents, int8 by layer, where any is not 0; thresholds by tensor."""

    exponents: Mapping[str, Array]
    amax: Mapping[str, float]


def learn_scales(
    plan: LoweringPlan,
    ranges: Ranges,
    entries: Sequence[ScalableLayer],
    measure: PictureError,
    *,
    tries: Tries,
    progress: Progress,
) -> LearnedScales:
    """Scales of the layers in `entries` and thresholds of all tensors, for the pictures of `measure`.

    Every other step has INT8 everywhere, the steps between have it up to a layer that is drawn, by its
    multiply-accumulates, and FP32 after it: scales serve every map. The loss is the logarithm of the error,
    so that maps of small and of large errors count alike. Exponents are whole numbers throughout.

    Raises:
        BuildError: naming a node that has no form in torch.
    """
    learning = _Learning(plan, ranges, entries, measure)
    state = learning.start()
    for done in range(0, LEARNING_STEPS, STEPS_AT_ONCE):
        progress(done, LEARNING_STEPS, "repair: channel scales learned")
        state = tries.outcome(["scales", done], partial(learning.advanced, state, done))
    return learning.result(np.array(state["values"]))


class _Learning:
    """One vector of values: logarithms of thresholds, then exponents; a state holds it and Adam's means."""

    def __init__(
        self, plan: LoweringPlan, ranges: Ranges, entries: Sequence[ScalableLayer], measure: PictureError
    ) -> None:
        self.plan = plan
        self.ranges = ranges
        self.entries = entries
        self.measure = measure
        self.layout = ScaleLayout.of(plan, entries)
        self.graph = GradientGraph(plan, measure.options, self.layout)
        self.tensors = plan.quantized_tensors(measure.options.placement)
        self._feeds = list(zip(measure.inputs.singly(), measure.targets, strict=True))
        self._variances = [
            float(np.var(np.concatenate([target.reshape(-1) for target in pictures])))
            for pictures in zip(*measure.targets, strict=True)
        ]
        counts = (len(self.tensors), self.layout.size - 1)
        self._rates = np.repeat((THRESHOLD_RATE, SCALE_RATE), counts)
        self._limits = np.repeat((math.inf, float(LARGEST_EXPONENT)), counts)

    def start(self) -> Mapping[str, list[float]]:
        """The thresholds as they are, and no scales."""
        amax = [math.log2(self.ranges[name].amax) for name in self.tensors]
        nothing = [0.0] * len(self._rates)
        return {"values": [*amax, *nothing[len(amax) :]], "means": nothing, "squares": nothing}

    def advanced(self, state: Mapping[str, list[float]], done: int) -> Mapping[str, list[float]]:
        """The state after a few more steps."""
        values, means, squares = (np.array(state[name]) for name in ("values", "means", "squares"))
        first, second = DECAYS
        with _threads(self.measure.backend.threads):
            for step in range(done, min(done + STEPS_AT_ONCE, LEARNING_STEPS)):
                gradient = self._gradient(values, step)
                means = first * means + (1 - first) * gradient
                squares = second * squares + (1 - second) * np.square(gradient)
                towards = means / (1 - first ** (step + 1))
                towards /= np.sqrt(squares / (1 - second ** (step + 1))) + 1e-8
                falling = 0.5 * (1 + math.cos(math.pi * step / LEARNING_STEPS))
                values = np.clip(values - self._rates * falling * towards, -self._limits, self._limits)
        return {"values": values.tolist(), "means": means.tolist(), "squares": squares.tolist()}

    def result(self, values: Array) -> LearnedScales:
        """The thresholds and exponents that the values stand for."""
        logarithms, exponents = np.split(values, [len(self.tensors)])
        whole = np.concatenate([[0], np.rint(exponents)]).astype(np.int8)
        first = self.layout.first
        by_layer = {entry.layer: whole[first[entry.layer] :][: entry.channels] for entry in self.entries}
        amax = np.exp2(logarithms).tolist()
        return LearnedScales(
            {layer: values for layer, values in by_layer.items() if values.any()},
            {name: with_half_scale(value) for name, value in zip(self.tensors, amax, strict=True)},
        )

    def _gradient(self, values: Array, step: int) -> Array:
        draw = np.random.default_rng(step)
        leaf = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        thresholds = dict(zip(self.tensors, leaf, strict=False))
        exponents = torch.cat([torch.zeros(1), rounded(leaf[len(self.tensors) :])])
        placed = PlacedMap(
            self.plan,
            _drawn_map(self.plan.graph.layers, draw if step % 2 else None),
            self.ranges,
            self.measure.options,
        )
        feed, targets = self._feeds[int(draw.integers(len(self._feeds)))]
        found = self.graph.run(feed, placed, thresholds, exponents)
        errors = [
            (found[name] - torch.from_numpy(target)).square().mean() / variance
            for name, target, variance in zip(self.measure.outputs, targets, self._variances, strict=True)
        ]
        torch.log(torch.stack(errors).max() + _LEAST_ERROR).backward()
        # One NaN would stay in the means of gradients to the end.
        gradient: Array = leaf.grad.numpy().astype(np.float64)
        return np.nan_to_num(gradient, posinf=0.0, neginf=0.0)


def _drawn_map(layers: Sequence[Layer], draw: np.random.Generator | None) -> PrecisionMap:
    """INT8 in every layer that allows it, or up to one that is drawn."""
    everywhere = uniform_map(layers, Precision.INT8)
    if draw is None:
        return everywhere
    ordered = sorted(layers, key=lambda layer: layer.index)
    macs = np.cumsum([layer.macs for layer in ordered])
    count = 1 + int(np.searchsorted(macs, draw.uniform(0, macs[-1])))
    wished = everywhere.assignment(layer.name for layer in ordered)
    return PrecisionMap.over(
        {
            layer.name: wished[layer.name] if place < count else Precision.FP32
            for place, layer in enumerate(ordered)
        }
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads in torch, 0 for as many as it has, and then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
