"""The knowledge of a search about sets of INT8 units: full scores, screens, and a model of the rest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qsens.core.trial import Outcome, Screen, Trial
from qsens.search.budget_use import BudgetShare, BudgetUse
from qsens.search.guided.next_set import Observation, Surrogate, Units, chances_of
from qsens.search.guided.replay import Replay
from qsens.search.unit_maps import UnitMaps

NOTHING: Units = frozenset()
# Below it a ratio of two uses says more about noise than about screens.
_LEAST_COMPARED = 0.05
# What is believed of full over screened scores before a map has both: log-normal, 10 %, worth three maps.
_PRIOR_SPREAD = 0.1
_PRIOR_MAPS = 3
# Fewer units than these may have as many screens and scores as these.
_FEW = 12


@dataclass(frozen=True)
class ScreenScale:
    """Full scores are `ratio` times screened ones, give or take `spread` (a share)."""

    ratio: float
    spread: float


_UNSEEN = ScreenScale(1.0, _PRIOR_SPREAD)


class ScoresSpentError(Exception):
    """The search has had all full scores that it promises to keep to."""


@dataclass(frozen=True)
class Allowance:
    """The most that a search has screened and scored; maps without INT8 and INT8 everywhere do not count."""

    screens: int
    scores: int

    @classmethod
    def of(cls, units: int) -> "Allowance":
        """Twice as many screens as units and half as many full scores; of few units, what `_FEW` may have."""
        counted = max(units, _FEW)
        return cls(2 * counted, counted // 2)


@dataclass(eq=False)
class SearchKnowledge:
    """Asks for trials of sets and keeps them; every answer is an estimate of the use of the budget."""

    replay: Replay
    maps: UnitMaps
    use: BudgetUse
    savings: tuple[float, ...]
    scored: dict[Units, Trial] = field(default_factory=dict)
    screened: dict[Units, Trial] = field(default_factory=dict)
    alone: tuple[float, ...] = ()
    alone_errors: tuple[float, ...] = ()
    _screens_asked: int = field(default=0, init=False)
    _scores_asked: int = field(default=0, init=False)
    _scaled: tuple[BudgetUse, int] | None = field(default=None, init=False)
    _uses: dict[Units, BudgetShare | None] = field(default_factory=dict, init=False)
    _uses_by: BudgetUse | None = field(default=None, init=False)
    _scale: ScreenScale = field(default=_UNSEEN, init=False)

    def score(self, chosen: Units, *, is_extra: bool = False) -> BudgetShare:
        """Score a set on all samples. Raises `ScoresSpentError` where the allowance has none left.

        One that is extra was asked for by the user, on top of the search.
        """
        ends = (NOTHING, frozenset(self.maps.movable))
        is_counted = not is_extra and chosen not in ends and chosen not in self.scored
        if is_counted and self._scores_asked >= self.allowance.scores:
            raise ScoresSpentError
        self._scores_asked += is_counted
        (self.scored[chosen],) = self.replay.ask([self.maps.with_int8(chosen)])
        return self.full(chosen)

    def screen(self, sets: Iterable[Units]) -> None:
        """Screen sets that are not known yet, the first ones first, as far as the allowance goes."""
        wanted = [chosen for chosen in dict.fromkeys(sets) if not self.knows(chosen)]
        wanted = wanted[: self.screens_left]
        self._screens_asked += len(wanted)
        answers = self.replay.ask([Screen(self.maps.with_int8(chosen)) for chosen in wanted])
        for chosen, trial in zip(wanted, answers, strict=True):
            kept = self.screened if trial.outcome is Outcome.SCREENED else self.scored
            kept[chosen] = trial

    @property
    def allowance(self) -> Allowance:
        """The most that may be asked."""
        return Allowance.of(len(self.maps.movable))

    @property
    def screens_left(self) -> int:
        """The number of sets that may still be screened."""
        return self.allowance.screens - self._screens_asked

    def knows(self, chosen: Units) -> bool:
        """Whether a set was screened or scored."""
        return chosen in self.scored or chosen in self.screened

    def full(self, chosen: Units) -> BudgetShare:
        """The use of a scored set; infinite where its trial failed."""
        return self.use.full(self.scored[chosen]) or BudgetShare(math.inf, 0.0)

    def estimate(self, chosen: Units) -> BudgetShare:
        """The use of a known set on all samples, as far as it is known; infinite where its trial failed."""
        if chosen in self.scored:
            return self.full(chosen)
        found = self._screened_use(chosen)
        if found is None or math.isinf(found.share):
            return BudgetShare(math.inf, 0.0)
        scale = self.screen_scale()
        error = math.hypot(scale.ratio * found.error, scale.spread * scale.ratio * found.share)
        return BudgetShare(scale.ratio * found.share, error)

    def _screened_use(self, chosen: Units) -> BudgetShare | None:
        # The model of all sets asks for it, of every set after every trial.
        if self._uses_by != self.use:
            self._uses_by, self._uses = self.use, {}
        if chosen not in self._uses:
            self._uses[chosen] = self.use.screened(self.screened[chosen])
        return self._uses[chosen]

    def chances(self, sets: Sequence[Units]) -> list[float]:
        """The probability that each set keeps to the budget, by the model of all trials."""
        return list(chances_of(self.surrogate(), tuple(sets))) if sets else []

    def trial(self, chosen: Units) -> Trial:
        """The trial that an estimate rests on."""
        return self.scored.get(chosen) or self.screened[chosen]

    def saving(self, chosen: Units) -> float:
        """The share that a set saves of what INT8 everywhere saves."""
        return math.fsum(self.savings[place] for place in chosen)

    def learn_alone(self, told: Mapping[int, BudgetShare]) -> None:
        """Take what each unit adds by itself from the sets of one unit, or as it is told of those unknown."""
        floor = self.use.screened(self.scored[NOTHING])
        if floor is None or math.isinf(floor.share):
            floor = self.full(NOTHING)
        base = self.screen_scale().ratio * floor.share
        uses = [BudgetShare(math.inf, 0.0)] * len(self.maps.units)
        for place in self.maps.movable:
            if self.knows(frozenset([place])):
                found = self.estimate(frozenset([place]))
                uses[place] = BudgetShare(max(found.share - base, 0.0), found.error)
            else:
                uses[place] = told[place]
        self.alone = tuple(use.share for use in uses)
        self.alone_errors = tuple(use.error for use in uses)

    def screen_scale(self) -> ScreenScale:
        """The relation of full scores to screened ones, from the maps that have both."""
        # Every estimate asks for it, between two maps with the same trials.
        if self._scaled != (self.use, len(self.scored)):
            self._scaled = (self.use, len(self.scored))
            self._scale = _scale_of(self.use, self.scored.values())
        return self._scale

    def surrogate(self) -> Surrogate:
        """The model of all sets, from every trial but those of single units, which it starts from."""
        known = [*self.scored, *(chosen for chosen in self.screened if chosen not in self.scored)]
        candidates = self.candidates
        observations = []
        for chosen in known:
            use = self.estimate(chosen)
            is_start = len(chosen) == 1 and chosen not in self.scored
            if not is_start and math.isfinite(use.share):
                error = 0.0 if chosen in self.scored else use.error
                observations.append(Observation(chosen & candidates, use.share, error))
        own = [
            (damage, error) if math.isfinite(damage) else (0.0, 0.0)
            for damage, error in zip(self.alone, self.alone_errors, strict=True)
        ]
        return Surrogate(
            floor=self.full(NOTHING).share,
            alone=tuple(damage for damage, _ in own),
            errors=tuple(error for _, error in own),
            observations=tuple(observations),
        )

    @property
    def candidates(self) -> Units:
        """Units that may run in INT8 at all: those whose map alone could be scored."""
        return frozenset(place for place, damage in enumerate(self.alone) if math.isfinite(damage))

    @property
    def word(self) -> str:
        """The word for a unit: a layer or a block."""
        return "layer" if all(unit.name == unit.layers[0].name for unit in self.maps.units) else "block"

    def names(self, places: Iterable[int]) -> str:
        """Names of units in execution order, the first four of them."""
        found = [self.maps.units[place].name for place in sorted(places)]
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        return ", ".join(found[:4]) + more


def _scale_of(use: BudgetUse, scored: Iterable[Trial]) -> ScreenScale:
    logs = []
    for trial in scored:
        full, few = use.full(trial), use.screened(trial)
        if full is None or few is None or not math.isfinite(full.share + few.share):
            continue
        if min(full.share, few.share) > _LEAST_COMPARED:
            logs.append(math.log(full.share / few.share))
    middle = float(np.median(logs)) if logs else 0.0
    squares = _PRIOR_MAPS * _PRIOR_SPREAD**2 + sum((value - middle) ** 2 for value in logs)
    return ScreenScale(math.exp(middle), math.sqrt(squares / (_PRIOR_MAPS + len(logs))))


def percent(share: float) -> str:
    """A share of the budget in words.

    >>> percent(0.042), percent(12.3), percent(float("inf"))
    ('4.2%', '1230%', 'more than can be told')
    """
    if math.isinf(share):
        return "more than can be told"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def trials_of(known: SearchKnowledge, sets: Sequence[Units]) -> tuple[Trial, ...]:
    """The trials of known sets, each once."""
    return tuple({trial.number: trial for trial in map(known.trial, sets)}.values())
