"""Loops: pictures made by several calls of one network. NumPy is enough, so that bundles play them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence, Tuple

import numpy as np

from qsens.device.errors import DeviceError

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]
    Call = Callable[[Feed], Mapping[str, Array]]

Sides = Tuple[Optional[int], ...]


@dataclass(frozen=True)
class Port:
    """One input of the network: `shape` leaves out the batch axis where `is_batched`; `None` is a free side.

    `start` is the shape that was stated for its first value, likewise without the batch axis.
    """

    name: str
    dtype: str
    shape: Sides
    is_batched: bool
    start: Sides

    def zeros(self, batch: int) -> Array | None:
        """Zeros of the stated shape; `None` where a side of it is free."""
        if None in self.start:
            return None
        sides = tuple(side for side in self.start if side is not None)
        return np.zeros(((batch,) if self.is_batched else ()) + sides, self.dtype)

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape, batch axis included, fits the input."""
        own = tuple(shape)[1:] if self.is_batched else tuple(shape)
        return len(own) == len(self.shape) and all(
            wanted in (None, side) for wanted, side in zip(self.shape, own)
        )


@dataclass(frozen=True)
class Network:
    """The ends of the network that a loop calls, and the samples that share one call."""

    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    batch: int = 1

    def port(self, name: str, what: str) -> Port:
        """The input of that name. Raises `DeviceError`, in which `what` says what it is for."""
        names = [port.name for port in self.inputs]
        if name not in names:
            raise DeviceError(
                f"the network has no input {name!r}, which is {what}", f"its inputs are {', '.join(names)}"
            )
        return self.inputs[names.index(name)]

    def output(self, name: str, what: str) -> str:
        """The name itself. Raises `DeviceError` where there is no such output."""
        if name not in self.outputs:
            raise DeviceError(
                f"the network has no output {name!r}, which is {what}",
                f"its outputs are {', '.join(self.outputs)}",
            )
        return name


class Once:
    """One call makes one picture."""

    name = "once"
    fed: Sequence[str] = ()
    started: Sequence[str] = ()
    plays_clips = False
    length = 0

    def play(self, call: Call, feeds: Sequence[Feed]) -> list[Mapping[str, Array]]:
        """The outputs of each feed."""
        return [call(feed) for feed in feeds]


class Recurrent:
    """States that each frame hands on to the next one of its clip.

    `states` are outputs by the input that takes them at the next frame. They start as zeros, or as what the
    first frame's sample holds under the input's name. `length` are the most frames between two starts, 0 for
    whole clips.

    Raises:
        DeviceError: for names that the network does not have, or a start of unknown shape.
    """

    name = "recurrent"
    started: Sequence[str] = ()
    plays_clips = True

    def __init__(self, states: Mapping[str, str], network: Network, length: int = 0) -> None:
        if not isinstance(states, Mapping) or not states:
            raise DeviceError(
                f"the loop's states are {states!r}",
                "name the input that takes each output at the next frame: --state r1i=r1o",
            )
        _check_distinct(states)
        if isinstance(length, bool) or length < 0:
            raise DeviceError(f"the loop's length is {length}", "give a number of frames, 0 for whole clips")
        self.states = {
            network.port(source, "a state's").name: network.output(made, f"the next value of {source!r}")
            for source, made in states.items()
        }
        self.length = int(length)
        self.fed: Sequence[str] = tuple(self.states)
        self._ports = {name: network.port(name, "a state's") for name in self.states}
        self._starts = {name: port.zeros(network.batch) for name, port in self._ports.items()}

    def play(self, call: Call, feeds: Sequence[Feed]) -> list[Mapping[str, Array]]:
        """The outputs of each frame, which are all of one clip and in order.

        Raises:
            DeviceError: for states that do not fit their inputs, grow, or are no longer finite.
        """
        state = {name: self._start(name, feeds[0]) for name in self.states}
        made: list[Mapping[str, Array]] = []
        for feed in feeds:
            outputs = call({**feed, **state})
            made.append(outputs)
            before = state if len(made) > 1 else None
            state = {
                name: self._checked(name, outputs[output], before, len(made))
                for name, output in self.states.items()
            }
        return made

    def _start(self, name: str, first: Feed) -> Array:
        start = first.get(name, self._starts[name])
        if start is None:
            sides = "x".join("?" if side is None else str(side) for side in self._ports[name].start)
            raise DeviceError(
                f"the state {name!r} has free sides ({sides}), so that its start is of no known shape",
                f"state it with --input-shape {name}=SHAPE, or give samples that hold it and a rule for it "
                f"([inputs.{name}] in the file of --spec)",
            )
        return start

    def _checked(self, name: str, value: Array, before: dict[str, Array] | None, calls: int) -> Array:
        port, output = self._ports[name], self.states[name]
        if str(value.dtype) != port.dtype or not port.takes(value.shape):
            raise DeviceError(
                f"the state {output!r} is {_of(value)}, and the input {name!r} that takes it is "
                f"{port.dtype} {_sides(port)}",
                "pair the states as the network does: --state INPUT=OUTPUT for each",
            )
        # A first value may be one for all places: it is broadcast.
        if before is not None and before[name].shape != value.shape:
            raise DeviceError(
                f"the state {output!r} grows: {_of(before[name])} after call {calls - 1} of the loop, "
                f"{_of(value)} after call {calls}",
                "an engine takes one size: export the network with a state of fixed length",
            )
        refuse_not_finite(f"the state {output!r}", value, calls)
        return value


def _check_distinct(states: Mapping[str, str]) -> None:
    outputs = list(states.values())
    twice = next((name for name in outputs if outputs.count(name) > 1), None)
    if twice is not None:
        takers = ", ".join(source for source, made in states.items() if made == twice)
        raise DeviceError(f"the output {twice!r} is the state of several inputs: {takers}", "name each once")


def refuse_not_finite(what: str, value: Array, calls: int) -> None:
    """Raise `DeviceError`, with the number of the call, where a value that is carried on is broken."""
    broken = int(np.count_nonzero(~np.isfinite(value))) if value.dtype.kind == "f" else 0
    if broken:
        raise DeviceError(
            f"{what} holds {broken} NaN or infinite values after call {calls} of the loop",
            "its values leave what the precision can hold: keep the layers before it in FP32 (--pin)",
        )


def _of(value: Array) -> str:
    return f"{value.dtype} {'x'.join(map(str, value.shape)) or 'scalar'}"


def _sides(port: Port) -> str:
    sides = (("batch",) if port.is_batched else ()) + port.shape
    return "x".join("?" if side is None else str(side) for side in sides) or "scalar"
