"""The budget: the largest loss of score that a map may have against FP32."""

import math
import re
from dataclasses import dataclass

from qsens.core.errors import SpecError
from qsens.core.schema import shown

# Where a run states no budget: the share of FP32's distance to real images that may be lost.
DEFAULT_BUDGET = "5%"
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*")


@dataclass(frozen=True)
class Budget:
    """The largest loss of score against FP32: points of the metric, or a share of FP32's score."""

    amount: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `2.0` (points) or `5%` (of FP32's score). Raises `SpecError` for anything else."""
        match = _AMOUNT.fullmatch(text)
        if match is None or not math.isfinite(float(match[1])):
            raise SpecError(
                f"cannot read the budget {shown(text)}",
                "write points (2.0), a share of FP32's score (5%), or the least dB of PSNR (35)",
            )
        return cls(float(match[1]) / (100 if match[2] else 1), bool(match[2]))

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.is_share else f"{self.amount:g}"

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
            raise SpecError(f"{self} of FP32's {metric} ({baseline:g}) is no amount", hint)
        return self.amount * abs(baseline)


@dataclass(frozen=True)
class Limit:
    """The limit that a map must keep to: `metric` at most `points` worse than `baseline`.

    Where FP32's score is infinite (PSNR against itself) `points` is the least acceptable score itself.
    """

    metric: str
    baseline: float
    points: float
    lower_is_better: bool

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
