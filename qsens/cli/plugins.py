"""`qsens plugins`: what is installed, from where, and what keeps it from working."""

from dataclasses import asdict

import click

from qsens.cli.json_output import echo_json
from qsens.cli.text_table import text_table
from qsens.core.plugins import list_plugins


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(*, as_json: bool) -> None:
    """List plug-ins and what keeps one from working."""
    records = list_plugins()
    if as_json:
        echo_json([asdict(record) for record in records])
        return
    rows = [
        (record.group, record.name, record.distribution, record.target, record.problem or "ok")
        for record in records
    ]
    click.echo(text_table(("group", "name", "from", "target", "state"), rows))
