"""Familiar alterations of pictures by name (`jpeg:95`, `noise:1`): what scores and budgets are compared with.

One vocabulary for `--yardsticks`, `--budget`, `--guard` and `--delivery`. What they do to pixels is in
`qsens.scoring.alterations`; here are names alone, so that choosing needs no tensors.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from qsens.core.errors import SpecError, name_hint
from qsens.core.schema import shown

# Scored in every run that says nothing else: what nobody sees (98, 95), what many see (75), and noise of one
# level, which tells whether a score hears more than an eye sees.
DEFAULT_YARDSTICKS = ("jpeg:98", "jpeg:95", "jpeg:75", "noise:1")
NO_YARDSTICKS = "none"
# From this quality on colours keep their full resolution (4:4:4); below it they have half (4:2:0).
FULL_COLOUR_FROM = 95


@dataclass(frozen=True)
class Kind:
    """A kind of alteration: the `amount`s that it takes, what they are, and its name for people."""

    least: float
    most: float
    amount: str
    title: str
    is_whole: bool = False


KINDS = {
    "jpeg": Kind(1, 100, "quality, a whole number from 1 to 100", "JPEG {0}", is_whole=True),
    "noise": Kind(0.1, 64, "standard deviation in grey levels, 0.1 to 64", "noise of {0} level{1}"),
    "blur": Kind(0.1, 16, "standard deviation in pixels, 0.1 to 16", "blur of {0} pixel{1}"),
    "brightness": Kind(0.5, 1.5, "factor, 0.5 to 1.5", "brightness x{0}"),
}


@dataclass(frozen=True)
class Alteration:
    """One alteration: its kind, a key of `KINDS`, and how much of it."""

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> "Alteration":
        """Read `jpeg:95`, `noise:1`, `blur:0.5` or `brightness:0.99`.

        Raises:
            SpecError: for another name or amount, with all there are.
        """
        name, separator, number = text.strip().partition(":")
        kind = KINDS.get(name)
        amount = _number(number)
        if kind is None or not separator:
            hint = f"{name_hint(name, KINDS, '')} There are: {alterations_text()}".lstrip()
            raise SpecError(f"no alteration {shown(text)}", hint)
        if amount is None or not kind.least <= amount <= kind.most or (kind.is_whole and amount % 1):
            raise SpecError(
                f"{shown(text)}: {name} takes a {kind.amount}", f"there are: {alterations_text()}"
            )
        return cls(name, amount)

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"

    @property
    def title(self) -> str:
        """The name for people.

        >>> [Alteration.parse(text).title for text in ("jpeg:95", "noise:1", "blur:0.5", "brightness:0.99")]
        ['JPEG 95', 'noise of 1 level', 'blur of 0.5 pixels', 'brightness x0.99']
        """
        return KINDS[self.kind].title.format(f"{self.amount:g}", "" if self.amount == 1 else "s")


def alterations_text() -> str:
    """Every kind with what its amount is, for messages and help."""
    return "; ".join(f"{name}:X ({kind.amount})" for name, kind in KINDS.items())


def parse_alterations(texts: Iterable[str]) -> tuple[Alteration, ...]:
    """Each alteration once, in order. Raises `SpecError` as `Alteration.parse`."""
    return tuple(dict.fromkeys(map(Alteration.parse, texts)))


def title_of(alteration: str) -> str:
    """The name for people of what a record calls `jpeg:95`; that text where a later version wrote it."""
    try:
        return Alteration.parse(alteration).title
    except SpecError:
        return alteration


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None
