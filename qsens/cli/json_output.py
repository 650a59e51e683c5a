"""JSON on stdout, as other programs read it."""

import json
from typing import Any

import click

from qsens.core.schema import finite


def echo_json(value: Any, *, indent: int | None = 2) -> None:
    """Print plain values as one document; NaN and infinity, which JSON does not have, are `null`."""
    click.echo(json.dumps(finite(value), indent=indent, allow_nan=False))
