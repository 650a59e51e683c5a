"""Several strategies one after the other: `boundary+ends`."""

from collections.abc import Sequence

from qsens.core.errors import SpecError
from qsens.core.interfaces import Decision, Strategy
from qsens.core.layer import Layer
from qsens.core.trial import Request, Trial


class Chain:
    """Asks each strategy for maps until it has none left, then the next; what one tried, none repeats."""

    def __init__(self, members: Sequence[Strategy]) -> None:
        if not members:
            raise SpecError("a chain of no strategies", "name one, or several joined by +")
        self.members = tuple(members)
        self.name = "+".join(member.name for member in members)

    @property
    def needs_budget(self) -> bool:
        """Whether one of them searches and nothing says yet within what."""
        return any(getattr(member, "needs_budget", False) for member in self.members)

    @property
    def keeps_to_budget(self) -> bool:
        """Whether a budget decides which map a run of these ends with."""
        return all(getattr(member, "keeps_to_budget", True) for member in self.members)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Request]:
        """The maps of the first strategy that is not finished."""
        return next(
            (list(proposed) for member in self.members if (proposed := member.propose(layers, trials))), []
        )

    def explain_search(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Decision]:
        """The decisions of those strategies that tell theirs."""
        tellers = [member for member in self.members if hasattr(member, "explain_search")]
        return [decision for member in tellers for decision in member.explain_search(layers, trials)]
