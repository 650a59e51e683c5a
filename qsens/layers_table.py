"""`layers.csv`: the layers of a run as a table that people and programs read."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields

from qsens.errors import QsensError, RunFolderError
from qsens.layer import Layer
from qsens.precision import Precision, parse_precision

COLUMNS = tuple(entry.name for entry in fields(Layer))


def layers_to_csv(layers: Sequence[Layer]) -> str:
    """One row a layer; a shape reads `1x3x96x96`, allowed precisions `fp32 fp16 int8`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for layer in layers:
        row = {name: getattr(layer, name) for name in COLUMNS}
        row["output_shape"] = "x".join(str(side) for side in layer.output_shape)
        row["allowed"] = " ".join(precision for precision in Precision if precision in layer.allowed)
        writer.writerow(row)
    return text.getvalue()


def layers_from_csv(text: str, where: str) -> tuple[Layer, ...]:
    """Read what `layers_to_csv` wrote. Raises `RunFolderError` naming the column or line that is wrong."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise RunFolderError(f"{where} has no column {missing[0]!r}", f"columns: {', '.join(COLUMNS)}")
    layers = []
    for row in reader:
        try:
            layers.append(_layer_from_row(row))
        except (TypeError, ValueError, AttributeError, QsensError) as error:
            raise RunFolderError(
                f"line {reader.line_num} of {where} is not a layer: {error}", "begin a new folder with --out"
            ) from error
    return tuple(layers)


def _layer_from_row(row: Mapping[str, str]) -> Layer:
    return Layer(
        name=row["name"],
        node=row["node"],
        kind=row["kind"],
        block=row["block"],
        index=int(row["index"]),
        parameters=int(row["parameters"]),
        macs=int(row["macs"]),
        macs_torchprofile=int(row["macs_torchprofile"]),
        output_shape=tuple(int(side) for side in row["output_shape"].split("x") if side),
        allowed=frozenset(parse_precision(word) for word in row["allowed"].split()),
    )
