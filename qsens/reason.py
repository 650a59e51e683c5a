"""A reason for the precision of a layer, and what kinds there are."""

from dataclasses import dataclass
from enum import StrEnum


class ReasonKind(StrEnum):
    """What a reason rests on."""

    NOT_AS_ASKED = "not-as-asked"
    PINNED = "pinned"
    OVERFLOW = "overflow"
    FAILED = "failed"
    ADDED = "added"
    ALONE = "alone"
    ALSO_WITHIN = "also-within"
    ALL_BUT = "all-but"
    SUBSET = "subset"
    COST = "cost"
    BEHIND = "behind"
    TOGETHER = "together"
    UNTRIED = "untried"
    INT8 = "int8"


@dataclass(frozen=True)
class Reason:
    """Why a layer has its precision: `str` gives a sentence for people, `trials` the trials that it names.

    `text` may hold for other layers too; `detail` is what to add of this layer only, or empty.
    """

    text: str
    trials: tuple[int, ...]
    kind: ReasonKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.detail}" if self.detail else self.text
