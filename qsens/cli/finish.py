"""What `sweep` and `demo` do after the last map: choose, report, and say so."""

from pathlib import Path

import click

from qsens.budget import Budget
from qsens.cli.select import selection_text, trials_table
from qsens.errors import BudgetError
from qsens.precision_map_file import write_precision_map
from qsens.run_folder import RunPaths, read_provenance
from qsens.selection import Selection, cheapest_within, headline_metric, pareto_front
from qsens.spec import SweepSpec
from qsens.trial import Study

# Where the spec states no budget: the share of FP32's distance to real images that may be lost.
DEFAULT_BUDGET = "5%"


def finish_run(study: Study, spec: SweepSpec, out: Path) -> None:
    """Choose a map within the budget, write precision_map.json and the report, print where they are.

    Raises:
        BudgetError: after the report is written, if no map meets the budget.
    """
    # matplotlib and pandas take a second to load
    from qsens.report.document import write_report

    failure: BudgetError | None = None
    try:
        selection = choose(study, spec)
    except BudgetError as error:
        selection, failure = None, error
    if selection is not None:
        write_precision_map(RunPaths(out).precision_map_path, selection, study, spec, read_provenance(out))
    report = write_report(out)
    click.echo()
    if selection is not None:
        click.echo(selection_text(study, selection))
    elif failure is None:
        click.echo(trials_table(study, pareto_front(study, headline_metric(study))))
        click.echo(f"\nNo budget was given. Choose one of these: qsens select {out} --budget POINTS")
    click.echo(f"\nReport: {report}")
    if failure is not None:
        raise failure


def choose(study: Study, spec: SweepSpec) -> Selection | None:
    """The cheapest map within the spec's budget, or the default one; `None` where there is no budget.

    Without real images a share of FP32's score means nothing, so there is no default budget.

    Raises:
        BudgetError: if no map meets it.
        SpecError: for a budget that cannot be read.
    """
    metric = headline_metric(study)
    is_distance_to_real = metric.partition("[")[0] == "fid"
    text = spec.budget or (DEFAULT_BUDGET if is_distance_to_real else None)
    if text is None:
        return None
    guard = None if spec.guard is None else Budget.parse(spec.guard)
    return cheapest_within(study, budget=Budget.parse(text), guard=guard, metric=metric)
