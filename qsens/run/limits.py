"""The limits of a sweep before it begins: checked on the scores that it has, and said as they are read."""

from collections.abc import Sequence

from qsens.core.errors import SpecError
from qsens.core.interfaces import Metric, Role
from qsens.core.metric_names import base_name, facts_of, first_of_role
from qsens.selection.budget import Budget, limit_text, parse_guard
from qsens.selection.choose import guard_without_score


def check_limits(budget: str | None, guard: str | None, metrics: Sequence[str]) -> None:
    """Check that a budget and a guard can be read on the scores of `metrics`, before anything is scored.

    Raises:
        SpecError: for an amount that cannot be read, a share of a score that FP32 does not have, or a guard
            without the score it is on.
    """
    if guard is not None and first_of_role(metrics, Role.FP32_DISTANCE) is None:
        raise guard_without_score(guard)
    headline = first_of_role(metrics, *Role)
    parts = [] if budget is None else list(Budget.parse(budget).parts)
    parts += filter(None, [parse_guard(guard)])
    for part in parts:
        metric = headline if part.metric is None else base_name(part.metric)
        if part.metric is not None and metric not in metrics:
            raise SpecError(
                f"a budget on {part.metric!r}, which is not scored",
                f"scored: {', '.join(metrics)}; distances to real images need --reference",
            )
        of_fp32 = None if metric is None else facts_of(metric).of_fp32
        if metric is not None and of_fp32 is not None and part.alteration is None and not part.is_level:
            # Pictures against themselves have the best score there is.
            part.points(metric, of_fp32)


def limit_texts(budget: str | None, metrics: Sequence[Metric]) -> list[str]:
    """Each budget of a sweep as it is read: `ssim at least 0.99`."""
    by_name = {metric.name: metric for metric in metrics}
    headline = first_of_role(by_name, *Role)
    found = []
    for part in () if budget is None else Budget.parse(budget).parts:
        metric = by_name.get(base_name(part.metric or headline or ""))
        if metric is not None:
            of_fp32 = facts_of(metric.name).of_fp32
            found.append(
                limit_text(part, metric.name, lower_is_better=metric.lower_is_better, of_fp32=of_fp32)
            )
    return found
