"""Two published search schemes to compare with, written from their descriptions: one map at a time, by score.

Both want a map whose `metric` (lower is better, 0 for FP32) is at most `budget`, and both take groups of
layers (blocks) between INT8 and FP16. They are strategies as `qsens.core.interfaces.Strategy` describes them:
their state is what the trials say, so each call walks the scheme again until it lacks a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from qsens.core.interfaces import Strategy
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Trial, untried
from qsens.search.enumerations import Unit, map_of_units, units_of


class MissingScoresError(Exception):
    """The scheme cannot go on before these maps are scored."""

    def __init__(self, maps: list[PrecisionMap]) -> None:
        super().__init__(f"{len(maps)} maps without a score")
        self.maps = maps


class Scored:
    """Damages of maps, given by the groups that are in INT8; a failed map's is infinite."""

    def __init__(self, units: Sequence[Unit], trials: Sequence[Trial], metric: str) -> None:
        self._units = units
        self._trials = trials
        self._damages = {trial.requested: _damage(trial, metric) for trial in trials}

    def of(self, wished: Sequence[Iterable[int]]) -> list[float]:
        """Damage of each map. Raises `MissingScoresError` with all that were not tried."""
        maps = [self._map(groups) for groups in wished]
        if missing := untried(maps, self._trials):
            raise MissingScoresError(missing)
        return [self._damages[requested] for requested in maps]

    def _map(self, groups: Iterable[int]) -> PrecisionMap:
        inside = set(groups)
        places = range(len(self._units))
        return map_of_units(
            self._units, [Precision.INT8 if place in inside else Precision.FP16 for place in places]
        )


class RankedBinarySearch(Strategy):
    """Groups ranked by their damage alone, then how many of the ranking INT8 can have, by bisection.

    Automatic mixed precision of AIMET, from Pandey et al. 2023 (arXiv 2302.05397, section 3) and AIMET's
    documentation: phase 1 scores the network with one group at a time at the lower precision and sorts;
    phase 2 takes the groups down in that order, and a binary search finds how far the target is met. It
    takes the score to fall with every group.
    """

    name = "ranked-bisection"

    def __init__(self, *, budget: float, metric: str) -> None:
        self.budget = budget
        self.metric = metric

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """What the scheme wants scored next."""
        units = units_of(layers, "block")
        try:
            self._walk(len(units), Scored(units, trials, self.metric))
        except MissingScoresError as missing:
            return missing.maps
        return []

    def _walk(self, count: int, scored: Scored) -> None:
        alone = scored.of([[group] for group in range(count)])
        ranking = sorted(range(count), key=lambda group: alone[group])
        within, beyond = 0, count + 1
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if scored.of([ranking[:middle]])[0] <= self.budget:
                within = middle
            else:
                beyond = middle


class GreedyRevert(Strategy):
    """INT8 everywhere, then back to FP16 group by group, most damaging first, until the budget is met.

    Accuracy-aware quantization of NNCF, from its documentation ("Quantizing with accuracy control"): groups
    are ranked by the score of the quantized network with that group alone reverted, and reverted greedily;
    where a reverted group does not help, it is taken back and the remaining groups are ranked again. NNCF
    ranks on a subset of the samples; here a ranking costs one evaluation a group like any other map.
    """

    name = "greedy-revert"

    def __init__(self, *, budget: float, metric: str) -> None:
        self.budget = budget
        self.metric = metric

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """What the scheme wants scored next."""
        units = units_of(layers, "block")
        try:
            self._walk(len(units), Scored(units, trials, self.metric))
        except MissingScoresError as missing:
            return missing.maps
        return []

    def _walk(self, count: int, scored: Scored) -> None:
        inside = set(range(count))
        damage = scored.of([inside])[0]
        while damage > self.budget and inside:
            ranking = self._ranked(inside, scored)
            before = set(inside)
            for group in ranking:
                reverted = scored.of([inside - {group}])[0]
                if reverted >= damage:
                    break
                inside, damage = inside - {group}, reverted
                if damage <= self.budget:
                    return
            if inside == before:
                return

    def _ranked(self, inside: set[int], scored: Scored) -> list[int]:
        groups = sorted(inside)
        without = scored.of([inside - {group} for group in groups])
        return [group for _, group in sorted(zip(without, groups, strict=True))]


def _damage(trial: Trial, metric: str) -> float:
    score = trial.score(metric)
    return math.inf if trial.outcome is not Outcome.SCORED or score is None else score.value
