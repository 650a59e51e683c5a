"""`layers.csv`: the layers of a run as a table that people and programs read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from qsens.core.csv_text import csv_records, csv_text
from qsens.core.errors import RunFolderError, SpecError
from qsens.core.layer import Layer
from qsens.core.precision import Precision, parse_precision
from qsens.core.schema import shown
from qsens.device.json_text import LARGEST

COLUMNS = tuple(entry.name for entry in fields(Layer))


def layers_to_csv(layers: Sequence[Layer]) -> str:
    """One row a layer; a shape reads `1x3x96x96`, allowed precisions `fp32 fp16 int8`."""
    return csv_text(COLUMNS, [_row(layer) for layer in layers])


def layers_from_csv(text: str, where: str) -> tuple[Layer, ...]:
    """Read what `layers_to_csv` wrote, its line ends as they are in the file.

    Raises:
        RunFolderError: naming the column that is missing, the line that is wrong, or what comes twice.
    """
    try:
        layers = tuple(_layers(text))
        _check_distinct(layers)
    except (ValueError, SpecError) as error:
        raise RunFolderError(
            f"{where} is damaged: {error}", "restore the file, or begin a new folder with --out"
        ) from error
    return layers


def _layers(text: str) -> Iterator[Layer]:
    for line, row in csv_records(text):
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise ValueError(f"it has no column {missing[0]!r}")
        try:
            yield _layer_from_row(row)
        except (ValueError, SpecError) as error:
            raise ValueError(f"line {line} is not a layer: {error}") from error


def _check_distinct(layers: Sequence[Layer]) -> None:
    if not layers:
        raise ValueError("it lists no layer")
    for what in ("name", "index"):
        ((commonest, count),) = Counter(getattr(layer, what) for layer in layers).most_common(1)
        if count > 1:
            raise ValueError(f"{count} layers have the {what} {shown(commonest)}")


def _row(layer: Layer) -> list[object]:
    row = {name: getattr(layer, name) for name in COLUMNS}
    row["output_shape"] = "x".join(str(side) for side in layer.output_shape)
    row["allowed"] = " ".join(precision for precision in Precision if precision in layer.allowed)
    return [row[name] for name in COLUMNS]


def _layer_from_row(row: Mapping[str, str]) -> Layer:
    allowed = frozenset(parse_precision(word) for word in row["allowed"].split())
    if not row["name"] or not allowed:
        raise ValueError("it has no name" if allowed else "it allows no precision")
    return Layer(
        name=row["name"],
        node=row["node"],
        kind=row["kind"],
        block=row["block"],
        index=_count(row["index"]),
        parameters=_count(row["parameters"]),
        macs=_count(row["macs"]),
        macs_torchprofile=_count(row["macs_torchprofile"]),
        output_shape=tuple(_count(side) for side in row["output_shape"].split("x") if side),
        allowed=allowed,
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(LARGEST))):
        raise ValueError(f"{shown(text)} is not a whole number from 0")
    return int(text)
