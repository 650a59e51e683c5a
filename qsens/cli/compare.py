"""`qsens compare`: several runs in one table and one figure."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.cli.options import budget_option
from qsens.cli.text import echo_json, text_table

if TYPE_CHECKING:
    from qsens.report.compare.compare import Comparison
    from qsens.report.compare.tables import ComparedTable


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Compare on this; repeat for more.")
@click.option("--labels", metavar="A,B", help="Names of the runs; what tells them apart without it.")
@budget_option(help="Choose a map within this in every run, as `select` does.")
@click.option("--guard", metavar="X", help="The same for the distance from the FP32 outputs.")
@click.option("--gate", is_flag=True, help="Exit with 3 unless later runs keep the first run's map or INT8.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write page, figures, tables there."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(
    runs: tuple[Path, ...],
    *,
    metrics: tuple[str, ...],
    labels: str | None,
    budget: str | None,
    guard: str | None,
    gate: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare the run folders RUN with the first of them: checkpoints, placements, ranges, backends.

    A folder that is no run stands for the runs in it, by name.

    Only scores that were measured against the same images with the same extractor are compared; the others
    are named with what differs. Differences have paired intervals where the runs scored the same inputs.
    Without --budget each run's own precision_map.json counts. Exit code 3: with --budget, a run has no map
    within it; with --gate, a later run keeps neither the first run's map within the budget nor as much INT8.
    """
    # pandas, matplotlib and SciPy take a second to load
    from qsens.report.compare.compare import CompareOptions, compare_runs
    from qsens.report.compare.write import comparison_document, write_comparison

    names = () if labels is None else tuple(labels.split(","))
    options = CompareOptions(metrics, names, budget, guard, has_gate=gate)
    comparison = compare_runs(runs, options)
    written = () if out is None else write_comparison(comparison, out)
    if as_json:
        echo_json(comparison_document(comparison))
    else:
        click.echo(comparison_text(comparison))
        if out is None:
            click.echo("\nNext: the same with --out FOLDER writes a page with curves and pictures.")
        else:
            page = next(path for path in written if path.suffix == ".html")
            click.echo(f"\nWritten to {out}: {', '.join(path.name for path in written)}")
            click.echo(f"Next: open {page}")
    for run in comparison.runs:
        if run.missing:
            text = f"Warning: {run.label} is not finished, {run.missing} maps have no score yet"
            click.echo(text, err=True)
    comparison.check()


def comparison_text(comparison: "Comparison") -> str:
    """Tables and remarks for the terminal."""
    from qsens.report.compare.tables import remarks_of, tables_of  # loads SciPy

    parts = [_table_text(entry) for entry in tables_of(comparison)]
    parts += [
        "\n".join([f"{entry.title}:", *(f"  {line}" for line in entry.lines)])
        for entry in remarks_of(comparison)
    ]
    return "\n\n".join(parts)


def _table_text(table: "ComparedTable") -> str:
    caption = [f"{table.caption}:"] if table.caption else []
    cells = [text_table(table.header, table.rows, right=table.right)] if table.rows else []
    gap = [""] if cells and table.notes else []
    return "\n".join([*caption, *cells, *gap, *table.notes])
