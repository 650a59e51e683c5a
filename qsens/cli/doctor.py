"""`qsens doctor`: what this machine can run, and why not."""

from dataclasses import asdict

import click

from qsens.cli.text import echo_json, text_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, as_json: bool) -> None:
    """Say what this machine can run, and why not."""
    # Importing every plug-in takes seconds.
    from qsens.core.targets import suggested_target
    from qsens.python.machine import findings

    found = findings()
    if as_json:
        echo_json([asdict(finding) for finding in found])
        return
    words = {True: "yes", False: "NO", None: ""}
    rows = [(entry.topic, entry.name, words[entry.is_usable], entry.detail) for entry in found]
    click.echo(text_table(("topic", "name", "usable", "detail"), rows))
    command = f"qsens plan GENERATOR.onnx --for {suggested_target()} --calibration IMAGES"
    click.echo(f"\nNext: {command}, or see a whole run: qsens demo")
