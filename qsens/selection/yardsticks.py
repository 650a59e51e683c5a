"""The meaning of scores, told by yardsticks: the alteration that costs as much, scores that hear too much."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from qsens.core.alterations import KINDS, Alteration, title_of
from qsens.core.interfaces import Role
from qsens.core.metric_names import (
    PSNR_CAP_DB,
    Z95,
    headline_metrics,
    images_needed,
    role_of,
    shown_value,
)
from qsens.core.schema import in_words
from qsens.core.trial import Score, Study, Trial, Yardstick, yardstick_of
from qsens.selection.budget import DEFAULT_BUDGET, Limit

# Nobody sees noise of so many grey levels, or rounding to 8 bits, which is a third of one.
_UNSEEN_LEVELS = 1.0


def ladder_of(study: Study) -> tuple[Yardstick, ...]:
    """The yardsticks of the kind that most of them are, JPEG where nothing else was asked for."""
    kinds = Counter(_kind(entry) for entry in study.yardsticks)
    if not kinds:
        return ()
    first = max(kinds, key=lambda kind: kinds[kind])
    return tuple(entry for entry in study.yardsticks if _kind(entry) == first)


def place_of(score: Score, ladder: Sequence[Yardstick]) -> str | None:
    """The steps of a ladder that cost as much as a score; `None` where none of them has that score.

    As much is what the 95 % intervals of both differences from FP32 cannot tell apart, as if independent.
    `None` too where a step does the score good, or cannot be told from FP32: it is no scale there.
    """
    steps = [(found, entry) for entry in ladder if (found := entry.score(score.metric)) is not None]
    steps.sort(key=lambda step: _cost(step[0]))
    if not steps or math.isnan(score.value) or any(_cost(found) <= Z95 * _error(found) for found, _ in steps):
        return None
    nearest, entry = min(steps, key=lambda step: abs(_cost(step[0]) - _cost(score)))
    if abs(_cost(nearest) - _cost(score)) <= Z95 * math.hypot(_error(nearest), _error(score)):
        return f"about as much as {title_of(entry.alteration)}"
    titles = [title_of(entry.alteration) for _, entry in steps]
    worse = sum(_cost(found) < _cost(score) for found, _ in steps)
    if worse == 0:
        return f"less than {titles[0]}"
    less = "" if worse == len(steps) else f" and less than {titles[worse]}"
    return f"more than {titles[worse - 1]}{less}"


def place_sentence(study: Study, name: str, trial: Trial) -> str | None:
    """A sentence on what a map costs in familiar alterations, by the scores that matter; `None` without any.

    Where they do not agree, it says so.
    """
    ladder = ladder_of(study)
    places: dict[str, list[str]] = {}
    for metric in headline_metrics(study.metrics):
        score = trial.score(metric)
        place = None if score is None else place_of(score, ladder)
        if place is not None:
            places.setdefault(place, []).append(metric)
    if not places:
        return None
    told = "; ".join(f"{place} ({', '.join(metrics)})" for place, metrics in places.items())
    return f"{name} costs {told}{': these scores do not agree' if len(places) > 1 else ''}."


def place_sentences(study: Study, named: Sequence[tuple[str, Trial | None]]) -> list[str]:
    """`place_sentence` of each map that there is and that has one."""
    found = [place_sentence(study, name, trial) for name, trial in named if trial is not None]
    return [text for text in found if text is not None]


def hearing_sentence(study: Study, limits: Sequence[Limit]) -> str | None:
    """A sentence where noise that nobody sees uses up a limit, with what to use instead; `None` elsewhere."""
    noises = [entry for entry in study.yardsticks if _is_unseen(entry)]
    for noise in noises:
        heard = [limit for limit in limits if _is_beyond(noise, limit)]
        if heard:
            values = ", ".join(_against_limit(noise, limit) for limit in heard)
            name = title_of(noise.alteration).capitalize()
            return (
                f"{name}, which nobody sees, uses up the budget ({values}): for these pictures that is too "
                f"sharp an ear. {_instead(study, noise, heard)}"
            )
    return None


def _instead(study: Study, noise: Yardstick, heard: Sequence[Limit]) -> str:
    deaf = {limit.metric for limit in heard}
    word = next((str(limit.alteration) for limit in heard if limit.alteration), DEFAULT_BUDGET)
    allowed = yardstick_of(study.yardsticks, word)
    fitting = [
        score.metric
        for score in noise.scores
        if score.metric not in deaf
        and allowed is not None
        and (most := allowed.score(score.metric)) is not None
        and abs(_cost(score)) < abs(_cost(most))
    ]
    if fitting:
        return f"Of the scores of this run {in_words(fitting)} would do: --budget {fitting[0]}={word}."
    return "Score with --metric psnr or another --extractor too, and put the budget there."


def fineness_notes(study: Study, limits: Sequence[Limit]) -> Iterator[str]:
    """A sentence on each limit by an alteration that these images cannot tell from FP32."""
    for limit in limits:
        found = yardstick_of(study.yardsticks, limit.alteration)
        score = None if found is None else found.score(limit.metric)
        if limit.alteration is None or score is None or not math.isfinite(limit.baseline):
            continue
        if limit.excess(score.value) + limit.points < 0:
            yield (
                f"{limit.alteration.title} does {limit.metric} good here ({score.value:.4g}, FP32 "
                f"{limit.baseline:.4g}): as much loss is allowed as it moves the score, {limit.points:.2g}."
            )
        if Z95 * _error(score) > limit.points > 0:
            needed = images_needed(_error(score), score.images, limit.points)
            yield (
                f"{limit.alteration.title} costs {limit.points:.2g} ± {Z95 * _error(score):.2g} of "
                f"{limit.metric}: these {score.images:,} images cannot tell it from FP32, about {needed:,} "
                "would (--evaluation-samples)."
            )


def _is_unseen(entry: Yardstick) -> bool:
    return _kind(entry) == "noise" and Alteration.parse(entry.alteration).amount <= _UNSEEN_LEVELS


def _is_beyond(entry: Yardstick, limit: Limit) -> bool:
    score = entry.score(limit.metric)
    return score is not None and not limit.is_open and limit.excess(score.value) > 0


def _against_limit(entry: Yardstick, limit: Limit) -> str:
    score = entry.score(limit.metric)
    assert score is not None, "what is beyond a limit has a score"
    return f"{limit.metric} {shown_value(limit.metric, score.value):.4g}, allowed {limit.threshold:.4g}"


def _kind(entry: Yardstick) -> str:
    kind = entry.alteration.partition(":")[0]
    return kind if kind in KINDS else ""


def _cost(score: Score) -> float:
    """The loss against FP32, negative for a gain; of decibels, which have none, what grows with it."""
    if role_of(score.metric) is Role.DECIBELS:
        return PSNR_CAP_DB - min(score.value, PSNR_CAP_DB)
    loss = score.value if score.difference is None else score.difference
    return loss if score.lower_is_better else -loss


def _error(score: Score) -> float:
    error = score.difference_standard_error or score.standard_error or 0.0
    return error if math.isfinite(error) else 0.0
