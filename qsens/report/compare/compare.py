"""Reads run folders and compares them with the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qsens.core.errors import BudgetError, SpecError
from qsens.core.metric_names import headline_metrics
from qsens.device.visible_text import visible_name
from qsens.report.compare.differences import Difference, differences_of
from qsens.report.compare.gate import GateLimits, GateResult, gate_of, limits_of_gate, released_run
from qsens.report.compare.metrics import ComparableMetrics, SharedMetric, comparable_metrics
from qsens.report.compare.runs import (
    LONGEST_LABEL,
    ComparedRun,
    Setting,
    chosen_times,
    differing_settings,
    labels_of,
    runs_in,
)
from qsens.report.run_content import chosen_document, missing_maps, run_timings
from qsens.run.choice import Aim, choose_map_of_run
from qsens.run.floors import read_floors
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.paired_errors import contrast_errors
from qsens.selection.budget import Budget, parse_guard


@dataclass(frozen=True)
class CompareOptions:
    """The options of a comparison; empty and absent values leave it to the runs.

    `metrics` are those to compare on. `labels` name the runs. `budget` and `guard` choose a map in every
    run, without them each run's `precision_map.json` counts. `has_gate` asks whether later runs keep the
    first run's INT8.
    """

    metrics: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    budget: str | None = None
    guard: str | None = None
    has_gate: bool = False


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, the first one being what the others are compared with.

    `limit_metric` is the score that a common budget was on, `failures` why a run has no map within it, by
    label. `times` are milliseconds of the chosen maps by device.
    """

    runs: tuple[ComparedRun, ...]
    metrics: ComparableMetrics
    settings: tuple[Setting, ...]
    differences: tuple[Difference, ...]
    times: dict[str, tuple[float | None, ...]]
    limit_metric: str | None
    failures: dict[str, str]
    gate: tuple[GateResult, ...]

    @property
    def headline(self) -> tuple[SharedMetric, ...]:
        """The metrics that figures show."""
        names = headline_metrics([metric.name for metric in self.metrics.shared])
        return tuple(metric for metric in self.metrics.shared if metric.name in names)

    def check(self) -> None:
        """Raise `BudgetError` where a run has no map within the common budget, or loses the first's INT8."""
        lost = [result for result in self.gate if not result.is_kept]
        if lost:
            raise BudgetError(
                f"the INT8 of {self.runs[0].label} is lost in {', '.join(result.label for result in lost)}: "
                f"{lost[0].text}",
                "look at what differs between the runs, or choose again: qsens select RUN --budget X --write",
            )
        if self.failures and not self.gate:
            texts = "; ".join(f"{label}: {text}" for label, text in self.failures.items())
            raise BudgetError(texts, "allow a larger --budget or --guard")


def compare_runs(paths: Sequence[Path], options: CompareOptions) -> Comparison:
    """Read the run folders and compare all with the first; nothing in them is changed.

    A folder that is no run stands for the runs in it.

    Raises:
        SpecError: for fewer than two runs, one run twice, labels that do not fit, a metric or budget that
            cannot be used, or runs that must not be compared.
        RunFolderError: for a folder that is no run or is damaged.
        BudgetError: if a gate is asked for and the first run has no chosen map.
    """
    paths = runs_in(paths)
    _check_paths(paths)
    _check_options(options)
    specs = [read_run_spec(path) for path in paths]
    labels = _checked_labels(options.labels, len(paths)) or labels_of(paths, specs)
    runs = [_read_run(path, label) for path, label in zip(paths, labels, strict=True)]
    metrics = comparable_metrics(runs, options.metrics)
    limit_metric: str | None = None
    failures: dict[str, str] = {}
    gate: tuple[GateResult, ...] = ()
    if options.budget is not None:
        headline = headline_metrics([metric.name for metric in metrics.shared])[0]
        limits = GateLimits(options.budget, options.guard, headline)
        found_limits = limits_of_gate(runs[0], limits)
        limit_metric = " and ".join(limit.metric for limit in found_limits if not limit.is_guard)
        runs, failures = _chosen_within(runs, limits)
        if options.has_gate:
            gate = gate_of([released_run(runs[0], limits), *runs[1:]], limits)
    contrast = contrast_errors()
    found = [entry for metric in metrics.shared for entry in differences_of(runs, metric, contrast)]
    return Comparison(
        tuple(runs),
        metrics,
        differing_settings(runs),
        tuple(found),
        chosen_times(runs),
        limit_metric,
        failures,
        gate,
    )


def _check_paths(paths: Sequence[Path]) -> None:
    if len(paths) < 2:
        raise SpecError(
            f"one run, {paths[0]}: nothing to compare it with" if paths else "no run to compare",
            "give two run folders or more; one run is shown by: qsens report RUN",
        )
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise SpecError(f"{path} is the same run as {seen[path.resolve()]}", "give each run once")
        seen[path.resolve()] = path


def _check_options(options: CompareOptions) -> None:
    for flag, is_given in (("--gate", options.has_gate), ("--guard", options.guard is not None)):
        if is_given and options.budget is None:
            raise SpecError(f"{flag} needs a budget", "add --budget X, for example --budget 5%")
    if options.budget is not None:
        Budget.parse(options.budget)
    parse_guard(options.guard)


def _checked_labels(labels: Sequence[str], count: int) -> tuple[str, ...]:
    named = tuple(label.strip() for label in labels)
    if not named:
        return ()
    if len(named) != count:
        raise SpecError(f"{len(named)} labels for {count} runs", "give one label a run: --labels A,B")
    wrong = next((label for label in named if not 0 < len(label) <= LONGEST_LABEL), None)
    if wrong is not None:
        raise SpecError(f"the label {wrong!r} does not fit", f"give 1 to {LONGEST_LABEL} letters")
    if len(set(named)) < count:
        raise SpecError(f"labels {', '.join(named)} do not tell the runs apart", "give each run its own")
    return named


def _read_run(path: Path, label: str) -> ComparedRun:
    study = read_study(path)
    if not study.metrics:
        raise SpecError(f"{path} holds no scores yet", "let the sweep run on: the same command resumes it")
    provenance, document, kept = read_provenance(path), chosen_document(path, study), read_floors(path)
    number = None if document is None else document["trial"]
    return ComparedRun(
        label=visible_name(label),
        path=path,
        study=study,
        spec=read_run_spec(path),
        contents=provenance.contents,
        versions=provenance.versions,
        missing=missing_maps(path, study),
        floors={} if kept is None else kept.floors,
        timings=run_timings(path, study),
        chosen=next((trial for trial in study.scored() if trial.number == number), None),
        budget=None if document is None else document["budget"]["text"],
    )


def _chosen_within(
    runs: Sequence[ComparedRun], limits: GateLimits
) -> tuple[list[ComparedRun], dict[str, str]]:
    """The runs with the cheapest map within the limits in each, and why some have none."""
    found, failures = [], {}
    for run in runs:
        spec = replace(run.spec, budget=limits.budget, guard=limits.guard)
        try:
            selection = choose_map_of_run(run.path, run.study, spec, Aim(limits.metric))
        except BudgetError as error:
            failures[run.label] = error.message
            found.append(replace(run, chosen=None, budget=limits.budget))
            continue
        found.append(replace(run, chosen=selection.trial, budget=limits.budget, selection=selection))
    return found, failures
