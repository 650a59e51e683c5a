"""The budget: the largest losses of score that a map may have against FP32; read from texts here only."""

import math
import re
from dataclasses import dataclass, replace

from qsens.core.alterations import KINDS, Alteration, alterations_text
from qsens.core.errors import SpecError
from qsens.core.interfaces import Role
from qsens.core.metric_names import base_name, facts_of, role_of
from qsens.core.plugins import names
from qsens.core.schema import shown
from qsens.core.spec import SweepSpec

# Where a run states no budget. Nobody sees what JPEG 95 does: ColorVideoVDP finds no visible difference.
DEFAULT_BUDGET = "jpeg:95"
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_PART = re.compile(
    rf"\s*(?:([A-Za-z][\w.-]*(?:\[[^\]]*\])?)\s*=)?\s*(?:({_NUMBER})\s*(%?)|([A-Za-z][\w.-]*:[^,]*))\s*"
)
_FORMS = (
    "write an alteration that may be as bad (jpeg:95), points (2.0), a share of FP32's score (5%), or the "
    "least dB of PSNR (35)"
)


@dataclass(frozen=True)
class Budget:
    """The largest loss of score against FP32: points of the metric, or a share of FP32's score.

    With an `alteration` it is the loss of FP32's own pictures by that, whatever that is on a metric; with
    `is_level` the loss down to the score `amount` itself. `metric` is the score it is on, `None` for the one
    that a run's choice goes by. `also` are budgets on other scores that hold at the same time.
    """

    amount: float
    is_share: bool = False
    metric: str | None = None
    also: tuple["Budget", ...] = ()
    alteration: Alteration | None = None
    is_level: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read a budget in words, or several with commas between.

        `jpeg:95` (what that alteration costs), `jod:9.9` (the score of that name at that value), `2.0`
        (points), `5%` (of FP32's score); with the name of a score in front: `psnr=45`, `fid=jpeg:95`.

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
        return ", ".join([self._own_text(), *map(str, self.also)])

    def _own_text(self) -> str:
        if self.is_level:
            return f"{self.metric}:{self.amount:g}"
        amount = f"{100 * self.amount:g}%" if self.is_share else f"{self.amount:g}"
        name = "" if self.metric is None else f"{self.metric}="
        return f"{name}{amount if self.alteration is None else self.alteration}"

    def points(self, metric: str, baseline: float) -> float:
        """The budget in points of the metric, where it is points or a share.

        Raises:
            SpecError: for a share of a score that is zero or infinite, or points that would leave less than
                half of the best score that there is: more likely they are the least acceptable score.
        """
        if not self.is_share:
            best = facts_of(metric).of_fp32
            if best is not None and math.isfinite(best) and self.amount > best / 2 > 0:
                raise _likely_a_level(self.amount, metric, best)
            return self.amount
        if baseline == 0 or not math.isfinite(baseline):
            hint = "give it in points, for example 2.0"
            if not math.isfinite(baseline):
                hint = "give the least acceptable score in points, for example 35 (dB)"
            raise SpecError(f"{100 * self.amount:g}% of FP32's {metric} ({baseline:g}) is no amount", hint)
        return self.amount * abs(baseline)


def limit_text(part: Budget, metric: str, *, lower_is_better: bool, of_fp32: float | None) -> str:
    """A budget on one score as it is read; `of_fp32` is FP32's own score where that is known before a run.

    >>> limit_text(Budget.parse("ssim=0.01"), "ssim", lower_is_better=False, of_fp32=1.0)
    'ssim at least 0.99'
    >>> limit_text(Budget.parse("5%"), "fid", lower_is_better=True, of_fp32=None)
    "fid at most 5% above FP32's"
    """
    word, beside = ("at most", "above") if lower_is_better else ("at least", "below")
    if part.alteration is not None:
        return f"{metric} no worse than after {part.alteration}"
    if part.is_level or of_fp32 == math.inf:
        return f"{metric} {word} {part.amount:g}"
    if part.is_share or of_fp32 is None:
        amount = f"{100 * part.amount:g}%" if part.is_share else f"{part.amount:g}"
        return f"{metric} at most {amount} {beside} FP32's"
    return f"{metric} {word} {of_fp32 + (part.amount if lower_is_better else -part.amount):g}"


def _likely_a_level(amount: float, metric: str, best: float) -> SpecError:
    name = base_name(metric)
    return SpecError(
        f"{name}={amount:g} would allow {amount:g} less than FP32's {best:.4g}",
        f"for a score of at least {amount:g} write {name}:{amount:g}; for a loss of points write {name}=X, "
        f"with X up to {best / 2:.3g}",
    )


def _read_part(part: str, text: str) -> Budget:
    match = _PART.fullmatch(part)
    if match is not None and match[4] is not None:
        return _read_word(match[1], match[4].strip())
    if match is None or not math.isfinite(float(match[2])):
        raise SpecError(
            f"cannot read the budget {shown(text)}",
            f"{_FORMS}; of several scores NAME=X each: fid=jpeg:95,psnr=35",
        )
    return Budget(float(match[2]) / (100 if match[3] else 1), bool(match[3]), match[1])


def _read_word(metric: str | None, word: str) -> Budget:
    name, _, number = word.partition(":")
    if name in KINDS:
        return Budget(0.0, metric=metric, alteration=Alteration.parse(word))
    if metric is not None or name not in names("metrics"):
        raise SpecError(
            f"{shown(word)} names no alteration{'' if metric else ' and no score'}",
            f"alterations: {alterations_text()}; a score at a value: psnr:45",
        )
    if re.fullmatch(_NUMBER, number) is None:
        raise SpecError(f"{shown(number)} is no value of {name}", f"write NAME:VALUE, for example {name}:9.9")
    return Budget(float(number), metric=name, is_level=True)


def parse_guard(text: str | None) -> Budget | None:
    """Read the guard, an amount on a score of its own; `None` where there is none. Raises `SpecError`."""
    return None if text is None else Budget.parse_one(text, "a guard")


def stated_or_default(spec: SweepSpec) -> str:
    """The budget of a spec; without one what its delivery does, else the default."""
    return spec.budget or spec.delivery or DEFAULT_BUDGET


def two_budgets(metric: str, budget: Budget) -> SpecError:
    """The refusal of two budgets on one score, of which neither says that the other one is meant."""
    return SpecError(
        f"two budgets on {metric}: {budget}", "give each score one: --budget fid=5% --budget psnr=35"
    )


def budget_example(metric: str) -> str:
    """An example of a budget on a metric, with its meaning."""
    if role_of(metric) is Role.DECIBELS:
        return "--budget 35 (at least 35 dB)"
    if base_name(metric).endswith("-fp32"):  # FP32's own distance from itself is nothing to share
        return "--budget 2.0 (at most 2.0 away from FP32)"
    return "--budget 2.0 (at most 2.0 worse than FP32), or --budget 5% (of FP32's score)"


@dataclass(frozen=True)
class Limit:
    """The limit that a map must keep to: `metric` at most `points` worse than `baseline`.

    Where FP32's score is infinite (PSNR against itself) `points` is the least acceptable score itself.
    `share` is that of a budget such as 5%, `alteration` that of one such as jpeg:95; `None` for others.
    `is_guard`: it is on the distance from the FP32 outputs, beside the budget.
    """

    metric: str
    baseline: float
    points: float
    lower_is_better: bool
    is_guard: bool = False
    share: float | None = None
    alteration: Alteration | None = None

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
