"""`qsens zoo table2`: sizes of the Wav2Lip family, ours beside the paper's."""

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from qsens.cli.text import echo_json, text_table
from qsens.core.errors import SpecError

if TYPE_CHECKING:
    from qsens.zoo.wav2lip.table2 import Helper, Row

HEADER = ("generator", "parameters", "paper", "MACs (paper)", "paper", "true MACs", "layers")
WIDTH = 110
HELPERS_HEADER = ("network", "parameters", "MACs (paper)", "true MACs", "layers")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, the generators only.")
def table2(*, as_json: bool, as_csv: bool) -> None:
    """Print parameters and MACs of the Wav2Lip family beside those of Kim et al. 2023, Table 2."""
    if as_json and as_csv:
        raise SpecError("--json and --csv at once", "choose one")
    from qsens.zoo.wav2lip.table2 import generator_rows, helper_rows  # loads torch

    rows = generator_rows()
    if as_csv:
        click.echo(_csv(rows), nl=False)
    elif as_json:
        echo_json(_plain(rows, helper_rows()))
    else:
        click.echo(_text(rows, helper_rows()))


def _flat(row: "Row") -> dict[str, object]:
    values = asdict(row)
    cost = values.pop("cost")
    return {"name": values.pop("name"), "title": values.pop("title"), **cost, **values}


def _plain(rows: Sequence["Row"], helpers: Sequence["Helper"]) -> dict[str, object]:
    from qsens.zoo.wav2lip.table2 import CUT_INNER_IS_A_GUESS, WHY_TWO_COUNTS  # loads torch

    return {
        "generators": [_flat(row) for row in rows],
        "helpers": [{"title": helper.title, **asdict(helper.cost)} for helper in helpers],
        "notes": [WHY_TWO_COUNTS, CUT_INNER_IS_A_GUESS],
    }


def _csv(rows: Sequence["Row"]) -> str:
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _text(rows: Sequence["Row"], helpers: Sequence["Helper"]) -> str:
    from qsens.zoo.wav2lip.table2 import CUT_INNER_IS_A_GUESS, WHY_TWO_COUNTS  # loads torch

    generators = [
        (
            row.name,
            f"{row.cost.parameters:,} ({row.parameters_ratio:.1f}x)",
            row.paper_parameters,
            f"{_giga(row.cost.macs_torchprofile)} ({row.macs_paper_ratio:.1f}x)",
            row.paper_macs,
            f"{_giga(row.cost.macs)} ({row.macs_ratio:.1f}x)",
            str(row.cost.layers),
        )
        for row in rows
    ]
    others = [
        (
            helper.title,
            f"{helper.cost.parameters:,}",
            _giga(helper.cost.macs_torchprofile),
            _giga(helper.cost.macs),
            str(helper.cost.layers),
        )
        for helper in helpers
    ]
    names = [f"{row.name}: {row.title}" for row in rows]
    notes = "\n".join(
        [*names, *(textwrap.fill(note, WIDTH) for note in (WHY_TWO_COUNTS, CUT_INNER_IS_A_GUESS))]
    )
    tables = (
        text_table(HEADER, generators, right=(1, 3, 5, 6)),
        text_table(HELPERS_HEADER, others, right=(1, 2, 3, 4)),
    )
    return "\n\n".join((*tables, notes))


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.4f}G"
