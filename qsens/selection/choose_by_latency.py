"""Chooses a precision map by measured time: the fastest within a budget, the best within a time."""

import math
from collections.abc import Sequence
from dataclasses import replace

from qsens.core.errors import BudgetError, SpecError
from qsens.core.interfaces import Role
from qsens.core.maps import anchor_trial, int8_share
from qsens.core.metric_names import find_metric, headline_metric, role_of
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Budget, Limit
from qsens.selection.choose import (
    PairedError,
    Selection,
    candidates_of,
    guard_among,
    is_tie,
    limits_of,
    no_paired_error,
    nothing_within,
    selection_of,
    usable_score,
    violation,
)
from qsens.selection.timings import LatencyChoice, Timings

MEASURE_MORE = "measure them with: qsens bench RUN --maps all"


def fastest_within(
    study: Study,
    timings: Timings,
    *,
    budget: Budget,
    guard: Budget | None = None,
    metric: str | None = None,
    paired_error: PairedError = no_paired_error,
) -> Selection:
    """The fastest measured map among those within the budget and the guard; FP32 is a choice too.

    Maps whose times cannot be told apart from the fastest one's count as equally fast: of these a map
    without INT8 wins, then the smaller engine among such, else the better score.

    Raises:
        SpecError: for a metric that was not scored, or if no scored map was measured.
        BudgetError: if no measured map is within the limits, naming the nearest one.
    """
    limits = limits_of(study, budget, guard, metric)
    candidates = timed_candidates(study, timings, limits[0].metric)
    within = [trial for trial in candidates if _is_within(study, trial, limits)]
    if not within:
        raise nothing_within(study, candidates, limits)
    fastest = min(within, key=lambda trial: (timings.by_trial[trial.number].ms, trial.number))
    as_fast = [trial for trial in within if _are_equally_fast(timings, trial, fastest)]
    chosen = min(as_fast, key=lambda trial: _preference(timings, trial, limits))
    ties = [
        trial for trial in as_fast if trial is not chosen and is_tie(trial, chosen, limits[0], paired_error)
    ]
    return replace(
        selection_of(study, chosen, ties, limits),
        latency=_choice(study, timings, chosen, within, limits[0].metric),
    )


def best_within_time(
    study: Study,
    timings: Timings,
    *,
    limit_ms: float,
    budget: Budget | None = None,
    guard: Budget | None = None,
    metric: str | None = None,
) -> Selection:
    """The measured map with the best score among those whose median is within `limit_ms` milliseconds.

    A budget and a guard hold as well where they are given. Of equal scores the faster map wins.

    Raises:
        SpecError: for a metric that was not scored, or if no scored map was measured.
        BudgetError: if no measured map is fast enough, naming the fastest, or none of those meets the budget.
    """
    name = headline_metric(study) if metric is None else find_metric(study, metric)
    limits = limits_of(study, budget or _no_budget(name), guard, name)
    if limits[0].metric != name:  # what is within the time is still compared by its score
        limits = (limits_of(study, _no_budget(name), None, name)[0], *limits)
    candidates = timed_candidates(study, timings, name)
    in_time = [trial for trial in candidates if timings.by_trial[trial.number].ms <= limit_ms]
    if not in_time:
        raise _nothing_in_time(study, timings, candidates, limit_ms)
    within = [trial for trial in in_time if _is_within(study, trial, limits)]
    if not within:
        raise nothing_within(study, in_time, limits)
    chosen = min(
        within,
        key=lambda trial: (
            *_loss(trial, limits),
            timings.by_trial[trial.number].ms,
            trial.number,
        ),
    )
    choice = replace(_choice(study, timings, chosen, within, name), limit_ms=limit_ms)
    selection = selection_of(study, chosen, (), limits)
    if budget is None:
        selection = replace(selection, is_interval_within=None)
    return replace(selection, latency=choice)


def timed_candidates(study: Study, timings: Timings, metric: str) -> tuple[Trial, ...]:
    """FP32 and every other map that can be chosen on `metric`, of those that were measured.

    Raises:
        SpecError: if there is none.
    """
    found = tuple(trial for trial in _scored_maps(study, metric) if trial.number in timings.by_trial)
    if not found:
        raise SpecError(
            f"no scored map of this run was measured on {timings.place}", f"{MEASURE_MORE} --json FILE"
        )
    return found


def latency_front(study: Study, timings: Timings, metric: str) -> tuple[Trial, ...]:
    """Measured trials that no other beats in both time and score, the fastest first; by medians alone."""
    measured = [trial for trial in _scored_maps(study, metric) if trial.number in timings.by_trial]
    ordered = sorted(
        measured,
        key=lambda trial: (timings.by_trial[trial.number].ms, _badness(trial, metric), trial.number),
    )
    front: list[Trial] = []
    for trial in ordered:
        if not front or _badness(trial, metric) < _badness(front[-1], metric):
            front.append(trial)
    return tuple(front)


def _no_budget(metric: str) -> Budget:
    """A budget that every map meets."""
    return Budget(0.0 if role_of(metric) is Role.DECIBELS else math.inf)


def _scored_maps(study: Study, metric: str) -> tuple[Trial, ...]:
    """FP32, where it has the score, then every map that can be chosen on it, in order."""
    baseline = anchor_trial(study, Precision.FP32)
    score = None if baseline is None else baseline.score(metric)
    has_score = score is not None and not math.isnan(score.value)
    return (*((baseline,) if baseline is not None and has_score else ()), *candidates_of(study, metric))


def _is_within(study: Study, trial: Trial, limits: Sequence[Limit]) -> bool:
    return trial is anchor_trial(study, Precision.FP32) or violation(trial, limits) <= 0


def _choice(
    study: Study, timings: Timings, chosen: Trial, within: Sequence[Trial], metric: str
) -> LatencyChoice:
    in_int8 = [trial for trial in within if timings.by_trial[trial.number].has_int8]
    scored = _scored_maps(study, metric)
    return LatencyChoice(
        timings=timings,
        measured=timings.by_trial[chosen.number],
        fastest_int8=min(in_int8, key=lambda trial: timings.by_trial[trial.number].ms, default=None),
        left_out=sum(trial.number not in timings.by_trial for trial in scored),
    )


def _are_equally_fast(timings: Timings, one: Trial, other: Trial) -> bool:
    return timings.by_trial[one.number].is_as_fast_as(timings.by_trial[other.number])


def _preference(timings: Timings, trial: Trial, limits: Sequence[Limit]) -> tuple[float, ...]:
    """Order among equally fast maps, the smallest first."""
    measured = timings.by_trial[trial.number]
    size = 0 if measured.has_int8 else measured.size_bytes
    return (measured.has_int8, size, *_loss(trial, limits), measured.ms, trial.number)


def _loss(trial: Trial, limits: Sequence[Limit]) -> tuple[float, float]:
    """The loss of score against FP32, then the damage; a score better than FP32's is no gain.

    Noise can lower the distance to real images while it damages the pictures.
    """
    limit = limits[0]
    score = usable_score(trial, limit.metric)
    loss = score if limit.lower_is_better else -score
    if math.isfinite(limit.baseline):
        loss = max(0.0, loss - (limit.baseline if limit.lower_is_better else -limit.baseline))
    guard = guard_among(limits)
    damage = None if guard is None else trial.score(guard.metric)
    return loss, 0.0 if damage is None or math.isnan(damage.value) else damage.value


def _badness(trial: Trial, metric: str) -> float:
    score = trial.score(metric)
    assert score is not None, "candidates have the score"
    return score.value if score.lower_is_better else -score.value


def _nothing_in_time(
    study: Study, timings: Timings, candidates: Sequence[Trial], limit_ms: float
) -> BudgetError:
    fastest = min(candidates, key=lambda trial: timings.by_trial[trial.number].ms)
    share, ms = int8_share(study, fastest), timings.by_trial[fastest.number].ms
    return BudgetError(
        f"no measured map runs in {limit_ms:g} ms on {timings.place}; the fastest is trial "
        f"{fastest.number} ({100 * share:.0f}% INT8) with {ms:.4g} ms",
        "allow a longer --latency-limit, or measure more maps: qsens bench RUN --maps all",
    )
