"""The layer table of the page: names, precisions asked for and run, sensitivity, times and reasons."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qsens.core.layer import Layer
from qsens.core.metric_names import Z95, format_value, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.device.audit import LayerAudit
from qsens.report.figures.sensitivity import Effect, Sensitivity
from qsens.report.page_content import PageContent
from qsens.report.page_tables import chip, number_cell, sortable_table
from qsens.report.page_text import escape, word_of
from qsens.selection.reasons import Reason
from qsens.selection.timings import Timings


@dataclass(frozen=True)
class _Column:
    """A heading and the cell of each layer, as HTML."""

    head: str
    cell: Callable[[Layer], str]


def layer_table(content: PageContent) -> str:
    """Every layer under its names; columns that nothing is known for are left out.

    A difference between the requested and the applied precision is outlined. Reasons stand near the names:
    where the table is wider than the page it is other columns that scroll.
    """
    columns = [
        _Column("#", lambda layer: number_cell(str(layer.index), layer.index)),
        _Column("layer", _name_cell),
        *_precision_columns(content),
        *_reason_columns(content.reasons),
        *_sensitivity_columns(content.sensitivities),
        _share_column(content.study.layers),
        *_device_columns(content.timings, content.chosen),
        *_engine_columns(content.audit),
        _Column("block", lambda layer: f"<td>{escape(layer.block)}</td>"),
        _Column("kind", lambda layer: f"<td>{escape(layer.kind)}</td>"),
        _Column("parameters", lambda layer: number_cell(f"{layer.parameters:,}", layer.parameters)),
    ]
    rows = [_row(layer, columns, content) for layer in content.study.layers]
    return sortable_table([column.head for column in columns], rows, "layers")


def _row(layer: Layer, columns: Sequence[_Column], content: PageContent) -> str:
    names: list[str] = []
    if content.chosen is not None:
        trial = content.chosen
        maps = [trial.requested] if trial.applied is None else [trial.requested, trial.applied]
        names = [str(precision_map[layer.name]) for precision_map in maps]
    cells = "".join(column.cell(layer) for column in columns)
    return f'<tr data-precisions="{" ".join(dict.fromkeys(names))}">{cells}</tr>'


def _name_cell(layer: Layer) -> str:
    """The layer's name, and that of its node in the ONNX graph below it where it has another."""
    name = escape(layer.name).replace(".", ".<wbr>").replace("_", "_<wbr>")
    node = "" if layer.node == layer.name else f'<br><small class="faint">{escape(layer.node)}</small>'
    return f'<td class="name">{name}{node}</td>'


def _share_column(layers: Sequence[Layer]) -> _Column:
    total = sum(layer.macs for layer in layers) or 1

    def cell(layer: Layer) -> str:
        share = layer.macs / total
        bar = f'<span class="bar" style="width:{6 * share:.2f}rem"></span>'
        return f'<td data-key="{share}">{bar}{share:.1%}</td>'

    return _Column("MACs", cell)


def _precision_columns(content: PageContent) -> list[_Column]:
    trial = content.chosen
    if trial is None:
        return []

    def applied(layer: Layer) -> str:
        found = None if trial.applied is None else trial.applied[layer.name]
        differs = found is not None and found is not trial.requested[layer.name]
        return f"<td>{chip(found, differs=differs)}</td>"

    columns = [
        _Column("requested", lambda layer: f"<td>{chip(trial.requested[layer.name])}</td>"),
        _Column("applied", applied),
    ]
    if any(row.actual is not None for row in content.audit.values()):
        columns.append(_Column("engine runs", lambda layer: _audited_cell(content.audit.get(layer.name))))
    return columns


def _audited_cell(row: LayerAudit | None) -> str:
    return _actual_cell(None if row is None else row.actual, is_mismatch=row is not None and row.is_mismatch)


def _actual_cell(actual: str | None, *, is_mismatch: bool) -> str:
    if actual is None:
        return "<td>—</td>"
    known = next((precision for precision in Precision if precision == actual), None)
    if known is None:
        return f"<td>{escape(actual)}</td>"
    return f"<td>{chip(known, differs=is_mismatch)}</td>"


def _engine_columns(audit: Mapping[str, LayerAudit]) -> list[_Column]:
    return [_Column("engine layer", lambda layer: _engine_cell(audit.get(layer.name)))] if audit else []


def _engine_cell(row: LayerAudit | None) -> str:
    """The engine's name of the step, what is fused into it on hovering, and what its numbers need said."""
    if row is None or row.engine_layer is None:
        return "<td>—</td>"
    fused = f' title="with {escape(", ".join(row.fused_with))}"' if row.fused_with else ""
    note = f'<br><span class="note">{escape(row.note)}</span>' if row.note else ""
    return f'<td class="name"{fused}>{escape(row.engine_layer)}{note}</td>'


def _sensitivity_columns(sensitivities: Sequence[Sensitivity]) -> list[_Column]:
    """The headline metric's effects, a column a way to change a layer; a block's for all its layers."""
    if not sensitivities:
        return []
    found = sensitivities[0]
    return [
        _sensitivity_column(f"{short_name(found.metric)}, {label}", found.of(label)) for label in found.labels
    ]


def _sensitivity_column(head: str, effects: Sequence[Effect]) -> _Column:
    by_layer = {effect.name: effect for effect in effects if effect.unit == "layer"}
    by_block = {effect.name: effect for effect in effects if effect.unit == "block"}

    def cell(layer: Layer) -> str:
        effect = by_layer.get(layer.name)
        if effect is not None:
            return _effect_cell(effect, "")
        effect = by_block.get(layer.block)
        return number_cell("—", None) if effect is None else _effect_cell(effect, " (block)")

    return _Column(head, cell)


def _effect_cell(effect: Effect, ending: str) -> str:
    error = effect.standard_error
    text = f"{'+' if effect.value > 0 else ''}{format_value(effect.value, 3)}"
    if error and math.isfinite(error):
        text += f" ± {format_value(Z95 * error, 2)}"
    return number_cell(text + ending, effect.value)


def _device_columns(timings: Sequence[Timings], chosen: Trial | None) -> list[_Column]:
    """Columns of precisions and milliseconds that devices ran the chosen map's layers with, where known."""
    columns, files = [], set()
    for entry in timings:
        measured = None if chosen is None else entry.of(chosen)
        rows = {} if measured is None else {str(row["layer"]): row for row in measured.layers}
        if entry.table.digest not in files and any(row.get("actual") for row in rows.values()):
            files.add(entry.table.digest)
            columns.append(_ran_column(f"runs in, {entry.place}", rows))
        if any(row.get("ms") is not None for row in rows.values()):
            columns.append(_time_column(f"ms, {entry.place}", rows))
    return columns


def _ran_column(head: str, rows: Mapping[str, Mapping[str, Any]]) -> _Column:
    def cell(layer: Layer) -> str:
        row = rows.get(layer.name, {})
        return _actual_cell(row.get("actual"), is_mismatch=row.get("actual") != row.get("expected"))

    return _Column(head, cell)


def _time_column(head: str, rows: Mapping[str, Mapping[str, Any]]) -> _Column:
    def cell(layer: Layer) -> str:
        ms = rows.get(layer.name, {}).get("ms")
        return number_cell(format_value(ms, 3), ms)

    return _Column(head, cell)


def _reason_columns(reasons: Mapping[str, Reason]) -> list[_Column]:
    """A word for each layer's precision, with the whole reason on demand."""
    if not reasons:
        return []

    def cell(layer: Layer) -> str:
        reason = reasons.get(layer.name)
        if reason is None:
            return "<td>—</td>"
        text = f"<details><summary>{word_of(reason)}</summary>{escape(reason.text)}</details>"
        return f'<td class="reason">{text}</td>'

    return [_Column("why", cell)]
