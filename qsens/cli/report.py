"""`qsens report`: figures, tables and the page of a run folder."""

from dataclasses import asdict
from pathlib import Path

import click

from qsens.cli.text import echo_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--latency",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Times measured on another device; repeat for several.",
)
@click.option("--static", "is_static", is_flag=True, help="A small page without charts that move.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print where things are as JSON.")
def report(
    run: Path, *, latency: tuple[Path, ...], is_static: bool, open_browser: bool, as_json: bool
) -> None:
    """Write figures, tables and report.html for the folder RUN, finished or not.

    Nothing but the folder is read, and the page needs no network: it can be sent as one file. Times that
    `qsens bench` left in the folder are shown, and those of each --latency FILE.
    """
    # pandas and matplotlib load only when a report is written.
    from qsens.report.write import make_report, report_paths

    make_report(run, open_browser=open_browser, latency=latency, is_static=is_static)
    paths = {name: str(path) for name, path in asdict(report_paths(run)).items()}
    if as_json:
        echo_json(paths)
        return
    for name, path in paths.items():
        click.echo(f"{name.replace('_', ' '):<16} {path}")
