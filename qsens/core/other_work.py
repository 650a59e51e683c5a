"""Work of a network that is in no layer: products that stay in float whatever a map says, and their share."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from qsens.core.csv_text import csv_records, csv_text
from qsens.core.errors import RunFolderError
from qsens.core.layer import Layer

_NAMED = 3


@dataclass(frozen=True)
class OtherWork:
    """A node that multiplies and adds and is no layer.

    `macs` are true multiply-accumulates for one sample, 0 where its sizes are not known; `reason` says why
    it is no layer, and what the number leaves open.
    """

    name: str
    kind: str
    macs: int
    reason: str


COLUMNS = tuple(entry.name for entry in fields(OtherWork))


def share_in_layers(layers: Sequence[Layer], other: Sequence[OtherWork]) -> float:
    """Share of a network's multiply-accumulates that is in layers, 0 to 1."""
    in_layers, elsewhere = sum(layer.macs for layer in layers), sum(work.macs for work in other)
    return in_layers / (in_layers + elsewhere) if in_layers + elsewhere else 1.0


def of_all_work(share: float, layers: Sequence[Layer], other: Sequence[OtherWork]) -> str:
    """Words to put behind a share of the layers' work; nothing where all work is in layers, or none in INT8.

    >>> of_all_work(1.0, (), ())
    ''
    """
    return f" ({share * share_in_layers(layers, other):.1%} of all work)" if other and share else ""


def other_work_text(layers: Sequence[Layer], other: Sequence[OtherWork]) -> str:
    """A sentence on the work that is in no layer, largest first; nothing where there is none."""
    if not other:
        return ""
    total = sum(layer.macs for layer in layers) + sum(work.macs for work in other)
    largest = sorted(other, key=lambda work: -work.macs)
    named = ", ".join(
        f"{work.name} ({work.kind}, {work.macs / total if total else 0:.1%})" for work in largest[:_NAMED]
    )
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    unknown = sum(not work.macs for work in other)
    open_part = f"; the sizes of {unknown} are not known" if unknown else ""
    return (
        f"{1 - share_in_layers(layers, other):.1%} of all multiply-accumulates are in no layer and stay in "
        f"float: {named}{more}{open_part}."
    )


def other_work_to_csv(other: Sequence[OtherWork]) -> str:
    """One row a node."""
    return csv_text(COLUMNS, [list(asdict(work).values()) for work in other])


def other_work_from_csv(text: str, where: str) -> tuple[OtherWork, ...]:
    """Read what `other_work_to_csv` wrote. Raises `RunFolderError` naming the line that is wrong."""
    found = []
    try:
        for line, row in csv_records(text):
            macs = row.get("macs", "")
            if set(row) != set(COLUMNS) or not (macs.isascii() and macs.isdecimal() and len(macs) < 19):
                raise ValueError(f"line {line} is no row of {', '.join(COLUMNS)}")
            found.append(OtherWork(row["name"], row["kind"], int(macs), row["reason"]))
    except ValueError as error:
        raise RunFolderError(
            f"{where} is damaged: {error}", "delete it: the sweep writes it anew when it is resumed"
        ) from error
    return tuple(found)
