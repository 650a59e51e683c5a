"""The budget: the largest losses of score that a map may have against FP32; read from texts here only."""

import math
import re
from dataclasses import dataclass, replace

from qsens.core.errors import SpecError
from qsens.core.schema import shown

# Where a run states no budget: the share of FP32's distance to real images that may be lost.
DEFAULT_BUDGET = "5%"
_PART = re.compile(r"\s*(?:([A-Za-z][\w.-]*(?:\[[^\]]*\])?)\s*=)?\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*")
_FORMS = "write points (2.0), a share of FP32's score (5%), or the least dB of PSNR (35)"


@dataclass(frozen=True)
class Budget:
    """The largest loss of score against FP32: points of the metric, or a share of FP32's score.

    `metric` is the score it is on, `None` for the one that a run's choice goes by. `also` are budgets on
    other scores that hold at the same time.
    """

    amount: float
    is_share: bool = False
    metric: str | None = None
    also: tuple["Budget", ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `2.0` (points), `5%` (of FP32's score), `psnr=45`, or several of them with commas between.

        Raises:
            SpecError: for anything else, or two budgets on one score.
        """
        first, *others = (_read_part(part, text) for part in text.split(","))
        found = replace(first, also=tuple(others))
        names = [part.metric for part in found.parts]
        twice = next((name for name in names if names.count(name) > 1), "")
        if twice != "":
            raise two_budgets(twice or "the same score", found)
        return found

    @classmethod
    def parse_one(cls, text: str, what: str) -> "Budget":
        """Read a single amount for `what`, which is on a score of its own. Raises `SpecError` for others."""
        found = cls.parse(text)
        if found.also or found.metric:
            raise SpecError(f"{what} is one amount on a score of its own, not {found}", _FORMS)
        return found

    @property
    def parts(self) -> tuple["Budget", ...]:
        """Each budget by itself: this one, then the others that hold too."""
        return (replace(self, also=()), *self.also)

    def __str__(self) -> str:
        amount = f"{100 * self.amount:g}%" if self.is_share else f"{self.amount:g}"
        name = "" if self.metric is None else f"{self.metric}="
        return ", ".join([f"{name}{amount}", *map(str, self.also)])

    def points(self, metric: str, baseline: float) -> float:
        """The budget in points of the metric.

        Raises:
            SpecError: for a share of a score that is zero or infinite.
        """
        if not self.is_share:
            return self.amount
        if baseline == 0 or not math.isfinite(baseline):
            hint = "give it in points, for example 2.0"
            if not math.isfinite(baseline):
                hint = "give the least acceptable score in points, for example 35 (dB)"
            raise SpecError(f"{100 * self.amount:g}% of FP32's {metric} ({baseline:g}) is no amount", hint)
        return self.amount * abs(baseline)


def _read_part(part: str, text: str) -> Budget:
    match = _PART.fullmatch(part)
    if match is None or not math.isfinite(float(match[2])):
        raise SpecError(
            f"cannot read the budget {shown(text)}",
            f"{_FORMS}; of several scores NAME=X each: fid=5%,psnr=35",
        )
    return Budget(float(match[2]) / (100 if match[3] else 1), bool(match[3]), match[1])


def parse_guard(text: str | None) -> Budget | None:
    """Read the guard, an amount on a score of its own; `None` where there is none. Raises `SpecError`."""
    return None if text is None else Budget.parse_one(text, "a guard")


def two_budgets(metric: str, budget: Budget) -> SpecError:
    """The refusal of two budgets on one score, of which neither says that the other one is meant."""
    return SpecError(
        f"two budgets on {metric}: {budget}", "give each score one: --budget fid=5% --budget psnr=35"
    )


@dataclass(frozen=True)
class Limit:
    """The limit that a map must keep to: `metric` at most `points` worse than `baseline`.

    Where FP32's score is infinite (PSNR against itself) `points` is the least acceptable score itself.
    `share` is that of a budget such as 5%, `None` for points. `is_guard`: it is on the distance from the
    FP32 outputs, beside the budget.
    """

    metric: str
    baseline: float
    points: float
    lower_is_better: bool
    is_guard: bool = False
    share: float | None = None

    @property
    def threshold(self) -> float:
        """The worst acceptable score."""
        if not math.isfinite(self.baseline):
            return self.points
        return self.baseline + (self.points if self.lower_is_better else -self.points)

    @property
    def is_open(self) -> bool:
        """Whether every score is within it."""
        return math.isinf(self.points) or (self.points == 0 and not math.isfinite(self.baseline))

    def excess(self, value: float) -> float:
        """The distance of a score beyond the threshold; zero or negative is within."""
        if value == self.threshold:
            return 0.0
        return value - self.threshold if self.lower_is_better else self.threshold - value


def told_apart(value: float | None, limit: float) -> tuple[str, str]:
    """Both as texts of four significant digits, or of as many as they need to differ."""
    if value is None:
        return "unknown", f"{limit:.4g}"
    pairs = ((f"{value:.{digits}g}", f"{limit:.{digits}g}") for digits in range(4, 17))
    return next((pair for pair in pairs if pair[0] != pair[1]), (repr(value), repr(limit)))


def no_budget(strategy: str) -> SpecError:
    """The refusal of a strategy that searches within a budget where there is none."""
    return SpecError(
        f"{strategy} searches within a budget, and there is none",
        "add --budget 2.0 (points worse than FP32), or real images with --reference for a default",
    )
