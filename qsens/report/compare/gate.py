"""The gate of a continuous-integration job: do later runs keep the INT8 of the first one?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qsens.core.errors import BudgetError
from qsens.core.maps import built_map, int8_share
from qsens.core.metric_names import Z95, images_needed
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Study, Trial
from qsens.report.compare.runs import ComparedRun, have_same_layers
from qsens.report.run_content import chosen_document
from qsens.selection.budget import Budget, Limit, parse_guard, told_apart
from qsens.selection.choose import Selection, candidates_of, limits_of, selection_of, violation


@dataclass(frozen=True)
class GateLimits:
    """The limits of a gate: the texts of a budget and a guard, and the metric that the budget is on."""

    budget: str
    guard: str | None
    metric: str


@dataclass(frozen=True)
class GateResult:
    """The answer for the run `label`: does it keep the first run's INT8 within the limits, and why."""

    label: str
    is_kept: bool
    text: str


def gate_of(runs: Sequence[ComparedRun], limits: GateLimits) -> tuple[GateResult, ...]:
    """Hold every later run to the first run's chosen map.

    A run passes if it scored that map and the score is within the limits of its own FP32. Where it has
    other layers or did not score that map, it passes if some map within the limits has as much INT8.

    Raises:
        BudgetError: if the first run has no chosen map.
        SpecError: for limits that cannot be read on the scores.
    """
    first = runs[0]
    if first.chosen is None:
        raise BudgetError(
            f"{first.label} has no map within {limits.budget} itself: there is nothing to keep",
            "give a larger --budget, or another run first",
        )
    return tuple(_result(first, first.chosen, run, limits) for run in runs[1:])


def released_run(run: ComparedRun, limits: GateLimits) -> ComparedRun:
    """The run with the map that `qsens select` wrote into its folder, where that is within the limits.

    Raises:
        SpecError: if that file is damaged.
    """
    document = chosen_document(run.path, run.study)
    if document is None:
        return run
    released = next(trial for trial in run.study.scored() if trial.number == document["trial"])
    is_within = violation(released, limits_of_gate(run, limits)) <= 0
    return replace(run, chosen=released) if is_within else run


def limits_of_gate(run: ComparedRun, limits: GateLimits) -> tuple[Limit, ...]:
    """The limits on the scores of one run."""
    guard = parse_guard(limits.guard)
    return limits_of(run.study, Budget.parse(limits.budget), guard, limits.metric)


def _result(first: ComparedRun, chosen: Trial, run: ComparedRun, limits: GateLimits) -> GateResult:
    same = (
        _trial_of_map(run.study, built_map(chosen), limits.metric) if have_same_layers((first, run)) else None
    )
    if same is not None:
        return _result_of_map(first, run, same, limits)
    reason = "did not score that map" if have_same_layers((first, run)) else "has other layers"
    wanted = int8_share(first.study, chosen)
    found = None if run.selection is None else run.selection.int8_macs_share
    has = "no map within the budget" if found is None else f"{100 * found:.1f}% INT8 within the budget"
    text = f"{run.label} {reason}; it has {has}, {first.label} has {100 * wanted:.1f}%"
    return GateResult(run.label, found is not None and found >= wanted, text)


def _result_of_map(first: ComparedRun, run: ComparedRun, trial: Trial, limits: GateLimits) -> GateResult:
    found = limits_of_gate(run, limits)
    selection = selection_of(run.study, trial, (), found)
    is_kept = violation(trial, found) <= 0
    share = f"the map of {first.label} ({100 * selection.int8_macs_share:.1f}% INT8)"
    parts = [f"{share} {'is within' if is_kept else 'is beyond'} the budget on {run.label}"]
    for limit in found:
        score = trial.score(limit.metric)
        if score is not None and (is_kept or limit.excess(score.value) > 0):
            word = "at most" if limit.lower_is_better else "at least"
            shown, allowed = f"{score.value:.4g}", f"{limit.threshold:.4g}"
            if not is_kept:
                shown, allowed = told_apart(score.value, limit.threshold)
            parts.append(f"{limit.metric} {shown}, {word} {allowed} allowed")
    return GateResult(run.label, is_kept, "; ".join([*parts, *_doubt(selection)]))


def _doubt(selection: Selection) -> list[str]:
    """A sentence where the interval of the difference from FP32 reaches over the limit, else nothing."""
    score = selection.trial.score(selection.limit.metric)
    error = None if score is None else score.difference_standard_error or score.standard_error
    if score is None or not error or abs(selection.excess) > Z95 * error:
        return []
    text = "its 95% interval reaches over the limit"
    if selection.excess == 0:
        return [text]
    needed = images_needed(error, score.images, abs(selection.excess))
    return [f"{text}, about {needed:,} samples instead of {score.images:,} would tell (--evaluation-samples)"]


def _trial_of_map(study: Study, wanted: PrecisionMap, metric: str) -> Trial | None:
    names = [layer.name for layer in study.layers]
    assignment = wanted.assignment(names)
    trials = candidates_of(study, metric)
    return next((trial for trial in trials if built_map(trial).assignment(names) == assignment), None)
