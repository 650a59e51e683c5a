"""The contract of loops: how one picture or clip is made from calls of the swept network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
    Feed = Mapping[str, Array]
    Call = Callable[[Feed], Mapping[str, Array]]


class Loop(Protocol):
    """Makes pictures from calls of the swept network.

    `fed` are the network's inputs whose values the loop makes or changes between calls: samples hold those of
    them that have a rule. `started` are those whose first value every sample gives. A loop that `plays_clips`
    is handed the frames of one clip in order, at most `length` of them (0: all). Any other is handed samples
    that do not depend on each other.
    """

    fed: Sequence[str] = ()
    started: Sequence[str] = ()
    plays_clips: bool = False
    length: int = 0

    @abstractmethod
    def play(self, call: Call, feeds: Sequence[Feed]) -> Sequence[Mapping[str, Array]]:
        """One mapping of arrays by name for each feed, in order: the pictures and what else there is to see.

        `feeds` are the inputs that samples hold, with their batch axes: one frame each where the loop plays
        clips, else one or several samples. `call` runs the network once on a feed of all its inputs and
        returns all its outputs. Whatever is random must depend on the feeds alone.
        """
        ...
