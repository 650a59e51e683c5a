"""Layers whose precision can be chosen: blocks of them, patterns that name them, and `layers.csv`."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from qsens.core.csv_text import csv_records, csv_text
from qsens.core.errors import RunFolderError, SpecError, name_hint
from qsens.core.precision import Precision, PrecisionMap, parse_precision
from qsens.core.schema import shown
from qsens.device.plain_values import LARGEST

ALL_PRECISIONS = frozenset(Precision)
# Runtimes join the ONNX nodes of one step with `+`, `,`, `||` and brackets: TensorRT, Myelin, OpenVINO.
_ENGINE_NAME_PARTS = re.compile(r"[^\s+,|\[\]{}()]+")


@dataclass(frozen=True)
class Layer:
    """A convolution, transposed convolution or matrix product with constant weights.

    `name` is the torch qualified name where the graph came from torch, else the ONNX node name; a module
    called again gets `@2`, `@3`. `node` is the node of the folded ONNX graph. `index` counts from 0 in
    execution order. `macs` are true multiply-accumulates for one sample; `macs_torchprofile` is the
    convention of Kim et al. 2023 (transposed convolutions counted at output resolution, plus one for each
    output element of a folded batch normalisation). `output_shape` has the batch axis first.
    `float_reason` says why INT8 is not among the `allowed` where nobody pinned it; empty elsewhere.
    """

    name: str
    node: str
    kind: str
    block: str
    index: int
    parameters: int
    macs: int
    macs_torchprofile: int
    output_shape: tuple[int, ...]
    allowed: frozenset[Precision] = ALL_PRECISIONS
    float_reason: str = ""


@dataclass(frozen=True)
class Block:
    """Neighbouring layers that are moved together."""

    name: str
    layers: tuple[Layer, ...]


def blocks_of(layers: Sequence[Layer]) -> tuple[Block, ...]:
    """Blocks in order of their first layer; the layers of a block need not be neighbours."""
    grouped: dict[str, list[Layer]] = {}
    for layer in layers:
        grouped.setdefault(layer.block, []).append(layer)
    return tuple(Block(name, tuple(members)) for name, members in grouped.items())


def match_layers(pattern: str, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers that a text names: a whole name, else a shell-style pattern of names, blocks or ONNX nodes.

    A whole name is that of a layer (its other calls `@2` included), else of a block, else of a node. An
    engine's own name for a step, as an audit or a profile shows it (`/enc/Conv + /enc/Relu`), stands for the
    layers whose nodes it lists.

    Raises `SpecError` if there are none: a pattern that silently matches nothing protects nothing.
    """
    found = next(filter(None, _named(pattern, layers)), [])
    if not found:
        found = [
            layer
            for layer in layers
            if any(fnmatchcase(text, pattern) for text in (*_own_names(layer), layer.block, layer.node))
        ]
    if not found:
        listed = set(_ENGINE_NAME_PARTS.findall(pattern))
        found = [layer for layer in layers if layer.node in listed]
    if not found:
        names = [layer.name for layer in layers] + [layer.block for layer in layers]
        hint = name_hint(pattern, names, f"layers are named like {names[0]!r}")
        raise SpecError(f"pattern {pattern!r} matches no layer", hint)
    return tuple(found)


def _own_names(layer: Layer) -> tuple[str, str]:
    return layer.name, layer.name.partition("@")[0]


def _named(text: str, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    yield [layer for layer in layers if text in _own_names(layer)]
    yield [layer for layer in layers if text == layer.block]
    yield [layer for layer in layers if text == layer.node]


def nearest_allowed(layer: Layer, precision: Precision) -> Precision:
    """`precision` if the layer allows it, else the next wider one it allows, else the next narrower."""
    if precision in layer.allowed:
        return precision
    order = list(Precision)
    wished = order.index(precision)
    wider_first = [*reversed(order[: wished + 1]), *order[wished + 1 :]]
    return next(candidate for candidate in wider_first if candidate in layer.allowed)


def map_of(layers: Sequence[Layer], wished: Mapping[str, Precision]) -> PrecisionMap:
    """The canonical map that gives every layer its wished precision, or the nearest it allows."""
    return PrecisionMap.over({layer.name: nearest_allowed(layer, wished[layer.name]) for layer in layers})


def uniform_map(layers: Sequence[Layer], precision: Precision) -> PrecisionMap:
    """The canonical map of one precision everywhere, pinned layers excepted."""
    return map_of(layers, {layer.name: precision for layer in layers})


def macs_share(layers: Sequence[Layer], precision_map: PrecisionMap, precision: Precision) -> float:
    """Share of the true multiply-accumulates that run at `precision`, 0 to 1."""
    total = sum(layer.macs for layer in layers)
    chosen = sum(layer.macs for layer in layers if precision_map[layer.name] is precision)
    return chosen / total if total else 0.0


def weight_bytes(layers: Sequence[Layer], precision_map: PrecisionMap) -> int:
    """Bytes of the parameters at their precisions: 4, 2 or 1 each; what a deployed file would hold."""
    width = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1}
    return sum(layer.parameters * width[precision_map[layer.name]] for layer in layers)


# Only where a layer has one: tables were written without it before there were such reasons.
_REASON = "float_reason"
COLUMNS = tuple(entry.name for entry in fields(Layer) if entry.name != _REASON)


def layers_to_csv(layers: Sequence[Layer]) -> str:
    """One row a layer; a shape reads `1x3x96x96`, allowed precisions `fp32 fp16 int8`."""
    columns = (*COLUMNS, _REASON) if any(layer.float_reason for layer in layers) else COLUMNS
    return csv_text(columns, [_row(layer, columns) for layer in layers])


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


def _row(layer: Layer, columns: Sequence[str]) -> list[object]:
    row = {name: getattr(layer, name) for name in columns}
    row["output_shape"] = "x".join(str(side) for side in layer.output_shape)
    row["allowed"] = " ".join(precision for precision in Precision if precision in layer.allowed)
    return [row[name] for name in columns]


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
        float_reason=row.get(_REASON, ""),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(LARGEST))):
        raise ValueError(f"{shown(text)} is not a whole number from 0")
    return int(text)
