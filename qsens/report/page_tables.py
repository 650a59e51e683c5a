"""Tables of the report page as HTML: reference scores, the precision map, the trials."""

from collections.abc import Mapping, Sequence
from html import escape

from qsens.device.audit import LayerAudit
from qsens.layer import Layer, macs_share
from qsens.precision import Precision, PrecisionMap
from qsens.report.map_shapes import map_title
from qsens.report.metric_names import axis_title, format_value, short_name
from qsens.report.tables import differing_layers
from qsens.selection import Z95, built_map, int8_share
from qsens.sweep import anchor_trial
from qsens.timings import Timings
from qsens.trial import Outcome, Score, Study, Trial

_COLOURS = {Precision.FP32: "#1a1a1a", Precision.FP16: "#007F5F", Precision.INT8: "#A0528C"}


def score_table(study: Study, chosen: Trial | None, timings: Sequence[Timings] = ()) -> str:
    """FP32, all-FP16, all-INT8 and the chosen map: share, size, times and every score with its interval."""
    rows = []
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            name = "FP32" if precision is Precision.FP32 else f"all {precision.upper()}"
            rows.append((name, trial, trial is chosen))
    if chosen is not None and not any(is_chosen for _, _, is_chosen in rows):
        rows.append(("chosen map", chosen, True))
    heads = ["map", "trial", "INT8 MACs", "size", *map(_time_head, timings), *map(short_name, study.metrics)]
    titles = ["", "", "share of multiply-accumulates", "as built", *(f"median on {t.place}" for t in timings)]
    titles += map(axis_title, study.metrics)
    head = "".join(
        f'<th class="{"number" if place else "text"}" title="{escape(title)}">{escape(text)}</th>'
        for place, (text, title) in enumerate(zip(heads, titles, strict=True))
    )
    body = "".join(_score_row(name, trial, study, timings, is_chosen=mark) for name, trial, mark in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def score_text(score: Score | None) -> str:
    """The value, and its 95% interval where one was measured: paired with FP32 if that is known."""
    if score is None:
        return "—"
    error = score.difference_standard_error or score.standard_error
    text = format_value(score.value)
    return text if not error else f"{text} ± {format_value(Z95 * error, 2)}"


def map_table(layers: Sequence[Layer], chosen: Trial, audit: Mapping[str, LayerAudit]) -> str:
    """Every layer under its names, with its requested and applied precision; a difference is outlined.

    `audit` is what the engine said of its layers, by name; nothing where it said nothing.
    """
    total = sum(layer.macs for layer in layers) or 1
    rows = []
    for layer in layers:
        requested = chosen.requested[layer.name]
        applied = chosen.applied[layer.name] if chosen.applied else None
        share = layer.macs / total
        bar = f'<span class="bar" style="width:{6 * share:.2f}rem"></span>'
        differs = applied is not None and applied is not requested
        rows.append(
            f'<tr><td class="number">{layer.index}</td><td>{escape(layer.name)}</td>'
            f"<td>{escape(layer.node)}</td>{_engine_cell(audit.get(layer.name)) if audit else ''}"
            f"<td>{escape(layer.block)}</td><td>{escape(layer.kind)}</td>"
            f'<td class="number">{layer.parameters:,}</td>'
            f'<td data-key="{share}">{bar}{share:.1%}</td>'
            f"<td>{chip(requested)}</td><td>{chip(applied, differs=differs)}</td></tr>"
        )
    engine = ("engine layer",) if audit else ()
    heads = (
        "#",
        "layer",
        "ONNX node",
        *engine,
        "block",
        "kind",
        "parameters",
        "MACs",
        "requested",
        "applied",
    )
    return _sortable(heads, rows)


def _engine_cell(row: LayerAudit | None) -> str:
    """The engine's name of the step, what is fused into it on hovering, and what its numbers need said."""
    if row is None or row.engine_layer is None:
        return "<td>—</td>"
    fused = f' title="with {escape(", ".join(row.fused_with))}"' if row.fused_with else ""
    note = f'<br><span class="note">{escape(row.note)}</span>' if row.note else ""
    return f"<td{fused}>{escape(row.engine_layer)}{note}</td>"


def chip(precision: Precision | None, *, differs: bool = False) -> str:
    """A coloured label of one precision."""
    if precision is None:
        return "—"
    classes = f"chip {precision}{' mismatch' if differs else ''}"
    return f'<span class="{classes}">{precision.upper()}</span>'


def trial_table(
    study: Study, chosen: Trial | None, evidence: Mapping[int, str], timings: Sequence[Timings] = ()
) -> str:
    """One row a trial; `evidence` holds relative links by trial number, `timings` measured times."""
    heads = ["trial", "map", "layers", "INT8 MACs", *map(_time_head, timings)]
    heads += [*map(short_name, study.metrics), "overflows", "seconds"]
    rows = [
        _trial_row(trial, study, evidence.get(trial.number), timings, is_chosen=trial is chosen)
        for trial in study.trials
    ]
    return _sortable(heads, rows)


def _time_head(timings: Timings) -> str:
    return f"ms, {timings.place}"


def _time_text(timings: Timings, trial: Trial) -> str:
    measured = timings.of(trial)
    if measured is None:
        return "—"
    half_width = measured.half_width_ms
    return format_value(measured.ms) + (f" ± {format_value(half_width, 2)}" if half_width else "")


def map_picture(precision_map: PrecisionMap, layers: Sequence[Layer]) -> str:
    """A small bar, one slot a layer in execution order, coloured by precision."""
    runs: list[tuple[Precision, int, int]] = []
    for place, layer in enumerate(layers):
        precision = precision_map[layer.name]
        if runs and runs[-1][0] is precision:
            runs[-1] = (precision, runs[-1][1], place + 1)
        else:
            runs.append((precision, place, place + 1))
    bars = "".join(
        f'<rect x="{start}" y="0" width="{stop - start}" height="1" fill="{_COLOURS[precision]}"/>'
        for precision, start, stop in runs
    )
    words = ", ".join(f"{precision.upper()} {start} to {stop - 1}" for precision, start, stop in runs)
    return (
        f'<svg class="map" viewBox="0 0 {max(len(layers), 1)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><title>{words}</title>{bars}</svg>'
    )


def _score_row(name: str, trial: Trial, study: Study, timings: Sequence[Timings], *, is_chosen: bool) -> str:
    size = "—" if trial.size_bytes is None else f"{trial.size_bytes / 2**20:.2f} MiB"
    cells = [str(trial.number), f"{int8_share(study, trial):.1%}", size]
    cells += [_time_text(entry, trial) for entry in timings]
    cells += [score_text(trial.score(metric)) for metric in study.metrics]
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    shown = f"{name} (chosen)" if is_chosen and name != "chosen map" else name
    return f"<tr{' class=chosen' if is_chosen else ''}><td>{escape(shown)}</td>{numbers}</tr>"


def _trial_row(
    trial: Trial, study: Study, evidence: str | None, timings: Sequence[Timings], *, is_chosen: bool
) -> str:
    shown = built_map(trial)
    number = str(trial.number)
    if evidence is not None:
        number = f'<a href="{escape(evidence)}">{number}</a>'
    cells = [f'<td class="number" id="trial-{trial.number}" data-key="{trial.number}">{number}</td>']
    title = escape(map_title(shown, study.layers))
    cells.append(f'<td class="text">{title}{_note(trial, study.layers)}</td>')
    cells.append(f"<td>{map_picture(shown, study.layers)}</td>")
    share = macs_share(study.layers, shown, Precision.INT8)
    cells.append(_number(f"{share:.1%}", share))
    for entry in timings:
        measured = entry.of(trial)
        cells.append(_number(_time_text(entry, trial), None if measured is None else measured.ms))
    for metric in study.metrics:
        score = trial.score(metric)
        cells.append(_number(score_text(score), None if score is None else score.value))
    overflows = sum(count for _, count in trial.fp16_overflows)
    cells += [_number(str(overflows), overflows), _number(f"{trial.duration_s:.1f}", trial.duration_s)]
    classes = [name for name, holds in _row_classes(trial, study, is_chosen=is_chosen).items() if holds]
    return f'<tr class="{" ".join(classes)}">{"".join(cells)}</tr>'


def _row_classes(trial: Trial, study: Study, *, is_chosen: bool) -> dict[str, bool]:
    return {
        "chosen": is_chosen,
        "failed": trial.outcome is Outcome.FAILED,
        "differs": bool(differing_layers(trial, study.layers)),
    }


def _note(trial: Trial, layers: Sequence[Layer]) -> str:
    """What went wrong with a trial, below its title; nothing for most."""
    differing = differing_layers(trial, layers)
    if trial.outcome is Outcome.FAILED:
        text = f"failed: {trial.error or 'no message'}"
    elif differing:
        names = ", ".join(differing[:3]) + (" …" if len(differing) > 3 else "")
        text = f"not as requested: {names}"
    else:
        return ""
    if trial.mismatches:
        text += f"; {len(trial.mismatches)} layers run in another precision than this engine should"
    return f'<br><span class="note">{escape(text)}</span>'


def _number(text: str, key: float | None) -> str:
    return f'<td class="number" data-key="{"" if key is None else _sort_key(key)}">{escape(text)}</td>'


def _sort_key(value: float) -> str:
    """JavaScript reads `Infinity`, not `inf`."""
    return repr(value).replace("inf", "Infinity")


def _sortable(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
