"""The evidence of a study's trials about the limits that a chosen map keeps to, as sets of INT8 layers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from qsens.core.maps import anchor_trial, built_map
from qsens.core.metric_names import Z95
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.selection.budget import Limit, told_apart

_ERROR_LENGTH = 160
# A chosen map that costs less than this share of what is allowed says nothing of how screens scale.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class LimitCheck:
    """A score against its limit.

    `threshold` is the worst acceptable value on the same images: of a screen it starts from what FP32 scores
    there. `half_width` is half the 95% interval of the difference from FP32, `None` where unknown.
    """

    limit: Limit
    value: float
    threshold: float
    half_width: float | None
    images: int
    is_screen: bool

    @property
    def excess(self) -> float:
        """The distance beyond the limit; infinite where the score is not a number."""
        if math.isnan(self.value):
            return math.inf
        if self.value == self.threshold:
            return 0.0
        return self.value - self.threshold if self.limit.lower_is_better else self.threshold - self.value

    @property
    def cost(self) -> float:
        """The loss of score against FP32; not finite for scores that FP32 has no finite value of."""
        return self.excess + self.limit.points if math.isfinite(self.limit.baseline) else math.nan

    @property
    def share(self) -> float:
        """The excess as a share of the limit's points, where these are an amount."""
        return self.excess / self.limit.points if 0 < self.limit.points < math.inf else self.excess

    @property
    def place(self) -> str:
        """The words that a score of a few images must be shown with; empty for one of all images."""
        return f" on {self.images} images" if self.is_screen else ""

    @property
    def measured(self) -> str:
        """The score without its limit."""
        if math.isnan(self.value):
            return f"{self.limit.metric}{self.place} is not a number"
        value = f"{self.value:.4g}" if self.limit.is_open else told_apart(self.value, self.threshold)[0]
        width = "" if self.half_width is None else f" ± {self.half_width:.2g}"
        return f"{self.limit.metric} {value}{width}{self.place}"

    def __str__(self) -> str:
        if math.isnan(self.value) or self.limit.is_open:
            return self.measured
        text = f"{self.measured}, limit {told_apart(self.value, self.threshold)[1]}"
        is_unclear = self.half_width is not None and abs(self.excess) <= self.half_width
        return f"{text}, cannot be told from the limit at this sample size" if is_unclear else text


@dataclass(frozen=True)
class MapTrial:
    """A trial as the set of its INT8 layers.

    `checks` are its scores by metric, none for a failed trial. For a screened trial `on_screen` are those
    of the chosen map on the same few images, and `on_all` its scores on all.
    """

    trial: Trial
    int8_layers: frozenset[str]
    checks: Mapping[str, LimitCheck]
    on_screen: Mapping[str, LimitCheck]
    on_all: Mapping[str, LimitCheck]

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def has_failed(self) -> bool:
        return self.trial.outcome is Outcome.FAILED

    @property
    def is_screen(self) -> bool:
        return self.trial.outcome is Outcome.SCREENED

    @cached_property
    def worst(self) -> LimitCheck | None:
        """The check that is furthest beyond its limit, or nearest to it."""
        return max(self.checks.values(), key=self._share, default=None)

    @cached_property
    def is_beyond(self) -> bool:
        """Failed, or beyond a limit.

        On a few images: by the ratio of the chosen map's costs on all images and there, where that can be
        told; else it must be worse there than the chosen map as well.
        """
        worst = self.worst
        if worst is None:
            return self.has_failed
        chosen = None if self.ratio(worst.limit) else self.on_screen.get(worst.limit.metric)
        return self._share(worst) > 0 and (chosen is None or worst.excess > chosen.excess)

    def __str__(self) -> str:
        if self.has_failed:
            message = (self.trial.error or "").strip() or "no message"
            return f"failed: {message.splitlines()[0][:_ERROR_LENGTH]}"
        worst = self.worst
        assert worst is not None, "map_trials() leaves out scored trials without a check"
        chosen = self.on_screen.get(worst.limit.metric)
        return f"{worst}" if chosen is None else f"{worst}; the chosen map has {chosen.value:.4g} there"

    def told(self, start: str) -> str:
        """A sentence from `start` on about the trial's score, with its number; scaled where it can be."""
        return self.estimated(start) or f"{start} (trial {self.number}): {self}"

    def estimated(self, start: str) -> str | None:
        """`told` of a screen, as about what all images would show; `None` where its scale is not known."""
        worst = self.worst
        ratio = None if worst is None else self.ratio(worst.limit)
        if worst is None or ratio is None or not math.isfinite(worst.cost):
            return None
        limit = worst.limit
        about = limit.baseline + ratio * worst.cost * (1 if limit.lower_is_better else -1)
        guess, allowed = told_apart(about, limit.threshold)
        where = f"trial {self.number}, from {worst.images} images"
        return f"{start} {limit.metric} about {guess} ({where}), limit {allowed}"

    @cached_property
    def seems_within(self) -> bool:
        """Within every limit, as far as the images of the trial can tell."""
        return self.worst is not None and self._share(self.worst) <= 0

    def _share(self, check: LimitCheck) -> float:
        """The excess on all images as a share of the limit's points, as far as a screen can tell."""
        ratio = self.ratio(check.limit)
        if ratio is None or not math.isfinite(check.cost):
            return check.share
        return ratio * check.cost / check.limit.points - 1

    def ratio(self, limit: Limit) -> float | None:
        """The chosen map's cost on all images, per cost on the few; `None` where that is not known."""
        few, every = self.on_screen.get(limit.metric), self.on_all.get(limit.metric)
        if few is None or every is None or not 0 < limit.points < math.inf:
            return None
        is_known = few.cost > 0 and every.cost > _LEAST_SHARE * limit.points
        return every.cost / few.cost if is_known else None


@dataclass(frozen=True)
class Limits:
    """The limits, and the trial of FP32, if there is one, whose scores they start from."""

    limits: tuple[Limit, ...]
    fp32: Trial | None

    def checks(self, scores: Iterable[Score], *, is_screen: bool) -> dict[str, LimitCheck]:
        """The scores that a limit is on, by metric; those against something else than FP32's are left out."""
        known = {score.metric: score for score in scores}
        found = {}
        for limit in self.limits:
            score = known.get(limit.metric)
            check = None if score is None else self._check(score, limit, is_screen=is_screen)
            if check is not None:
                found[limit.metric] = check
        return found

    def tried(self, study: Study, trial: Trial, chosen: Trial) -> MapTrial:
        """A trial beside the chosen one."""
        is_screen = trial.outcome is Outcome.SCREENED
        on_screen = self.checks(chosen.screen_scores, is_screen=True) if is_screen else {}
        on_all = self.checks(chosen.scores, is_screen=False) if is_screen else {}
        scores = () if trial.outcome is Outcome.FAILED else trial.scores
        checks = self.checks(scores, is_screen=is_screen)
        return MapTrial(trial, layers_in_int8(study, trial), checks, on_screen, on_all)

    def _check(self, score: Score, limit: Limit, *, is_screen: bool) -> LimitCheck | None:
        scores = () if self.fp32 is None else self.fp32.screen_scores if is_screen else self.fp32.scores
        baseline = next((entry for entry in scores if entry.metric == limit.metric), None)
        if baseline is not None and baseline.against != score.against:
            return None
        threshold: float | None = limit.threshold
        if is_screen and math.isfinite(limit.baseline) and limit.baseline != 0:
            threshold = _threshold_on_screen(score, baseline, limit)
        if threshold is None:
            return None
        return LimitCheck(limit, score.value, threshold, _half_width(score, limit), score.images, is_screen)


def map_trials(study: Study, chosen: Trial, measured_limits: Limits) -> tuple[MapTrial, ...]:
    """The maps that were tried and tell of the limits, each built map once; scores on all images first.

    Left out are the chosen trial, trials without a comparable score, and those that have FP16 where the
    chosen map has FP32, unless FP16 alone does no harm.
    """
    names = [layer.name for layer in study.layers]
    found: dict[tuple[Precision, ...], MapTrial] = {}
    fp16 = anchor_trial(study, Precision.FP16)
    is_fp16_harmless = fp16 is not None and not measured_limits.tried(study, fp16, chosen).is_beyond
    mine = _assignment(chosen, names)
    ordered = sorted(study.trials, key=lambda trial: (trial.outcome is not Outcome.SCORED, trial.number))
    for trial in ordered:
        assignment = _assignment(trial, names)
        is_fair = is_fp16_harmless or not any(
            one is Precision.FP16 and other is Precision.FP32
            for one, other in zip(assignment, mine, strict=True)
        )
        if trial.number != chosen.number and is_fair and assignment not in found:
            tried = measured_limits.tried(study, trial, chosen)
            if tried.checks or tried.has_failed:
                found[assignment] = tried
    return tuple(sorted(found.values(), key=lambda tried: (tried.is_screen, tried.number)))


def layers_in_int8(study: Study, trial: Trial) -> frozenset[str]:
    """The layers that ran in INT8."""
    built = built_map(trial).assignment(layer.name for layer in study.layers)
    return frozenset(name for name, precision in built.items() if precision is Precision.INT8)


def _assignment(trial: Trial, names: Sequence[str]) -> tuple[Precision, ...]:
    return tuple(built_map(trial).assignment(names).values())


def _threshold_on_screen(score: Score, baseline: Score | None, limit: Limit) -> float | None:
    points = limit.points if limit.lower_is_better else -limit.points
    if score.difference is not None:
        return score.value - score.difference + points
    return None if baseline is None else baseline.value + points


def _half_width(score: Score, limit: Limit) -> float | None:
    """Of the difference from FP32; a score that is such a difference itself has it as its own."""
    error = score.difference_standard_error
    if error is None and (limit.baseline == 0 or not math.isfinite(limit.baseline)):
        error = score.standard_error
    return Z95 * error if error and math.isfinite(error) else None
