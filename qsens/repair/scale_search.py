"""Channel scales by the picture: channels and thresholds are moved in turn while the error falls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qsens.core.interfaces import Progress
from qsens.repair.channel_scales import Array
from qsens.repair.range_search import Descent
from qsens.repair.scale_candidates import LARGEST_EXPONENT, ChannelGroup

# Each try runs the generator over the samples once.
MOST_TRIES = 400
# Of the steps by which channels could be made finer before they reach their tensor's threshold.
_SHARES_OF_ROOM = (1.0, 0.5)
# Thresholds are moved by these factors, the wide ones first.
_FACTORS = (2**0.25, 2**0.125)
_TURNS = 3


@dataclass(frozen=True)
class FoundScales:
    """Exponents other than zero by layer, thresholds that differ, and the error with them."""

    exponents: Mapping[str, Array]
    amax: Mapping[str, float]
    error: float
    tries: int


def search_scales(
    start: Mapping[str, float],
    groups: Mapping[str, Sequence[ChannelGroup]],
    error_of: Callable[[Mapping[str, Array], Mapping[str, float]], float],
    progress: Progress,
    *,
    most_tries: int = MOST_TRIES,
) -> FoundScales:
    """Coordinate descent over the thresholds of tensors and the scales of the channels that they hold.

    `start` are thresholds by tensor, `groups` the channels that each holds, the tensors that matter most
    first; `error_of` is asked with exponents by layer and with thresholds that replace those of `start`.
    A channel of exponent e has steps, and a largest value, 2^e times those of its tensor.
    """
    widths: dict[str, int] = {}
    for group in (group for held in groups.values() for group in held):
        widths[group.layer] = max(widths.get(group.layer, 0), 1 + max(group.channels))

    def asked(changed: Mapping[str | ChannelGroup, float]) -> float:
        return error_of(*_told_apart(changed, widths))

    descent: Descent[str | ChannelGroup, float] = Descent(
        asked, progress, "repair: channel scales by the picture", most_tries
    )
    for _ in descent.passes():
        for tensor, held in groups.items():
            _settle(descent, tensor, start[tensor], held)
    exponents, amax = _told_apart(descent.changed, widths)
    return FoundScales(exponents, amax, descent.error, descent.tries)


def _told_apart(
    changed: Mapping[str | ChannelGroup, float], widths: Mapping[str, int]
) -> tuple[dict[str, Array], dict[str, float]]:
    exponents: dict[str, Array] = {}
    amax: dict[str, float] = {}
    for key, value in changed.items():
        if isinstance(key, str):
            amax[key] = value
        elif value:
            of_layer = exponents.setdefault(key.layer, np.zeros(widths[key.layer], np.int8))
            of_layer[list(key.channels)] = value
    return exponents, amax


def _settle(
    descent: Descent[str | ChannelGroup, float], tensor: str, own: float, held: Sequence[ChannelGroup]
) -> None:
    """Move the channels of a tensor and its threshold in turn, until the channels stay."""
    for _ in range(_TURNS):
        now = descent.changed.get(tensor, own)
        has_moved = _move_channels(descent, held, now)
        for factor in _FACTORS:
            now = descent.changed.get(tensor, own)
            smaller, larger = ([now * factor ** (sign * step) for step in range(1, 17)] for sign in (-1, 1))
            descent.follow_either(tensor, smaller, larger)
        if not has_moved:
            break


def _move_channels(
    descent: Descent[str | ChannelGroup, float], held: Sequence[ChannelGroup], amax: float
) -> bool:
    """Whether any group wanted to move: first all of a layer as far as they have room, then each alone."""
    has_moved = False
    for layer in dict.fromkeys(group.layer for group in held):
        of_layer = [group for group in held if group.layer == layer]
        if not any(descent.changed.get(group) for group in of_layer):
            has_moved |= any(
                descent.attempt({group: -round(share * group.room(amax)) for group in of_layer})
                for share in _SHARES_OF_ROOM
            )
    for group in held:
        now = int(descent.changed.get(group, 0))
        finer = range(now - 1, -LARGEST_EXPONENT - 1, -1)
        coarser = range(now + 1, LARGEST_EXPONENT + 1)
        has_moved |= descent.follow_either(group, finer, coarser)
    return has_moved
