"""From no loss to much: FP32, the maps, the limit and familiar alterations in the order of one score."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from qsens.core.maps import anchor_trial
from qsens.core.metric_names import axis_title, format_value, headline_metrics, shown_value
from qsens.core.precision import Precision
from qsens.report.figures.yardstick_axis import yardstick_ticks
from qsens.report.page_content import PageContent
from qsens.report.page_text import escape


@dataclass(frozen=True)
class _Step:
    name: str
    value: float
    kind: str


def ladder_list(content: PageContent) -> str:
    """The steps as a list in HTML, best first; empty where there is nothing between FP32 and INT8."""
    metric = _metric_of(content)
    steps = [] if metric is None else [step for step in _steps(content, metric) if not math.isnan(step.value)]
    fp32 = content.study.anchors.get(Precision.FP32)
    own = None if metric is None or fp32 is None else fp32.score(metric)
    if metric is None or own is None or len(steps) < 3:
        return ""
    steps.sort(key=lambda step: step.value, reverse=not own.lower_is_better)
    items = "".join(
        f'<li class="{step.kind}">{escape(step.name)} <small>{format_value(step.value, 3)}</small></li>'
        for step in steps
    )
    title = escape(f"From no loss to more, by {axis_title(metric)}")
    has_alterations = any(step.kind == "alteration" for step in steps)
    note = " JPEG and the like: FP32's own pictures after that." if has_alterations else ""
    return f'<p class="faint">{title}.{note}</p><ol class="ladder" aria-label="{title}">{items}</ol>'


def _metric_of(content: PageContent) -> str | None:
    """The score that the choice went by: the last of its limits, else the first score."""
    headline = headline_metrics(content.study.metrics)
    limited = [metric for metric in headline if metric in content.limits]
    return next(iter((*limited, *headline)), None)


def _steps(content: PageContent, metric: str) -> Iterator[_Step]:
    study, limit = content.study, content.limits.get(metric)
    int8, fp32 = (anchor_trial(study, precision) for precision in (Precision.INT8, Precision.FP32))
    maps = [("FP32", fp32, "fp32"), ("INT8 everywhere", int8, "int8")]
    if content.chosen is not None and content.chosen not in (int8, fp32):
        maps.append(("chosen map", content.chosen, "chosen"))
    for name, trial, kind in maps:
        score = None if trial is None else trial.score(metric)
        if score is not None:
            yield _Step(name, shown_value(metric, score.value), kind)
    threshold = math.nan if limit is None or not math.isfinite(limit.threshold) else limit.threshold
    ticks = yardstick_ticks(study, metric)
    allowed = [tick.title for tick in ticks if math.isclose(tick.value, threshold)]
    for tick in ticks:
        if tick.title not in allowed:
            yield _Step(tick.title, tick.value, "alteration")
    yield _Step(": ".join(["limit", *allowed]), threshold, "limit")
