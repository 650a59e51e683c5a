"""The Python interface in four functions: open a graph, sweep it, choose a map, write the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.cli.select import budget_example, front_table, selection_text
from qsens.core.errors import BudgetError, SpecError
from qsens.core.interfaces import Decision
from qsens.core.maps import describe_map
from qsens.core.metric_names import headline_metric
from qsens.core.spec import SweepSpec, spec_from_values
from qsens.core.trial import Outcome, Study
from qsens.graph.graph import Graph
from qsens.report.write import make_report
from qsens.run.evidence import load_audit
from qsens.run.folder import RunPaths, read_decisions, read_provenance, read_study
from qsens.run.loop import StoppedError
from qsens.run.open import assemble, load_graph, open_generator, open_strategy
from qsens.run.paired_errors import paired_errors
from qsens.run.sweep import sweep as sweep_assembled
from qsens.run.workers import open_pool, runner_on, with_fixed_threads
from qsens.selection.budget import DEFAULT_BUDGET, Budget
from qsens.selection.choose import Selection, cheapest_within
from qsens.selection.precision_map_file import write_precision_map

__all__ = ["choose_map", "open_graph", "run_sweep", "write_report"]


def open_graph(
    checkpoint: str | Path | None = None,
    *,
    model: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    **model_options: Any,
) -> Graph:
    """Open a generator and prepare its graph; `graph.layers` are the layers whose precision can be chosen.

    `checkpoint` and `model` are as for `qsens sweep`; `input_shapes` are full shapes by input name.

    Raises:
        LoadError, SpecError: with what is wrong and what to do.
    """
    options = {**model_options, **({"input_shapes": dict(input_shapes)} if input_shapes else {})}
    generator = open_generator(None if checkpoint is None else Path(checkpoint), model, options)
    return load_graph(generator, input_shapes)


def run_sweep(
    checkpoint: str | Path | None = None,
    *,
    out: str | Path,
    trust_checkpoint: bool = False,
    workers: int | None = None,
    **values: Any,
) -> Study:
    """Run or resume a sweep in the folder `out`.

    That many `workers`, processes on this machine, score maps side by side; without them this process
    does. They import the calling script, which must start nothing unless `__name__ == "__main__"`.

    `values` are keys of the spec as in its TOML file (`calibration`, `reference`, `strategy`,
    `strategy_options`, `evaluation_samples`, ...).

    Raises:
        QsensError: with what is wrong and what to do; trials that ended are in the folder.
    """
    if checkpoint is not None:
        values["checkpoint"] = str(checkpoint)
    spec = spec_from_values(values, "arguments")
    with open_pool(workers, None) as pool:
        if pool is None:
            assembled = assemble(spec, trust_checkpoint=trust_checkpoint)
            return sweep_assembled(assembled, Path(out), progress=_silent)
        assembled = assemble(with_fixed_threads(spec), trust_checkpoint=trust_checkpoint)
        runner = runner_on(pool, trust_checkpoint=trust_checkpoint)
        return sweep_assembled(assembled, Path(out), progress=_silent, runner=runner)


def choose_map(run: str | Path, *, budget: str, guard: str | None = None) -> Selection:
    """The cheapest map of a run within `budget`: points (`"2.0"`) or a share of FP32's score (`"5%"`).

    Raises:
        BudgetError: if no map is within it.
    """
    wanted = None if guard is None else Budget.parse(guard)
    return cheapest_within(
        read_study(Path(run)),
        budget=Budget.parse(budget),
        guard=wanted,
        paired_error=paired_errors(RunPaths(Path(run)).evidence),
    )


def write_report(run: str | Path) -> Path:
    """Write tables, figures and `report.html` of a run; returns the page's path. Raises `RunFolderError`."""
    return make_report(Path(run))


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""


@dataclass(frozen=True)
class FinishedRun:
    """A run whose report is written. `failure` says why there is no selection though there is a budget.

    `search_end` is how a search ended, where the strategy tells; `None` where it does not search.
    """

    study: Study
    spec: SweepSpec
    folder: Path
    report: Path
    selection: Selection | None
    failure: BudgetError | SpecError | None
    search_end: Decision | None = None

    def text(self) -> str:
        """The chosen map, or what there is to choose from, and where the report is."""
        lines = [*_failed_lines(self.study), *self._search_lines(), f"\nReport: {self.report}"]
        if self.selection is not None:
            path = RunPaths(self.folder).precision_map_path
            if self.spec.budget is None:
                lines.insert(0, f"\nNo budget was given: {DEFAULT_BUDGET} of FP32's score is the default.")
            return "\n".join([selection_text(self.study, self.selection), *lines, f"Precision map: {path}"])
        if self.failure is not None:
            return "\n".join(lines).lstrip()
        if self.search_end is not None:
            return "\n".join(lines).lstrip()
        metric = headline_metric(self.study)
        choices = front_table(self.study, metric)
        advice = f"\nNo budget was given. Choose a map: qsens select {self.folder} {budget_example(metric)}"
        return "\n".join([choices, advice, *lines])

    def _search_lines(self) -> list[str]:
        end = self.search_end
        if end is None:
            return []
        trials = f" (trial {', '.join(map(str, end.trials))})" if end.trials else ""
        lines = [f"\nSearch: {end.text}{trials}"]
        if self.selection is None and len(end.trials) == 1:
            lines.append(f"Take that map: qsens export {self.folder} --for TARGET --trial {end.trials[0]}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The same as plain values, with every trial."""
        chosen = None
        if self.selection is not None:
            path = RunPaths(self.folder).precision_map_path
            chosen = json.loads(path.read_text(encoding="utf-8"))
        return {
            "run": str(self.folder),
            "report": str(self.report),
            "search_end": None if self.search_end is None else self.search_end.text,
            "failure": None if self.failure is None else self.failure.message,
            "chosen": chosen,
            "trials": [trial.to_json() for trial in self.study.trials],
        }


def _failed_lines(study: Study) -> list[str]:
    failed = [trial for trial in study.trials if trial.outcome is Outcome.FAILED]
    if not failed:
        return []
    first = failed[0]
    return [
        f"\n{len(failed)} of {len(study.trials)} maps failed, the first of them trial {first.number} "
        f"({describe_map(first.requested, study.layers)}): {first.error}"
    ]


def finish_run(study: Study, spec: SweepSpec, out: Path) -> FinishedRun:
    """Choose a map within the budget, write precision_map.json and the report.

    Raises:
        RunFolderError: if they cannot be written.
        StoppedError: after Ctrl-C.
    """
    try:
        return _finish_run(study, spec, out)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped while writing the report, all {len(study.trials)} maps are saved",
            f"write it with: qsens report {out}",
        ) from None


def choose(study: Study, spec: SweepSpec, evidence: Path) -> Selection | None:
    """The cheapest map within the spec's budget, or the default one; `None` where there is no budget.

    Without real images a share of FP32's score means nothing, so there is no default budget; nor is there
    one for a search that had another aim.

    Raises:
        BudgetError: if no map meets it.
        SpecError: for a budget that cannot be read.
    """
    metric = headline_metric(study)
    is_distance_to_real = metric.partition("[")[0] == "fid"
    has_default = is_distance_to_real and getattr(open_strategy(spec), "keeps_to_budget", True)
    text = spec.budget or (DEFAULT_BUDGET if has_default else None)
    if text is None:
        return None
    guard = None if spec.guard is None else Budget.parse(spec.guard)
    return cheapest_within(
        study,
        budget=Budget.parse(text),
        guard=guard,
        metric=metric,
        paired_error=paired_errors(evidence),
    )


def _finish_run(study: Study, spec: SweepSpec, out: Path) -> FinishedRun:
    path = RunPaths(out).precision_map_path
    selection: Selection | None = None
    failure: BudgetError | SpecError | None = None
    try:
        selection = choose(study, spec, RunPaths(out).evidence)
    except (BudgetError, SpecError) as error:
        failure = error
        # A map of an earlier budget must not be taken for one that meets this budget.
        path.unlink(missing_ok=True)
    if selection is not None:
        audit = load_audit(RunPaths(out).evidence, selection.trial.number)
        write_precision_map(path, selection, study, spec, read_provenance(out), audit)
    decisions = read_decisions(RunPaths(out).decisions_path)
    return FinishedRun(
        study, spec, out, make_report(out), selection, failure, decisions[-1] if decisions else None
    )
