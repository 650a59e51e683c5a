"""What was left out of a set of clips, why, how often, and where: never silently."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_EXAMPLES = 3


class SkipReason(StrEnum):
    """Why a clip, a frame or a window was left out."""

    NO_FRAMES = "clips without frames"
    NO_AUDIO = "clips without audio.wav"
    SHORT_AUDIO = "clips with audio shorter than one window (0.2 s)"
    ONE_FRAME = "clips with one frame only, so without another as reference"
    MISSING_FRAMES = "frames missing inside clips"
    NO_WINDOW = "frames after the last window of sound"
    GAP = "five-frame windows with a missing frame"


@dataclass(frozen=True)
class Skip:
    """One reason: how many were left out, and the first few by name."""

    reason: SkipReason
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} {self.reason.value}: {', '.join(self.examples)}{more}"


@dataclass(frozen=True)
class SkipReport:
    """Everything left out, one entry a reason, in the order of `SkipReason`."""

    skips: tuple[Skip, ...] = ()

    def count(self, reason: SkipReason) -> int:
        """How many were left out for that reason."""
        return sum(skip.count for skip in self.skips if skip.reason is reason)

    def lines(self) -> tuple[str, ...]:
        """One line a reason; empty where nothing was left out."""
        return tuple(str(skip) for skip in self.skips)


class SkipCounter:
    """Collects skips while clips are read."""

    def __init__(self) -> None:
        self._found: dict[SkipReason, list[str]] = {}
        self._counts: dict[SkipReason, int] = {}

    def add(self, reason: SkipReason, examples: Iterable[str]) -> None:
        """Note one skip for each example; only the first few names are kept."""
        for example in examples:
            self._counts[reason] = self._counts.get(reason, 0) + 1
            kept = self._found.setdefault(reason, [])
            if len(kept) < _EXAMPLES:
                kept.append(example)

    def report(self) -> SkipReport:
        """What was noted so far."""
        return SkipReport(
            tuple(
                Skip(reason, self._counts[reason], tuple(self._found[reason]))
                for reason in SkipReason
                if reason in self._counts
            )
        )
