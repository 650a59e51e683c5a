"""Strategy `additive`: the best maps by the sum of the damages of single units, by integer programming.

HAWQ-V3 (Yao et al. 2021) and Sony's Model Compression Toolkit choose precisions this way: errors of single
layers are taken to add, which they need not do.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from qsens.core.errors import SpecError
from qsens.core.interfaces import Role, Strategy
from qsens.core.layer import Layer
from qsens.core.metric_names import base_name, first_of_role, no_such_score, role_of
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial, untried
from qsens.search.enumerations import checked_direction, units_of
from qsens.search.knapsack import Items, least_damage, most_saved
from qsens.search.unit_maps import UnitMaps
from qsens.selection.budget import Budget
from qsens.selection.choose import limit_from

DIRECTIONS = ("only-this", "all-but-this")


class Additive(Strategy):
    """Scores each unit alone, then proposes the optima of the sum of their damages.

    `direction` `only-this` puts one unit at a time in INT8, `all-but-this` one at a time in float; `both`
    takes the mean. Damage is how much worse the `metric` gets (without one: the distance to the FP32
    outputs, else PSNR, else the first score); PSNR is taken as the error it stands for, since decibels do
    not add. A damage below zero is noise, or masking, and counts as none: a sum that a layer may improve
    would buy INT8 elsewhere with it. A unit that failed stays in float.

    Without `budget`, `points` maps are proposed: the least damage at INT8 shares that are evenly spaced
    between none and all. With one (`2.0` or `5%`, as in a spec), the cheapest map that the sum keeps within
    it; where that one scores otherwise than the sum says, the sum is scaled to it and solved again, up to
    `points` maps.
    """

    name = "additive"

    def __init__(
        self,
        *,
        by: str = "layer",
        direction: str = "only-this",
        metric: str | None = None,
        budget: str | None = None,
        points: int = 6,
        float_precision: Precision = Precision.FP16,
    ) -> None:
        if points < 1:
            raise SpecError(f"additive cannot propose {points} maps", "use points of 1 or more")
        self.by = by
        self.direction = checked_direction(direction, DIRECTIONS)
        self.metric = metric
        self.budget = None if budget is None else Budget.parse_one(str(budget), "the budget of additive")
        self.points = points
        self.float_precision = Precision(float_precision)

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """Single units not yet tried; when all are, optima of their sum not yet tried.

        Raises:
            SpecError: for a metric that was not scored.
        """
        maps = UnitMaps.of(units_of(layers, self.by), self.float_precision)
        if singles := untried(self._singles(maps), trials):
            return singles
        levels = _Levels(trials, self.metric)
        if not maps.movable or levels.of(maps.floats) is None:
            return []
        places = range(len(maps.units))
        items = Items(
            damages=tuple(self._damage(maps, place, levels) for place in places),
            savings=tuple(maps.macs(place) for place in places),
        )
        if self.budget is None or not levels.are_known:
            ladder = (share / (self.points + 1) for share in range(1, self.points + 1))
            return untried((maps.with_int8(least_damage(items, share)) for share in ladder), trials)
        return self._within_budget(maps, items, levels)

    def _singles(self, maps: UnitMaps) -> Iterator[PrecisionMap]:
        yield maps.floats
        yield maps.int8
        for direction in DIRECTIONS:
            if self.direction in ("both", direction):
                yield from (_single(maps, place, direction) for place in maps.movable)

    def _damage(self, maps: UnitMaps, place: int, levels: "_Levels") -> float:
        """The damage of unit `place` to the score, at least 0; infinite where it stays as it is.

        Without scores all units count alike.
        """
        if place not in maps.movable:
            return math.inf
        if not levels.are_known:
            return 1.0
        ends = {"only-this": (maps.floats, 1.0), "all-but-this": (maps.int8, -1.0)}
        found = []
        for direction, (end, sign) in ends.items():
            one, other = levels.of(_single(maps, place, direction)), levels.of(end)
            if one is not None and other is not None:
                found.append(sign * (one - other))
        return max(sum(found) / len(found), 0.0) if found else math.inf

    def _within_budget(self, maps: UnitMaps, items: Items, levels: "_Levels") -> list[PrecisionMap]:
        assert self.budget is not None, "propose() asks only where there is a budget"
        start = levels.of(maps.floats)
        assert start is not None, "propose() refuses a float map without a score"
        allowed = max(levels.limit(self.budget) - start, 0.0)
        limit = allowed
        # A resumed search goes through the same rounds: each that was scored says how far off the sum is.
        for _ in range(self.points):
            chosen = most_saved(items, limit)
            wanted = maps.with_int8(chosen)
            if wanted not in levels:
                return [wanted]
            level, predicted = levels.of(wanted), items.damage(chosen)
            if level is None or predicted == 0.0:
                limit /= 2  # it failed, or there is no sum to scale
            else:
                # By the factor that the sum is off by here.
                limit = allowed * predicted / max(level - start, 1e-12)
        return []


def _single(maps: UnitMaps, place: int, direction: str) -> PrecisionMap:
    return maps.with_int8([place]) if direction == "only-this" else maps.all_but(place)


class _Levels:
    """The badness of each tried map, as a number that grows with the damage.

    `are_known` is false in a plan, whose trials have no scores: all maps are then at 0.
    """

    def __init__(self, trials: Sequence[Trial], metric: str | None) -> None:
        self._trials: Mapping[PrecisionMap, Trial] = {
            trial.requested: trial for trial in trials if trial.outcome is not Outcome.SCREENED
        }
        self._metric = _metric_of(trials, metric)
        self.are_known = any(trial.scores for trial in trials)

    def __contains__(self, wanted: PrecisionMap) -> bool:
        return wanted in self._trials

    def of(self, wanted: PrecisionMap) -> float | None:
        """The level of a map; `None` where it failed or was not tried."""
        trial = self._trials.get(wanted)
        if trial is None or trial.outcome is not Outcome.SCORED:
            return None
        if self._metric is None:
            return 0.0
        score = trial.score(self._metric)
        return None if score is None or math.isnan(score.value) else _level(score)

    def limit(self, budget: Budget) -> float:
        """The worst level within a budget on the metric."""
        baseline = self._trials.get(PrecisionMap(Precision.FP32))
        score = None if baseline is None or self._metric is None else baseline.score(self._metric)
        if baseline is None or score is None:
            return math.inf
        is_psnr = role_of(score.metric) is Role.DECIBELS
        value = math.inf if is_psnr else score.value
        limit = limit_from(baseline.yardsticks, score, value, budget)
        return _level(
            Score(score.metric, limit.threshold, score.images, score.against, score.lower_is_better)
        )


def _metric_of(trials: Sequence[Trial], wished: str | None) -> str | None:
    names = list(dict.fromkeys(score.metric for trial in trials for score in trial.scores))
    by_base = {base_name(name): name for name in reversed(names)}
    if wished is not None and names and wished not in names and wished not in by_base:
        raise no_such_score(wished, names)
    if wished is not None:
        return wished if wished in names else by_base.get(wished)
    return first_of_role(names, Role.FP32_DISTANCE, Role.DECIBELS) or next(iter(names), None)


def _level(score: Score) -> float:
    if role_of(score.metric) is Role.DECIBELS:
        return float(10.0 ** (-score.value / 10.0))
    return score.value if score.lower_is_better else -score.value
