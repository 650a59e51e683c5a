"""The steps of `guided` in their order: units screened, sets scored, and the reason for each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

from qsens.search.budget_use import BudgetShare
from qsens.search.guided.boundaries import screen_boundaries
from qsens.search.guided.knowledge import NOTHING, ScoresSpentError, SearchKnowledge, percent, trials_of
from qsens.search.guided.next_set import Candidate, Question, Units, are_alike, indicator, next_candidate
from qsens.search.guided.start import SearchStart
from qsens.search.knapsack import Items, least_damage

# Units whose pairs are screened: those that use most of the budget and could still be in the map.
_PAIRED_UNITS = 3
_LEAST_PAIRED = 0.05
# A map that is likelier than this to keep to the budget is scored without a screen.
_LIKELY = 0.5
# A screened map is given up where the chance that it keeps to the budget after all is smaller.
DISCARD = 0.05
# What a saving is a share of, for people.
_EVERYTHING = "what INT8 everywhere saves"
# A unit that uses so many times the budget alone is in no map.
_HOPELESS = 4.0
# A unit that uses less of the budget alone is free to run in either precision.
_FREE = 0.05
# Screened sets whose neighbours are looked at, and the least part of the budget that INT8 is sought for.
_MOST_NEAR = 3
_LEAST_ROOM = 0.1


@dataclass(frozen=True)
class SearchGoal:
    """The goal of a search: the largest saving within the budget.

    With `least_saving` (0 to 1) it is the least use of the budget that saves that much. `front` more maps are
    scored for other savings. `explains` asks for a trial that says why each other unit is not in INT8.
    """

    least_saving: float | None = None
    front: int = 0
    explains: bool = True

    @property
    def measure(self) -> str:
        """The measure that uses are a share of, for people."""
        return "the budget" if self.least_saving is None else "the damage of INT8 everywhere"


@dataclass(eq=False)
class Search:
    """One run through a search, over sets of which none and all units in INT8 are scored."""

    known: SearchKnowledge
    goal: SearchGoal
    start: SearchStart | None = None
    best: Units = NOTHING
    given_up: dict[Units, float] = field(default_factory=dict)
    alike: list[Units] = field(default_factory=list)

    def run(self) -> None:
        """Until no map is left that is worth a score."""
        known = self.known
        if self.goal.least_saving is not None:
            self.best = frozenset(known.maps.movable)
        told = {} if self.start is None else self._take_start(self.start)
        known.screen(frozenset([place]) for place in known.maps.movable if place not in told)
        known.learn_alone(told)
        self._note_alone()
        # A start says more of sets near the best one than boundaries and pairs do.
        if self.start is None:
            if self.goal.least_saving is None:
                screen_boundaries(known)
            self._screen_pairs()
        self._take_scored()
        ending = "Nothing else is worth a score"
        try:
            self._improve()
        except ScoresSpentError:
            ending = f"The search has had its {known.allowance.scores} full scores"
        self._score_front()
        self._note_end(ending)

    def _improve(self) -> None:
        self._refine()
        while self.goal.least_saving is None and self.goal.explains:
            if not self._try_one_more():
                break

    def _take_scored(self) -> None:
        """Compare what was scored where it was to be screened: a screen on all samples is a score."""
        known = self.known
        if self.goal.least_saving is not None:
            return
        # Sets have no order of their own, and a resumed search must take the same steps.
        for units in sorted(known.scored, key=lambda units: (-known.saving(units), sorted(units))):
            if known.full(units).share <= 1.0 and known.saving(units) > known.saving(self.best):
                self._compare(units)

    def _take_start(self, start: SearchStart) -> Mapping[int, BudgetShare]:
        """Score the map that the search starts from; where it is good, what the other run knew of units."""
        known, least = self.known, self.goal.least_saving
        known.score(start.units)
        known.replay.note(f"Started from the map that {start.run} chose", known.trial(start.units))
        if least is None or known.saving(start.units) >= least:
            self._compare(start.units)
        return start.alone if self.best == start.units else {}

    def _note_alone(self) -> None:
        known = self.known
        tried = [place for place in known.maps.movable if known.knows(frozenset([place]))]
        untried = len(known.maps.movable) - len(tried)
        if untried and self.start is not None:
            known.replay.note(f"What {untried} {known.word}s use alone is taken from {self.start.run}")
        if not tried:
            return
        beyond = [place for place in tried if known.alone[place] > 1.0]
        sets = [frozenset([place]) for place in (beyond or tried)]
        text = f"{len(tried)} {known.word}s were tried alone in INT8, beyond {self.goal.measure}: "
        known.replay.note(text + (known.names(beyond) if beyond else "none"), *trials_of(known, sets))

    def _note_end(self, ending: str) -> None:
        known = self.known
        if self.alike:
            ending = self._told_alike()
        use, saving = percent(known.full(self.best).share), percent(known.saving(self.best))
        text = f"{ending}: {saving} of {_EVERYTHING}, for {use} of {self.goal.measure}"
        known.replay.note(f"{text}{self._free_text()}", known.trial(self.best))

    def _free_text(self) -> str:
        """The number of units that may as well run in INT8 as in float."""
        known = self.known
        free = sum(known.alone[place] < _FREE for place in known.maps.movable)
        if not free:
            return ""
        noun = f"1 {known.word} is" if free == 1 else f"{free} {known.word}s are"
        each = f"less than {percent(_FREE)} of {self.goal.measure} alone"
        return f"; {noun} free in INT8 or {known.maps.float_precision.upper()}: {each}"

    def _screen_pairs(self) -> None:
        """Errors need not add: the pairs of the units that matter most tell how far they do."""
        known = self.known
        places = [place for place in known.candidates if _LEAST_PAIRED <= known.alone[place] <= 1.0]
        places.sort(key=lambda place: -known.alone[place])
        pairs = [frozenset(pair) for pair in combinations(sorted(places[:_PAIRED_UNITS]), 2)]
        if not pairs:
            return
        known.screen(pairs)
        pairs = [pair for pair in pairs if known.knows(pair)]
        if not pairs:
            return
        floor = known.full(NOTHING).share
        sums = [sum(known.alone[place] for place in pair) + floor for pair in pairs]
        seen = [known.estimate(pair).share for pair in pairs]
        ratios = [use / total for use, total in zip(seen, sums, strict=True)]
        text = f"Pairs of {known.names(places[:_PAIRED_UNITS])} use {min(ratios):.2f} to {max(ratios):.2f}"
        known.replay.note(f"{text} times the sum of what each uses alone", *trials_of(known, pairs))

    def _refine(self) -> None:
        """Score what is expected to gain most, screening the unlikely first, until nothing is."""
        while (candidate := self._next()) is not None:
            is_unsure = candidate.chance < _LIKELY and candidate.units not in self.known.screened
            if is_unsure and self.known.screens_left:
                self._screen(candidate)
            else:
                self._score(candidate.units)
        self.alike = self._untold()

    def _screen(self, candidate: Candidate) -> None:
        known, units = self.known, candidate.units
        known.screen([units])
        if units in known.scored:
            self._compare(units)
            return
        (chance,) = known.chances([units])
        if self.goal.least_saving is None and chance < DISCARD:
            self.given_up[units] = chance
            use, saving = (percent(share) for share in (known.estimate(units).share, known.saving(units)))
            known.replay.note(
                f"Given up after a screen: {saving} of {_EVERYTHING}, for {use}", known.trial(units)
            )

    def _score(self, units: Units) -> None:
        self.known.score(units)
        self._compare(units)

    def _compare(self, units: Units) -> None:
        known = self.known
        use, saving = known.full(units).share, known.saving(units)
        if self.goal.least_saving is None:
            is_better = use <= 1.0 and saving > known.saving(self.best)
        else:
            is_better = use < known.full(self.best).share
        verdict = "the best so far" if is_better else "no better"
        text = f"{percent(saving)} of {_EVERYTHING}, for {percent(use)} of {self.goal.measure}: {verdict}"
        known.replay.note(text, known.trial(units))
        if is_better:
            self.best = units

    def _untold(self) -> list[Units]:
        """The failed sets that another one, which were worth a score without them, cannot be told from."""
        question = self._question()
        untold = next_candidate(replace(question, failed=()))
        if untold is None:
            return []
        (alike,) = are_alike(question, indicator([untold.units], len(question.items.savings)))
        return [units for units, is_alike in zip(question.failed, alike, strict=True) if is_alike]

    def _told_alike(self) -> str:
        known = self.known
        uses = sorted(known.full(units).share for units in self.alike)
        return (
            f"Maps cannot be told apart at this sample size: {len(self.alike)} that save "
            f"{percent(known.saving(self.alike[0]))} of {_EVERYTHING} use {percent(uses[0])} to "
            f"{percent(uses[-1])} of {self.goal.measure}, and others like them are left alone; the best"
        )

    def _next(self) -> Candidate | None:
        return next_candidate(self._question())

    def _question(self) -> Question:
        known, least = self.known, self.goal.least_saving
        hopeless = _HOPELESS if least is None else math.inf
        damages = (damage if damage <= hopeless else math.inf for damage in known.alone)
        start = () if self.start is None else (self.start.units,)
        near = [
            self.best,
            *start,
            *sorted(known.screened, key=lambda units: -self._merit(units))[:_MOST_NEAR],
        ]
        use = known.full(self.best).share
        failed = (
            units for units in known.scored if known.full(units).share > (1.0 if least is None else use)
        )
        return Question(
            items=Items(tuple(damages), known.savings),
            room=max(1.0 - known.full(NOTHING).share, _LEAST_ROOM),
            near=tuple(near),
            closed=frozenset([*known.scored, *self.given_up]),
            best=self.best,
            use=use,
            least_saving=least,
            surrogate=known.surrogate(),
            failed=tuple(failed),
        )

    def _merit(self, units: Units) -> float:
        """The saving of a screened set, if it seems to keep to the budget."""
        # A little beyond counts: sets beside it may be within.
        return self.known.saving(units) if self.known.estimate(units).share <= 1.2 else -1.0

    def _try_one_more(self) -> bool:
        """Screen the best map with each other unit, where no trial says yet that this unit is too much.

        True where that led to a better map.
        """
        known = self.known
        others = [place for place in known.candidates - self.best if not self._is_alone_beyond(place)]
        # Those that use least alone come first where not all may be screened.
        places = sorted(others, key=lambda place: known.alone[place])[: max(known.screens_left, 1)]
        known.screen(self.best | {place} for place in sorted(places))
        wanted = [units for place in sorted(others) if known.knows(units := self.best | {place})]
        screened = [units for units in wanted if units not in known.scored and units not in self.given_up]
        chances = dict(zip(screened, known.chances(screened), strict=True))
        self.given_up |= {units: chance for units, chance in chances.items() if chance < DISCARD}
        if wanted:
            likely = len(chances.keys() - self.given_up.keys())
            text = f"The best map with one {known.word} more in INT8: {likely} of {len(wanted)} may still do"
            known.replay.note(text, *trials_of(known, wanted))
        before = self.best
        self._take_scored()
        self._refine()
        return self.best != before

    def _is_alone_beyond(self, place: int) -> bool:
        return self.known.alone[place] - 2.0 * self.known.alone_errors[place] > 1.0

    def _score_front(self) -> None:
        known = self.known
        items = Items(known.alone, known.savings)
        shares = [step / (self.goal.front + 1) for step in range(1, self.goal.front + 1)]
        for share in shares:
            units = frozenset(least_damage(items, share))
            if units not in known.scored:
                known.score(units, is_extra=True)
                known.replay.note(
                    f"For the front: the least damage that saves {percent(share)}", known.trial(units)
                )
