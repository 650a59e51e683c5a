"""Chooses a map of a run within limits, and says what a reader of the choice must know beside it.

A search answers the question that it was asked: for other limits its trials may hold no good map, and the
best of them is then no answer. Nothing in the run folder is changed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qsens.core.errors import BudgetError, QsensError, SpecError
from qsens.core.layer import macs_share, uniform_map
from qsens.core.metric_names import find_metric, headline_metric
from qsens.core.precision import Precision
from qsens.core.spec import Options, SweepSpec
from qsens.core.trial import Study, untried
from qsens.run.evidence import load_audit
from qsens.run.floors import Floor, floors_of
from qsens.run.folder import read_provenance, read_run_spec
from qsens.run.loop import plan_maps
from qsens.run.open_plugins import open_strategy
from qsens.run.paired_errors import paired_errors
from qsens.run.paths import RunPaths
from qsens.run.slow_metrics import metrics_on_few
from qsens.run.start import kept_start
from qsens.selection.budget import Budget, parse_guard, stated_or_default
from qsens.selection.choose import Selection, cheapest_within, half_interval, has_scored, limits_of
from qsens.selection.choose_by_latency import best_within_time, fastest_within
from qsens.selection.precision_map_file import selection_document
from qsens.selection.timings import SAME_SHARE, Timings, check_table, read_latency_table, timings_of
from qsens.selection.yardsticks import fineness_notes, hearing_sentence

# A map with a smaller share of the multiply-accumulates in INT8 saves no time that anybody would notice.
LEAST_SAVING = 0.05


@dataclass(frozen=True)
class ChoiceWishes:
    """The wishes of a caller for a choice; `None` is left to the run.

    `latency` is a file of measured times, at `batch` samples; `latency_limit` is in milliseconds.
    """

    budget: str | None = None
    guard: str | None = None
    metric: str | None = None
    latency: Path | None = None
    batch: int | None = None
    latency_limit: float | None = None

    def of_run(self, spec: SweepSpec) -> SweepSpec:
        """The spec of a run with the limits that are wished for, else its own.

        A time limit takes the place of the run's own budget.
        """
        own = (stated_or_default(spec), spec.guard) if self.latency_limit is None else (None, None)
        return replace(spec, budget=self.budget or own[0], guard=self.guard or own[1])

    def aim(self, run: Path, study: Study) -> "Aim":
        """The score and the times to choose by. Raises `SpecError` for a file that is not of this run."""
        metric = headline_metric(study) if self.metric is None else find_metric(study, self.metric)
        if self.latency is None:
            if self.batch is not None or self.latency_limit is not None:
                flag = "--batch" if self.batch is not None else "--latency-limit"
                raise SpecError(f"{flag} needs measured times", "add --latency FILE of: qsens bench RUN")
            return Aim(metric)
        table = read_latency_table(self.latency)
        check_table(table, study, read_provenance(run).contents.get("graph"))
        return Aim(metric, timings_of(study, table, self.batch), self.latency_limit)


def choice_document(run: Path, study: Study, spec: SweepSpec, selection: Selection) -> dict[str, Any]:
    """The content of `precision_map.json` for a choice within the limits of `spec`."""
    trial = selection.trial
    audit = load_audit(RunPaths(run).evidence, trial.number, trial.digest_of("audit"))
    return selection_document(selection, study, spec, read_provenance(run), audit)


@dataclass(frozen=True)
class Aim:
    """The score that a budget without a name is on, and the times to choose by, at most `limit_ms`."""

    metric: str
    timings: Timings | None = None
    limit_ms: float | None = None


def choose_map_of_run(
    run: Path, study: Study, spec: SweepSpec, aim: Aim, *, has_just_ended: bool = False
) -> Selection:
    """The map of a run within the budget and the guard of `spec`, its notes saying what to beware of.

    `spec` is the run's own but for these limits. `has_just_ended`: its sweep has, so it searched for them.

    Raises:
        SpecError: for limits that cannot be read on the scores.
        BudgetError: if no map is within them, or none that saves anything and no search was made for them.
    """
    _check_is_scored(run, study, spec)
    gap = None if has_just_ended else _gap(run, study, spec, aim)
    try:
        selection = _selected(run, study, spec, aim)
    except BudgetError as error:
        raise _explained(study, spec, aim, error, gap) from error
    if gap is not None and aim.timings is None and selection.int8_macs_share < LEAST_SAVING:
        found = f"of what was tried only trial {selection.trial.number} is within it, which saves nothing"
        raise BudgetError(f"{gap.text}: {found} ({100 * selection.int8_macs_share:.1f}% INT8)", gap.hint)
    notes = (
        ()
        if gap is None
        else (f"{_capital(gap.text)}: this is the best of what was tried. {_capital(gap.hint)}",)
    )
    told = (
        *_saving_notes(study, spec, selection),
        *_floor_notes(run, selection),
        *fineness_notes(study, selection.limits),
        *_few_samples_notes(study, selection),
        *filter(None, [hearing_sentence(study, selection.limits)]),
    )
    return replace(selection, notes=(*notes, *told))


def _check_is_scored(run: Path, study: Study, spec: SweepSpec) -> None:
    """Refuse a budget in an alteration that was not scored, with the command that scores it."""
    if spec.budget is None or has_scored(study, spec.budget):
        return
    known = [entry.alteration for entry in study.yardsticks]
    named = [str(part.alteration) for part in Budget.parse(spec.budget).parts if part.alteration is not None]
    missing = [name for name in named if name not in known]
    wanted = ",".join((*known, *missing))
    raise SpecError(
        f"{', '.join(missing)} was not scored in this run",
        f"scored: {', '.join(known) or 'nothing yet'}; this scores it, and no map again: "
        f"qsens sweep --spec {RunPaths(run).spec_path} --out {run} --yardsticks {wanted}",
    )


def _explained(
    study: Study, spec: SweepSpec, aim: Aim, error: BudgetError, gap: "_Gap | None"
) -> BudgetError:
    """The same error, with what was not searched for, and whether the score hears what nobody sees."""
    if gap is not None:
        return BudgetError(f"{gap.text}: {error.message}", gap.hint)
    budget = None if spec.budget is None else Budget.parse(spec.budget)
    limits = () if budget is None else limits_of(study, budget, parse_guard(spec.guard), aim.metric)
    heard = hearing_sentence(study, limits)
    return error if heard is None else BudgetError(error.message, f"{error.hint}. {heard}")


def _selected(run: Path, study: Study, spec: SweepSpec, aim: Aim) -> Selection:
    budget, guard = None if spec.budget is None else Budget.parse(spec.budget), parse_guard(spec.guard)
    errors = paired_errors(RunPaths(run).evidence)
    if aim.timings is not None and aim.limit_ms is not None:
        return best_within_time(
            study, aim.timings, limit_ms=aim.limit_ms, budget=budget, guard=guard, metric=aim.metric
        )
    assert budget is not None, "without a budget nothing is chosen"
    if aim.timings is not None:
        return fastest_within(
            study, aim.timings, budget=budget, guard=guard, metric=aim.metric, paired_error=errors
        )
    return cheapest_within(study, budget=budget, guard=guard, metric=aim.metric, paired_error=errors)


@dataclass(frozen=True)
class _Gap:
    """A sentence on what a run did not search for, and how to have it searched for."""

    text: str
    hint: str


def _gap(run: Path, study: Study, spec: SweepSpec, aim: Aim) -> _Gap | None:
    """`None` where the trials are all that the run's strategy asks for within these limits."""
    if spec.budget is None or _is_searched(run, study, _as_searched(spec, study, aim)):
        return None
    flags = [f"--budget {part}" for part in Budget.parse(spec.budget).parts]
    flags += [] if spec.guard is None else [f"--guard {spec.guard}"]
    command = f"qsens sweep --spec {RunPaths(run).spec_path} --out {run} {' '.join(flags)}"
    before = read_run_spec(run)
    own = before.budget or (stated_or_default(before) if open_strategy(before).keeps_to_budget else None)
    if (own, before.guard) == (spec.budget, spec.guard):
        return _Gap(f"the search for {' '.join(flags)} is not finished", f"the same sweep goes on: {command}")
    made_for = f"was for {own}" if own else "had another aim"
    return _Gap(
        f"no search was made for {' '.join(flags)}, that of this run {made_for}",
        f"the same sweep searches for it and takes what is scored already: {command}",
    )


def _as_searched(spec: SweepSpec, study: Study, aim: Aim) -> SweepSpec:
    """The spec as a search for the same thing reads it: limits by name, also those of its own options."""
    budget, options = spec.budget, spec.strategy_options.to_dict()
    if budget is not None and aim.metric != headline_metric(study):
        first = Budget.parse(budget)
        parts = [part if part.metric else replace(part, metric=aim.metric) for part in first.parts]
        budget = ", ".join(map(str, parts))
    for key, value in (("budget", budget), ("guard", spec.guard)):
        if key in options:
            options |= {key: value}
    kept = {key: value for key, value in options.items() if value is not None}
    return replace(spec, budget=budget, strategy_options=Options.of(kept))


def _is_searched(run: Path, study: Study, spec: SweepSpec) -> bool:
    """Whether the strategy asks for nothing more; `True` too where scores do not decide what it asks for."""
    try:
        strategy = open_strategy(spec, kept_start(run))
        if plan_maps(study.layers, strategy).is_complete:
            return True
        return not untried(strategy.propose(study.layers, study.trials), study.trials)
    except QsensError:
        return True


def _saving_notes(study: Study, spec: SweepSpec, selection: Selection) -> Iterator[str]:
    """A sentence on a map that saves next to nothing, with what may find more."""
    latency, share = selection.latency, selection.int8_macs_share
    if latency is not None:
        faster = latency.timings.speed_up(latency.measured)
        if faster is not None and latency.measured.has_int8 and faster < 1 + SAME_SHARE:
            yield f"This map saves no time: it is {faster:.2f}x as fast as FP32."
    elif share < LEAST_SAVING:
        reach = macs_share(study.layers, uniform_map(study.layers, Precision.INT8), Precision.INT8)
        saved = f"This map saves next to nothing: {100 * share:.1f}% of the MACs are in INT8."
        yield f"{saved} {_more_saving(spec, share, reach)}"


def _more_saving(spec: SweepSpec, share: float, reach: float) -> str:
    if share >= reach:
        return "The layers that may run in INT8 have no more: pin fewer of them."
    names = {name.strip() for name in spec.strategy.split("+")}
    if "guided" not in names and "exhaustive" not in names:
        return (
            "--strategy guided looks for the most within the same limits: the same sweep into a new folder."
        )
    if spec.strategy_options.get("by") == "block":
        return "--by layer may find more: the same sweep into a new folder."
    return "The search found no more within these limits: allow more, or try other --ranges or --placement."


def _few_samples_notes(study: Study, selection: Selection) -> Iterator[str]:
    """A sentence on each slow score of the map that is of a few samples so far."""
    for metric in metrics_on_few(study, selection.trial):
        score = selection.trial.score(metric)
        if score is not None:
            yield (
                f"{metric} of this map is of {score.images} samples, as it is slow: the same sweep with this "
                "budget scores it on all, and no other map again."
            )


def _floor_notes(run: Path, selection: Selection) -> Iterator[str]:
    """A sentence where a budget is a share of a score that few images raise, and may be too wide for that."""
    shared = [limit for limit in selection.limits if limit.share is not None and not limit.is_guard]
    floors: Mapping[str, Floor] = floors_of(run, keeps=False) if shared else {}
    for limit in shared:
        floor, score = floors.get(limit.metric), selection.trial.score(limit.metric)
        if floor is None or score is None or limit.share is None or not math.isfinite(limit.baseline):
            continue
        allowed = limit.share * max(limit.baseline - floor.value, 0.0)
        loss = limit.excess(score.value) + limit.points
        width = half_interval(selection.trial, limit)
        if loss + (width or 0.0) <= allowed:
            continue
        about = f"{loss:.2g}" if width is None else f"{loss:.2g} ± {width:.2g}"
        yield (
            f"The budget is {100 * limit.share:g}% of a {limit.metric} of {limit.baseline:.4g}, of which "
            f"{floor.value:.4g} is what {floor.images} real images score against others. Of the rest "
            f"it would be {allowed:.2g}, to which the map's loss of {about} cannot be held: "
            "score more images, or give the budget in points."
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
