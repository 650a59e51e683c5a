"""The share of the budget that a trial uses: 0 is FP32's score, 1 the worst acceptable one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsens.core.layer import Layer
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.selection.budget import Budget, Limit
from qsens.selection.choose import limits_of


@dataclass(frozen=True)
class BudgetShare:
    """A share of the budget, 0 or more, infinite where a score is missing; with its standard error."""

    share: float
    error: float


@dataclass(frozen=True)
class BudgetUse:
    """Reads the use of the budget, and of the guard where there is one, from scores: the larger counts.

    `of_screen` are FP32's scores on the samples of a screen. Shares are divided by `unit`.
    """

    limits: tuple[Limit, ...]
    of_screen: tuple[Score, ...]
    unit: float = 1.0

    @classmethod
    def of_run(
        cls, layers: Sequence[Layer], trials: Sequence[Trial], budget: Budget, guard: Budget | None
    ) -> "BudgetUse":
        """Limits from the scores of FP32, which is the first trial. Raises `SpecError` if they have none."""
        study = Study("", tuple(layers), tuple(trials))
        return cls(limits_of(study, budget, guard, None), trials[0].screen_scores)

    def full(self, trial: Trial) -> BudgetShare | None:
        """The use of a trial that was scored on all samples; `None` for another one."""
        return self._use(trial.scores, ()) if trial.outcome is Outcome.SCORED else None

    def screened(self, trial: Trial) -> BudgetShare | None:
        """The use on the samples of a screen; `None` where it is not known."""
        scores = trial.scores if trial.outcome is Outcome.SCREENED else trial.screen_scores
        return self._use(scores, self.of_screen) if scores else None

    def _use(self, scores: Sequence[Score], fp32: Sequence[Score]) -> BudgetShare:
        by_name = {score.metric: score for score in scores}
        bases = {score.metric: score.value for score in fp32}
        uses = [_use_of(by_name.get(limit.metric), limit, bases) for limit in self.limits]
        largest = max(uses, key=lambda use: use.share)
        return BudgetShare(largest.share / self.unit, largest.error / self.unit)


def _use_of(score: Score | None, limit: Limit, bases: dict[str, float]) -> BudgetShare:
    if score is None or math.isnan(score.value):
        return BudgetShare(math.inf, 0.0)
    if not math.isfinite(limit.baseline):
        return _use_of_decibels(score, limit)
    worse = score.difference
    if worse is None:
        worse = score.value - bases.get(score.metric, limit.baseline)
    if not limit.lower_is_better:
        worse = -worse
    error = _error_of(score)
    # A budget of nothing is kept by what is no worse, and used up by anything else.
    if limit.points == 0:
        return BudgetShare(math.inf if worse > 0 else 0.0, 0.0)
    return BudgetShare(max(worse, 0.0) / limit.points, error / limit.points)


def _use_of_decibels(score: Score, limit: Limit) -> BudgetShare:
    """Decibels do not add; the squared errors that they stand for do."""
    if math.isinf(limit.points):
        return BudgetShare(math.inf, 0.0)
    share = 10.0 ** ((limit.threshold - score.value) / 10.0)
    error = _error_of(score)
    # The error of the score times the slope of the share.
    return BudgetShare(share, share * math.log(10.0) / 10.0 * error)


def _error_of(score: Score) -> float:
    """The standard error of the difference from FP32, else that of the score; 0 where neither is known."""
    error = score.difference_standard_error or score.standard_error or 0.0
    return error if math.isfinite(error) else 0.0
