"""Chooses a precision map: the cheapest within a budget, and the Pareto front."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qsens.core.alterations import Alteration
from qsens.core.errors import BudgetError, SpecError
from qsens.core.interfaces import Role
from qsens.core.layer import macs_share
from qsens.core.maps import anchor_trial, built_map, int8_share
from qsens.core.metric_names import (
    Z95,
    by_all_extractors,
    extractor_name,
    find_metric,
    find_metrics,
    first_of_role,
    headline_metric,
    no_such_score,
    role_of,
)
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Score, Study, Trial, Yardstick, yardstick_of
from qsens.selection.budget import Budget, Limit, told_apart, two_budgets

if TYPE_CHECKING:
    from qsens.selection.timings import LatencyChoice


PairedError = Callable[[str, Trial, Trial], float | None]


def no_paired_error(_metric: str, _one: Trial, _other: Trial) -> float | None:
    """For studies without a folder: nothing is known of a pair."""
    return None


@dataclass(frozen=True)
class Selection:
    """The chosen trial and why.

    `precision_map` is what the backend built; `limits` are those that it keeps to, the main one first.
    `excess` is how far the score is beyond the main one (not positive). `is_interval_within` says whether
    the 95% intervals of the differences from FP32 lie within the budgets too, `None` where one is not known.
    `ties` are other maps whose score cannot be told from the chosen one at this sample size. `latency` says
    what was measured, where the choice was made on that. `notes` are sentences that must be read with it.
    """

    trial: Trial
    precision_map: PrecisionMap
    limits: tuple[Limit, ...]
    excess: float
    damage: float | None
    int8_macs_share: float
    is_interval_within: bool | None
    ties: tuple[Trial, ...]
    latency: "LatencyChoice | None" = None
    notes: tuple[str, ...] = ()

    @property
    def limit(self) -> Limit:
        """The limit on the score that the choice goes by."""
        return self.limits[0]

    @property
    def guard(self) -> Limit | None:
        """The limit on the distance from the FP32 outputs that holds beside the budget."""
        return guard_among(self.limits)


def cheapest_within(
    study: Study,
    *,
    budget: Budget,
    guard: Budget | None = None,
    metric: str | None = None,
    paired_error: PairedError = no_paired_error,
) -> Selection:
    """The map with the most INT8 multiply-accumulates among those within the budget and the guard.

    The budget is on the headline score: the distance to real images, else to the FP32 outputs, else PSNR,
    where it is the least acceptable number of decibels. The guard is on the distance to the FP32 outputs;
    without one the points of a budget on `fid` are its limit. Of equal INT8 shares the map with fewer FP32
    multiply-accumulates wins, then the better score. FP32 itself is no choice. `paired_error` tells how
    well two maps can be told apart (`paired_errors` of the run's evidence).

    Raises:
        SpecError: for a metric that was not scored.
        BudgetError: if no map is within the limits, naming the nearest one.
    """
    limits = limits_of(study, budget, guard, metric)
    candidates = candidates_of(study, limits[0].metric)
    if not candidates:
        raise BudgetError(
            "no map besides FP32 was scored", "let the sweep run on, or look at the failed trials"
        )
    within = [trial for trial in candidates if violation(trial, limits) <= 0]
    if not within:
        raise nothing_within(study, candidates, limits)
    chosen = min(within, key=lambda trial: _cost(study, trial, limits[0]))
    ties = [
        trial for trial in within if trial is not chosen and is_tie(trial, chosen, limits[0], paired_error)
    ]
    return selection_of(study, chosen, ties, limits)


def pareto_front(study: Study, metric: str) -> tuple[Trial, ...]:
    """Trials that no other trial beats in both INT8 share and score, by growing INT8 share; FP32 included.

    Of equal trials the first one counts.
    """
    lower_is_better = _score_of_metric(study, metric).lower_is_better
    sign = 1 if lower_is_better else -1
    baseline = anchor_trial(study, Precision.FP32)
    trials = [*([baseline] if baseline and _value(baseline, metric) is not None else [])]
    trials += [trial for trial in candidates_of(study, metric) if trial is not baseline]
    ordered = sorted(
        trials,
        key=lambda trial: (-int8_share(study, trial), sign * usable_score(trial, metric), trial.number),
    )
    front: list[Trial] = []
    for trial in ordered:
        if not front or sign * usable_score(trial, metric) < sign * usable_score(front[-1], metric):
            front.append(trial)
    return tuple(reversed(front))


def candidates_of(study: Study, metric: str) -> tuple[Trial, ...]:
    """Trials that can be chosen on `metric`, in order: usable score, not all FP32, each built map once.

    Scores against another reference or extractor than FP32's are left out.
    """
    against = _score_of_metric(study, metric).against
    found: dict[PrecisionMap, Trial] = {}
    fp32 = PrecisionMap(Precision.FP32)
    for trial in study.scored():
        score = trial.score(metric)
        if score is None or score.against != against or _value(trial, metric) is None:
            continue
        built = study.shapes.canonical(built_map(trial))
        if built != fp32:
            found.setdefault(built, trial)
    return tuple(found.values())


def limits_of(study: Study, budget: Budget, guard: Budget | None, metric: str | None) -> tuple[Limit, ...]:
    """The limits of the budget, that on `metric` or the headline first, and guards where they are measured.

    Of several extractors each has its limit, unless the budget names one (`fid[lite0]=5%`).

    Raises:
        SpecError: for two budgets on one score, or one on a score that was not measured.
    """
    headline = headline_metric(study) if metric is None else find_metric(study, metric)
    limits: list[Limit] = []
    for part in budget.parts:
        wished = part.metric
        found = by_all_extractors(study.metrics, headline) if wished is None else find_metrics(study, wished)
        for name in found:
            if name in [other.metric for other in limits]:
                raise two_budgets(name, budget)
            limits.append(_limit_on(study, name, part))
    limits.sort(key=lambda limit: limit.metric != headline)
    return (*limits, *_guards(study, limits, guard))


def has_scored(study: Study, budget: str) -> bool:
    """Whether a budget can be read on the scores of a run: the alterations that it names are among them."""
    named = [str(part.alteration) for part in Budget.parse(budget).parts if part.alteration is not None]
    return set(named) <= {entry.alteration for entry in study.yardsticks}


def _limit_on(study: Study, metric: str, budget: Budget) -> Limit:
    score = _score_of_metric(study, metric)
    return limit_from(study.yardsticks, score, _baseline(study, metric), budget)


def limit_of_points(study: Study, metric: str, points: float) -> Limit:
    """The limit `points` beyond FP32's score. Raises `SpecError` where that was not measured."""
    return _limit_on(study, metric, Budget(points))


def limit_from(yardsticks: Sequence[Yardstick], score: Score, baseline: float, budget: Budget) -> Limit:
    """The limit that a budget is on the metric of `score`, where FP32 is at `baseline`.

    An alteration allows as much loss as it moves the score, whichever way: a distance to real images may
    well shrink by JPEG where the real images are JPEG files.

    Raises:
        SpecError: for an alteration that was not scored, or a share of a score that is zero or infinite.
    """
    metric, lower_is_better = score.metric, score.lower_is_better
    share = budget.amount if budget.is_share else None
    if budget.alteration is None and not budget.is_level:
        points = budget.points(metric, baseline)
        return Limit(metric, baseline, points, lower_is_better, share=share)
    alteration = budget.alteration
    level = budget.amount if alteration is None else _score_after(yardsticks, alteration, metric)
    loss = level - baseline if lower_is_better else baseline - level
    points = max(loss, 0.0) if alteration is None else abs(loss)
    points = points if math.isfinite(baseline) else level
    return Limit(metric, baseline, points, lower_is_better, alteration=alteration)


def _score_after(yardsticks: Sequence[Yardstick], alteration: Alteration, metric: str) -> float:
    """The score of FP32's pictures after an alteration. Raises `SpecError` where that was not scored."""
    found = yardstick_of(yardsticks, alteration)
    score = None if found is None else found.score(metric)
    if score is not None and math.isfinite(score.value):
        return score.value
    if found is not None:
        raise SpecError(f"{metric} cannot score {alteration}", "name another score: --budget NAME=X")
    known = ", ".join(entry.alteration for entry in yardsticks) or "nothing yet"
    raise SpecError(
        f"{alteration} was not scored in this run",
        f"scored: {known}; the same sweep with --yardsticks {alteration} scores it, and no map again",
    )


def _guards(study: Study, limits: Sequence[Limit], guard: Budget | None) -> Iterator[Limit]:
    """The limits on the distance from the FP32 outputs, one an extractor."""
    damage = first_of_role(study.metrics, Role.FP32_DISTANCE)
    if damage is not None:
        found = (_guard(study, name, limits, guard) for name in by_all_extractors(study.metrics, damage))
        yield from (limit for limit in found if limit is not None)
    elif guard is not None:
        raise guard_without_score(str(guard))


def _guard(study: Study, damage: str, limits: Sequence[Limit], guard: Budget | None) -> Limit | None:
    """The limit on one such distance; without a guard, as much as to real images by the same extractor."""
    to_real = [limit for limit in limits if role_of(limit.metric) is Role.REAL_DISTANCE]
    real = next((limit for limit in to_real if extractor_name(limit.metric) == extractor_name(damage)), None)
    if guard is None:
        # points of another score than a Fréchet distance are no amount of the guard's
        if real is None or damage in [limit.metric for limit in limits]:
            return None
        guard = Budget(real.points, alteration=real.alteration)
    if guard.alteration is None:
        of = real or limits[0]
        guard = Budget(guard.points(of.metric, of.baseline))
    return replace(_limit_on(study, damage, guard), is_guard=True)


def guard_among(limits: Sequence[Limit]) -> Limit | None:
    """The guard, if there is one."""
    return next((limit for limit in limits if limit.is_guard), None)


def guard_without_score(guard: str) -> SpecError:
    """The refusal of a guard on a score that is not measured."""
    return SpecError(f"the guard {guard} needs the score 'fid-fp32'", "sweep with --metric fid-fp32 too")


def _baseline(study: Study, metric: str) -> float:
    """FP32's score; zero for distances from the FP32 outputs where FP32's own was not measured.

    FP32's PSNR against itself is infinite, whatever finite number stands for that in a score.
    """
    trial = anchor_trial(study, Precision.FP32)
    if trial is None:
        raise SpecError("FP32 was not scored, so there is nothing to compare with", "let the sweep run on")
    if role_of(metric) is Role.DECIBELS:
        return math.inf
    score = trial.score(metric)
    if score is not None and not math.isnan(score.value):
        return score.value
    return 0.0 if _score_of_metric(study, metric).lower_is_better else math.inf


def _score_of_metric(study: Study, metric: str) -> Score:
    trials = [trial for trial in (anchor_trial(study, Precision.FP32), *study.scored()) if trial is not None]
    score = next((score for trial in trials if (score := trial.score(metric)) is not None), None)
    if score is None:
        raise no_such_score(metric, study.metrics)
    return score


def _value(trial: Trial, metric: str) -> float | None:
    """The score; `None` where it is missing, NaN, or infinite on the bad side."""
    score = trial.score(metric)
    if score is None or math.isnan(score.value):
        return None
    worst = math.inf if score.lower_is_better else -math.inf
    return None if score.value == worst else score.value


def usable_score(trial: Trial, metric: str) -> float:
    """The score of a trial that has one."""
    value = _value(trial, metric)
    assert value is not None, "candidates have a usable score"
    return value


def violation(trial: Trial, limits: Sequence[Limit]) -> float:
    """The largest excess over the limits, as a share of each limit's points; zero or less is within."""
    worst = -math.inf
    for limit in limits:
        value = _value(trial, limit.metric)
        excess = math.inf if value is None else limit.excess(value)
        worst = max(worst, excess / limit.points if 0 < limit.points < math.inf else excess)
    return worst


def _cost(study: Study, trial: Trial, limit: Limit) -> tuple[float, float, float, int]:
    fp32 = macs_share(study.layers, built_map(trial), Precision.FP32)
    return -int8_share(study, trial), fp32, limit.excess(usable_score(trial, limit.metric)), trial.number


def selection_of(study: Study, chosen: Trial, ties: Sequence[Trial], limits: Sequence[Limit]) -> Selection:
    """The `Selection` of a chosen trial: its limits, its distance from them and its ties."""
    limit, guard = limits[0], guard_among(limits)
    return Selection(
        trial=chosen,
        precision_map=built_map(chosen),
        limits=tuple(limits),
        excess=limit.excess(usable_score(chosen, limit.metric)),
        damage=None if guard is None else _value(chosen, guard.metric),
        int8_macs_share=int8_share(study, chosen),
        is_interval_within=_are_intervals_within(chosen, limits),
        ties=tuple(ties),
    )


def _are_intervals_within(trial: Trial, limits: Sequence[Limit]) -> bool | None:
    """Whether each is, of a budget; the guard has none. `None` where one is not known and none is beyond."""
    found = [is_interval_within(trial, limit) for limit in limits if not limit.is_guard]
    return False if False in found else None if None in found else True


def is_interval_within(trial: Trial, limit: Limit) -> bool | None:
    """Whether the 95% interval of the difference from FP32 lies within a limit; `None` where unknown."""
    width, value = half_interval(trial, limit), _value(trial, limit.metric)
    return None if width is None or value is None else limit.excess(value) + width <= 0


def half_interval(trial: Trial, limit: Limit) -> float | None:
    """Half the 95% interval of the difference from FP32; `None` where it is unknown."""
    error = _error_from_fp32(trial, limit)
    return None if error is None else Z95 * error


def is_tie(one: Trial, other: Trial, limit: Limit, paired_error: PairedError) -> bool:
    """Whether the interval of their difference covers zero.

    Where the pair's own error is not known, the errors of both differences from FP32 are added as if
    independent, which overstates it for maps that go wrong on the same inputs: more ties, never fewer.
    """
    difference = abs(usable_score(one, limit.metric) - usable_score(other, limit.metric))
    error = paired_error(limit.metric, one, other)
    if error is not None:
        return difference <= Z95 * error
    errors = (_error_from_fp32(one, limit), _error_from_fp32(other, limit))
    known = [error for error in errors if error is not None]
    if len(known) < 2:
        return False
    return difference <= Z95 * math.hypot(*known)


def _error_from_fp32(trial: Trial, limit: Limit) -> float | None:
    """Standard error of the difference from FP32: that of the score itself where it is such a difference."""
    score = trial.score(limit.metric)
    if score is None:
        return None
    is_difference = limit.baseline == 0 or not math.isfinite(limit.baseline)
    error = score.difference_standard_error
    if error is None and is_difference:
        error = score.standard_error
    return error if error is not None and math.isfinite(error) else None


def nothing_within(study: Study, candidates: Sequence[Trial], limits: Sequence[Limit]) -> BudgetError:
    """The error where no candidate is within the limits, naming the nearest."""
    nearest = min(candidates, key=lambda trial: (violation(trial, limits), trial.number))
    parts = []
    for limit in limits:
        value = _value(nearest, limit.metric)
        if value is None or limit.excess(value) > 0:
            shown, allowed = told_apart(value, limit.threshold)
            parts.append(f"{limit.metric} {shown}, the limit is {allowed}")
    name = f"trial {nearest.number} ({100 * int8_share(study, nearest):.0f}% INT8)"
    return BudgetError(
        f"no map meets the budget; the nearest is {name}: {'; '.join(parts)}",
        "allow a larger --budget or --guard, or sweep with another strategy",
    )
