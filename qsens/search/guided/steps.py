"""The steps of `guided` in their order: boundaries screened, sets scored, and the reason for each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

from qsens.search.guided.knowledge import NOTHING, ScoresSpentError, SearchKnowledge, percent, trials_of
from qsens.search.guided.next_set import Candidate, Question, Units, are_alike, indicator, next_candidate
from qsens.search.knapsack import Items, least_damage

# Cuts of the first grid, as shares of the range that is left.
_GRID = (0.25, 0.5, 0.75)
# A sum of the damages alone that no boundary within the budget was ever seen at.
_HOPELESS_SUM = 2.5
# Two neighbours that fall by more standard errors than this show that a curve does not rise.
_FALL = 2.0
# Where it does not, intervals are halved this often: those that bend most first.
_DENSER = 2
_HALVED_AT_ONCE = 2
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
class _Curve:
    """One direction: `units(cut)` is the set in INT8 for `cut` units of it, 0 to `last`."""

    name: str
    units: Callable[[int], Units]
    last: int


def screen_boundaries(known: SearchKnowledge) -> None:
    """Screen both directions near the place where the budget is used up, and note what was seen.

    A direction ends at its first unit that is beyond the budget alone: damages do not take each other away.
    """
    places = list(known.maps.movable)
    curves = [
        _Curve("INT8 first", lambda cut: frozenset(places[:cut]), _last(known, places)),
        _Curve("float first", lambda cut: frozenset(places[len(places) - cut :]), _last(known, places[::-1])),
    ]
    curves = [curve for curve in curves if curve.last > 1]
    known.screen(curve.units(cut) for curve in curves for cut in _grid(curve.last))
    for curve in curves:
        cuts = [cut for cut in sorted({1, *_grid(curve.last)}) if known.knows(curve.units(cut))]
        if _rises(known, curve, cuts):
            _halve(known, curve, cuts)
        else:
            _densify(known, curve, cuts)


def _last(known: SearchKnowledge, order: Sequence[int]) -> int:
    """The number of units of this order in INT8 before one alone, or all by their sum, use too much."""
    total = 0.0
    for count, place in enumerate(order):
        damage = known.alone[place]
        total += damage
        if math.isinf(damage) or damage - known.alone_errors[place] > 1.0 or total > _HOPELESS_SUM:
            return count
    return len(order) - 1


def _grid(last: int) -> list[int]:
    return sorted({max(2, math.ceil(share * last)) for share in _GRID} | {last})


def _rises(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> bool:
    uses = [known.estimate(curve.units(cut)) for cut in cuts]
    return all(
        after.share >= before.share - _FALL * math.hypot(before.error, after.error)
        for before, after in pairwise(uses)
    )


def _halve(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> None:
    within = max((cut for cut in cuts if known.estimate(curve.units(cut)).share <= 1.0), default=0)
    beyond = min((cut for cut in cuts if cut > within), default=curve.last + 1)
    while beyond - within > 1 and within:
        middle = (within + beyond) // 2
        known.screen([curve.units(middle)])
        if not known.knows(curve.units(middle)):
            break
        if known.estimate(curve.units(middle)).share <= 1.0:
            within = middle
        else:
            beyond = middle
    _note(known, curve, "rises on its grid, so it was halved", within)


def _densify(known: SearchKnowledge, curve: _Curve, cuts: Sequence[int]) -> None:
    for _ in range(_DENSER):
        gaps = [(one, other) for one, other in pairwise(cuts) if other - one > 1]
        gaps.sort(key=lambda gap: -_bend(known, curve, gap))
        middles = [(one + other) // 2 for one, other in gaps[:_HALVED_AT_ONCE]]
        known.screen(curve.units(middle) for middle in middles)
        cuts = sorted({*cuts, *(middle for middle in middles if known.knows(curve.units(middle)))})
    within = max((cut for cut in cuts if known.estimate(curve.units(cut)).share <= 1.0), default=0)
    _note(known, curve, "does not rise everywhere, so it was made denser where it bends", within)


def _bend(known: SearchKnowledge, curve: _Curve, gap: tuple[int, int]) -> float:
    one, other = (known.estimate(curve.units(cut)).share for cut in gap)
    return abs(other - one) if math.isfinite(one + other) else math.inf


def _note(known: SearchKnowledge, curve: _Curve, seen: str, within: int) -> None:
    best = curve.units(within) if within else NOTHING
    asked = [units for cut in range(1, curve.last + 1) if (units := curve.units(cut)) in _sets(known)]
    found = f"INT8 in {within} {known.word}s uses about {percent(known.estimate(best).share)} of the budget"
    known.replay.note(f"The boundary curve, {curve.name}, {seen}; {found}", *trials_of(known, asked))


def _sets(known: SearchKnowledge) -> set[Units]:
    return {*known.scored, *known.screened}


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
    best: Units = NOTHING
    given_up: dict[Units, float] = field(default_factory=dict)
    alike: list[Units] = field(default_factory=list)

    def run(self) -> None:
        """Until no map is left that is worth a score."""
        known = self.known
        known.screen(frozenset([place]) for place in known.maps.movable)
        known.learn_alone()
        self._note_alone()
        if self.goal.least_saving is None:
            screen_boundaries(known)
        else:
            self.best = frozenset(known.maps.movable)
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
        for units in sorted(known.scored, key=lambda units: (-known.saving(units), sorted(units))):
            if known.full(units).share <= 1.0 and known.saving(units) > known.saving(self.best):
                self._compare(units)

    def _note_alone(self) -> None:
        known = self.known
        beyond = [place for place in known.maps.movable if known.alone[place] > 1.0]
        sets = [frozenset([place]) for place in (beyond or known.maps.movable)]
        text = (
            f"{len(known.maps.movable)} {known.word}s were tried alone in INT8, beyond {self.goal.measure}: "
        )
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
        near = [self.best, *sorted(known.screened, key=lambda units: -self._merit(units))[:_MOST_NEAR]]
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
