"""What `sweep` and `demo` do after the last map: choose, report, and say so."""

import click

from qsens.api import FinishedRun


def show_finished(finished: FinishedRun) -> None:
    """Print the result of a run for people."""
    click.echo()
    click.echo(finished.text())
