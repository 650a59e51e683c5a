"""Differences between runs: the same maps and the chosen ones, with paired intervals where inputs agree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from qsens.core.maps import anchor_name, anchor_trial
from qsens.core.metric_names import Z95
from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.report.comparable import Scored, scored_trials
from qsens.report.compare.metrics import SharedMetric
from qsens.report.compare.runs import ComparedRun
from qsens.run.paired_errors import ContrastError, Term
from qsens.run.paths import RunPaths

CHOSEN = "chosen map"
# Sums of another number of threads, or of another library version, differ by less than this share.
ROUNDING = 1e-6


class Verdict(StrEnum):
    """The judgement on a difference: the later run is better, worse, the same, or it cannot be told."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    NONE = "no difference at this sample size"
    UNKNOWN = "no interval known"


@dataclass(frozen=True)
class Difference:
    """The difference of the run `label` from the first run on one metric.

    `subject` says of what: a map (`FP32`, `all INT8` or `INT8 where it can be`, `chosen map`), or what a map
    loses against its own FP32 (`loss of all INT8`). `value` is later minus first, `half_width` half of its
    95% interval, `None` where unknown. `is_paired` says that both runs scored the same inputs and that the
    interval is of the difference itself; else the errors of both were added as if independent.
    """

    metric: str
    label: str
    subject: str
    value: float
    half_width: float | None
    is_paired: bool
    verdict: Verdict


def shown_maps(run: ComparedRun, metric: str, anchors: Mapping[Precision, str]) -> dict[str, Scored]:
    """The uniform maps and the chosen one with their scores, by name, in this order; absent ones left out.

    `anchors` are the names of the uniform ones.
    """
    scored = {entry.trial.number: entry for entry in scored_trials(run.study, metric)}
    trials: dict[str, Trial | None] = {
        name: anchor_trial(run.study, precision) for precision, name in anchors.items()
    }
    trials[CHOSEN] = run.chosen
    return {
        name: scored[trial.number]
        for name, trial in trials.items()
        if trial is not None and trial.number in scored
    }


def anchor_names(runs: Sequence[ComparedRun]) -> dict[Precision, str]:
    """The names of the uniform maps, the same in every run."""
    layers = [layer for run in runs for layer in run.study.layers]
    return {precision: anchor_name(precision, layers) for precision in Precision}


def differences_of(
    runs: Sequence[ComparedRun], metric: SharedMetric, contrast: ContrastError
) -> tuple[Difference, ...]:
    """Every later run against the first one, map by map; `contrast` makes the paired intervals.

    What the uniform and the chosen maps lose against their own FP32 is compared too, where the FP32 scores
    differ.
    """
    first, name = runs[0], metric.name
    anchors = anchor_names(runs)
    before = shown_maps(first, name, anchors)
    found = []
    for run in runs[1:]:
        after = shown_maps(run, name, anchors)
        common = [subject for subject in before if subject in after]
        for subject in common:
            sides = _Sides(run, first, [(1, after[subject])], [(1, before[subject])])
            found.append(_difference(metric, subject, sides, contrast))
        has_two_fp32 = "FP32" in common and not _is_same(after["FP32"].value, before["FP32"].value)
        for subject in common[1:] if has_two_fp32 else ():
            later, earlier = ([(1, maps[subject]), (-1, maps["FP32"])] for maps in (after, before))
            sides = _Sides(run, first, later, earlier)
            found.append(_difference(metric, f"loss of {subject}", sides, contrast))
    return tuple(entry for entry in found if math.isfinite(entry.value))


def have_same_inputs(one: ComparedRun, other: ComparedRun) -> bool:
    """Whether both runs scored the same inputs in the same order, by the digest of the evaluation set."""
    digest = one.contents.get("evaluation")
    return digest is not None and digest == other.contents.get("evaluation")


@dataclass(frozen=True)
class _Sides:
    """The scores of the later and of the first run, each with its sign within its run."""

    run: ComparedRun
    first: ComparedRun
    later: Sequence[tuple[int, Scored]]
    earlier: Sequence[tuple[int, Scored]]

    @property
    def value(self) -> float:
        return _total(self.later) - _total(self.earlier)

    @property
    def is_same(self) -> bool:
        """Whether both sides hold the same scores, up to rounding."""
        pairs = zip(self.later, self.earlier, strict=True)
        return all(_is_same(one.value, other.value) for (_, one), (_, other) in pairs)

    @property
    def terms(self) -> tuple[Term, ...]:
        """All scores as terms of one sum, which is `value`."""
        later, earlier = RunPaths(self.run.path).evidence, RunPaths(self.first.path).evidence
        return (
            *(Term(sign, later, entry.trial) for sign, entry in self.later),
            *(Term(-sign, earlier, entry.trial) for sign, entry in self.earlier),
        )


def _is_same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING**2)


def _total(entries: Sequence[tuple[int, Scored]]) -> float:
    return sum(sign * entry.value for sign, entry in entries)


def _difference(metric: SharedMetric, subject: str, sides: _Sides, contrast: ContrastError) -> Difference:
    value = sides.value
    paired = contrast(metric.name, sides.terms) if have_same_inputs(sides.run, sides.first) else None
    error = _added_error(metric.name, sides) if paired is None else paired
    half = None if error is None else Z95 * error
    verdict = _verdict(value, half, lower_is_better=metric.lower_is_better)
    largest = max(abs(entry.value) for _, entry in (*sides.later, *sides.earlier))
    if sides.is_same and (half is None or half <= ROUNDING * largest):
        value, half, verdict = 0.0, None, Verdict.SAME
    return Difference(metric.name, sides.run.label, subject, value, half, paired is not None, verdict)


def _added_error(metric: str, sides: _Sides) -> float | None:
    """The errors of both sides as if independent; of a loss each side's is paired within its run."""
    is_loss = len(sides.later) > 1
    errors = []
    for (_, entry), *_rest in (sides.later, sides.earlier):
        score = entry.trial.score(metric)
        assert score is not None, "shown maps have a score"
        errors.append(score.difference_standard_error if is_loss else score.standard_error)
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return math.hypot(*known) if len(known) == len(errors) else None


def _verdict(value: float, half_width: float | None, *, lower_is_better: bool) -> Verdict:
    if value == 0 and not half_width:
        return Verdict.SAME
    if half_width is None:
        return Verdict.UNKNOWN
    if abs(value) <= half_width:
        return Verdict.NONE
    return Verdict.BETTER if (value < 0) is lower_is_better else Verdict.WORSE
