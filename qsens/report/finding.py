"""One thing that a reader must know."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How loud a finding is shown."""

    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing to know; `title` is a few words, `text` a sentence or two with the numbers."""

    severity: Severity
    title: str
    text: str
