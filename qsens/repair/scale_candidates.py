"""Channels that may be scaled, tensor by tensor: those first whose quantization damages pictures most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import Observer
from qsens.calibration.ranges import Ranges
from qsens.core.interfaces import SampleSet
from qsens.engines.lowering.exact import FP16_MAXIMUM, OVERFLOW_MARGIN
from qsens.engines.lowering.plan import LoweringPlan, Placement
from qsens.repair.channel_scales import CHANNEL_AXIS, Array, ScalableLayer, scalable_layers
from qsens.repair.picture_error import PictureError

# 2^3: eight times finer or coarser steps than the tensor's.
LARGEST_EXPONENT = 3
# Channels of more are scaled together with those of a similar size.
MOST_GROUPS = 16
# Tensors whose readers alone in INT8 leave a smaller share of the whole error are not worth the tries.
LEAST_DAMAGE = 0.02
_LARGEST_VALUE = FP16_MAXIMUM / OVERFLOW_MARGIN / 2**LARGEST_EXPONENT


@dataclass(frozen=True)
class ChannelGroup:
    """Output channels of a layer that are scaled alike; `largest` is the largest value of any of them."""

    layer: str
    channels: tuple[int, ...]
    largest: float

    def room(self, amax: float) -> float:
        """The doublings that its values take before one exceeds `amax`, at most `LARGEST_EXPONENT`."""
        doublings = np.log2(amax / self.largest) if self.largest > 0 else 0.0
        return float(np.clip(doublings, 0, LARGEST_EXPONENT))


def scaled_tensors(
    plan: LoweringPlan, ranges: Ranges, placement: Placement
) -> dict[str, tuple[ScalableLayer, ...]]:
    """The quantized tensors that hold channels which may be scaled, with the layers that make these.

    Layers whose values could come near FP16's limit by being scaled are left out.
    """
    dense = plan.dense if placement is Placement.DENSE else {}
    quantized = plan.quantized_tensors(placement)
    found: dict[str, list[ScalableLayer]] = {}
    for entry in scalable_layers(plan):
        extremes = ranges[entry.result]
        if max(-extremes.minimum, extremes.maximum) > _LARGEST_VALUE:
            continue
        read = [plan.operations[reader.layer].data for reader in entry.readers]
        holding = [dense.get(name, name) for name in (entry.result, *read)]
        for tensor in dict.fromkeys(name for name in holding if name in quantized):
            found.setdefault(tensor, []).append(entry)
    return {tensor: tuple(entries) for tensor, entries in found.items()}


def channels_to_scale(
    plan: LoweringPlan,
    ranges: Ranges,
    measure: PictureError,
    samples: SampleSet,
    *,
    threads: int,
) -> dict[str, tuple[ChannelGroup, ...]]:
    """Groups of channels by quantized tensor, those first that damage the pictures of `measure` most.

    Of each layer the channels of the largest values on `samples` come first.
    """
    placement = measure.options.placement
    makers = scaled_tensors(plan, ranges, placement)
    least = LEAST_DAMAGE * measure(plan, ranges)
    damage = {tensor: measure.of_layers(plan, ranges, _readers(plan, tensor, placement)) for tensor in makers}
    worth = sorted((tensor for tensor in makers if damage[tensor] > least), key=lambda name: -damage[name])
    results = dict.fromkeys(entry.result for tensor in worth for entry in makers[tensor])
    largest = _largest_values(Observer(plan.graph, tuple(results), placement, threads), samples)
    return {
        tensor: tuple(
            group for entry in makers[tensor] for group in channel_groups(entry.layer, largest[entry.result])
        )
        for tensor in worth
    }


def channel_groups(layer: str, magnitudes: Array) -> tuple[ChannelGroup, ...]:
    """At most `MOST_GROUPS` groups of a layer's channels, those of the largest `magnitudes` first."""
    order = np.argsort(-magnitudes, kind="stable")
    parts = np.array_split(order, min(MOST_GROUPS, len(order)))
    return tuple(ChannelGroup(layer, tuple(part.tolist()), float(magnitudes[part[0]])) for part in parts)


def _readers(plan: LoweringPlan, tensor: str, placement: Placement) -> Sequence[str]:
    dense: Mapping[str, str] = plan.dense if placement is Placement.DENSE else {}
    return [
        name
        for name, operation in plan.operations.items()
        if dense.get(operation.data, operation.data) == tensor
    ]


def _largest_values(observer: Observer, samples: SampleSet) -> dict[str, Array]:
    """The largest magnitude of each channel, by tensor."""
    found: dict[str, Array] = {}
    for values in observer.values(observer.tensors, InputCache(samples, observer.graph, 1)):
        for name in observer.tensors:
            channels = np.moveaxis(np.abs(values[name]), CHANNEL_AXIS, 0)
            largest = channels.reshape(len(channels), -1).max(axis=1)
            found[name] = np.maximum(found.get(name, largest), largest)
    return found
