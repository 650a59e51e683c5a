"""Tables of the report page as HTML: reference scores, trials, several runs; cells that tables share."""

from collections.abc import Sequence

from qsens.core.alterations import title_of
from qsens.core.layer import Layer
from qsens.core.maps import anchor_name, anchor_trial, built_map, int8_share
from qsens.core.metric_names import Z95, axis_title, format_value, headline_metrics, short_name, shown_value
from qsens.core.other_work import of_all_work
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial, Yardstick
from qsens.report.comparable import reference_of
from qsens.report.page_content import PageContent
from qsens.report.page_text import escape
from qsens.report.tables import differing_layers
from qsens.selection.timings import Timings


def score_table(study: Study, chosen: Trial | None, timings: Sequence[Timings] = ()) -> str:
    """FP32, all-FP16, all-INT8 and the chosen map: share, size, times and every score with its interval.

    Below them are the run's yardsticks.
    """
    rows = []
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            rows.append((anchor_name(precision, study.layers), trial, trial is chosen))
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
    body += "".join(_yardstick_row(entry, study, len(timings)) for entry in study.yardsticks)
    return wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "Scores")


def wide(table: str, name: str) -> str:
    """A table that scrolls by itself where it is wider than the page, by keys too, labelled by `name`."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{escape(name)}, a table">{table}</div>'


def score_text(score: Score | None) -> str:
    """The value, and its 95% interval where one was measured: paired with FP32 if that is known."""
    if score is None:
        return "—"
    error = score.difference_standard_error or score.standard_error
    text = format_value(shown_value(score.metric, score.value))
    return text if not error else f"{text} ± {format_value(Z95 * error, 2)}"


def chip(precision: Precision | None, *, differs: bool = False) -> str:
    """A coloured label of one precision."""
    if precision is None:
        return "—"
    classes = f"chip {precision}{' mismatch' if differs else ''}"
    return f'<span class="{classes}">{precision.upper()}</span>'


def trial_table(study: Study, chosen: Trial | None, timings: Sequence[Timings] = ()) -> str:
    """One row a trial; `timings` are measured times.

    A row carries its trial's number, by which the script finds it.
    """
    heads = ["trial", "map", "layers", "INT8 MACs", *map(_time_head, timings)]
    heads += [*map(short_name, study.metrics), "overflows", "seconds"]
    rows = [_trial_row(trial, study, timings, is_chosen=trial is chosen) for trial in study.trials]
    return sortable_table(heads, rows, "trials")


def _time_head(timings: Timings) -> str:
    return f"ms, {timings.place}"


def time_text(timings: Timings, trial: Trial) -> str:
    """The median milliseconds of a trial's map with its interval; a dash where it was not measured."""
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
        f'<rect x="{start}" y="0" width="{stop - start}" height="1" class="{precision}"/>'
        for precision, start, stop in runs
    )
    words = ", ".join(f"{precision.upper()} {start} to {stop - 1}" for precision, start, stop in runs)
    return (
        f'<svg class="map" viewBox="0 0 {max(len(layers), 1)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><title>{words}</title>{bars}</svg>'
    )


def _score_row(name: str, trial: Trial, study: Study, timings: Sequence[Timings], *, is_chosen: bool) -> str:
    size = "—" if trial.size_bytes is None else f"{trial.size_bytes / 2**20:.2f} MiB"
    cells = [str(trial.number), _share_text(study, int8_share(study, trial)), size]
    cells += [time_text(entry, trial) for entry in timings]
    cells += [score_text(trial.score(metric)) for metric in study.metrics]
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    shown = f"{name} (chosen)" if is_chosen and name != "chosen map" else name
    return f"<tr{' class=chosen' if is_chosen else ''}><td>{escape(shown)}</td>{numbers}</tr>"


def _yardstick_row(entry: Yardstick, study: Study, times: int) -> str:
    """The scores of FP32's pictures after an alteration, the scale of the columns."""
    cells = ["—"] * (3 + times) + [score_text(entry.score(metric)) for metric in study.metrics]
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    return f'<tr class="faint"><td>FP32 after {escape(title_of(entry.alteration))}</td>{numbers}</tr>'


def _share_text(study: Study, share: float) -> str:
    return f"{share:.1%}{of_all_work(share, study.layers, study.other_work)}"


def _trial_row(trial: Trial, study: Study, timings: Sequence[Timings], *, is_chosen: bool) -> str:
    shown = built_map(trial)
    cells = [number_cell(str(trial.number), trial.number)]
    title = escape(study.shapes.map_title(shown))
    cells.append(f'<td class="text">{title}{_note(trial, study)}</td>')
    cells.append(f"<td>{map_picture(shown, study.layers)}</td>")
    share = study.shapes.int8_share(shown)
    cells.append(number_cell(_share_text(study, share), share))
    for entry in timings:
        measured = entry.of(trial)
        cells.append(number_cell(time_text(entry, trial), None if measured is None else measured.ms))
    for metric in study.metrics:
        score = trial.score(metric)
        cells.append(number_cell(score_text(score), None if score is None else score.value))
    overflows = sum(count for _, count in trial.fp16_overflows)
    cells += [
        number_cell(str(overflows), overflows),
        number_cell(f"{trial.duration_s:.1f}", trial.duration_s),
    ]
    classes = [name for name, holds in _row_classes(trial, study, is_chosen=is_chosen).items() if holds]
    return f'<tr class="{" ".join(classes)}" data-trial="{trial.number}">{"".join(cells)}</tr>'


def _row_classes(trial: Trial, study: Study, *, is_chosen: bool) -> dict[str, bool]:
    return {
        "chosen": is_chosen,
        "failed": trial.outcome is Outcome.FAILED,
        "screened": trial.outcome is Outcome.SCREENED,
        "differs": bool(differing_layers(trial, study.layers)),
    }


def outcome_note(trial: Trial) -> str:
    """The reason that a trial has no scores like the others'; empty where it has."""
    if trial.outcome is Outcome.FAILED:
        return f"failed: {trial.error or 'no message'}"
    if trial.outcome is Outcome.SCREENED:
        return f"screened: scored on {screened_images(trial)} only; compare it with other screens only"
    return ""


def screened_images(trial: Trial) -> str:
    """The images that a screened trial was scored on, in words."""
    return f"{trial.scores[0].images} images" if trial.scores else "a few images"


def _note(trial: Trial, study: Study) -> str:
    """A note below the title of a trial that is apart from the others; empty for most."""
    screened, parts = "", []
    differing, same_as = differing_layers(trial, study.layers), study.same_as(trial)
    if trial.outcome is Outcome.FAILED:
        parts.append(outcome_note(trial))
    elif differing:
        names = ", ".join(differing[:3]) + (" …" if len(differing) > 3 else "")
        parts.append(f"not as requested: {names}")
    if same_as is not None:
        parts.append(f"the same graph as trial {same_as}, whose scores it has")
    if parts and trial.mismatches:
        parts.append(f"{len(trial.mismatches)} layers run in another precision than this engine should")
    if trial.outcome is Outcome.SCREENED:
        screened = f'<br><small class="faint">screened on {escape(screened_images(trial))}</small>'
    return screened + (f'<br><span class="note">{escape("; ".join(parts))}</span>' if parts else "")


def number_cell(text: str, key: float | None) -> str:
    """A right-aligned cell that sorts by `key`; an absent one sorts last."""
    return f'<td class="number" data-key="{"" if key is None else _sort_key(key)}">{escape(text)}</td>'


def _sort_key(value: float) -> str:
    """JavaScript reads `Infinity`, not `inf`."""
    return repr(value).replace("inf", "Infinity")


def sortable_table(heads: Sequence[str], rows: Sequence[str], name: str) -> str:
    """A table that the script sorts by a click on a heading; `name` is its class beside `sortable`."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return wide(f'<table class="sortable {name}">{body}</table>', name.capitalize())


def run_switch(runs: Sequence[PageContent]) -> str:
    """Buttons, one a run; the script shows the parts of the run that is pressed."""
    buttons = "".join(
        f'<button type="button" data-show-run="{place}" aria-pressed="{"false" if place else "true"}">'
        f"{escape(content.run_name)}</button>"
        for place, content in enumerate(runs)
    )
    return f'<nav class="runs" aria-label="Run">{buttons}</nav>'


def comparison(runs: Sequence[PageContent]) -> str:
    """A row a run: FP32, INT8 everywhere and the chosen map, and a warning where scores do not compare."""
    metrics = tuple(dict.fromkeys(metric for run in runs for metric in headline_metrics(run.study.metrics)))
    first, rest = metrics[:1], metrics[1:]
    heads = ["run", "layers", "scored", "chosen map", "INT8 MACs"]
    int8 = anchor_name(Precision.INT8, [layer for run in runs for layer in run.study.layers])
    heads += [f"{short_name(metric)}, {what}" for metric in first for what in ("FP32", int8, "chosen")]
    heads += [f"{short_name(metric)}, chosen" for metric in rest]
    rows = [_row(content, first, rest) for content in runs]
    return (
        f"<h2>The runs side by side</h2>{sortable_table(heads, rows, 'comparison')}{_warning(runs, metrics)}"
    )


def _row(content: PageContent, first: Sequence[str], rest: Sequence[str]) -> str:
    study, chosen = content.study, content.chosen
    title = "none yet" if chosen is None else study.shapes.map_title(built_map(chosen))
    share = None if chosen is None else int8_share(study, chosen)
    cells = [
        f"<td>{escape(content.run_name)}</td>",
        number_cell(str(len(study.layers)), len(study.layers)),
        number_cell(str(len(study.scored())), len(study.scored())),
        f'<td class="text">{escape(title)}</td>',
        number_cell("—" if share is None else _share_text(study, share), share),
    ]
    shown = (anchor_trial(study, Precision.FP32), anchor_trial(study, Precision.INT8), chosen)
    cells += [_score_cell(trial, metric) for metric in first for trial in shown]
    cells += [_score_cell(chosen, metric) for metric in rest]
    return f"<tr>{''.join(cells)}</tr>"


def _score_cell(trial: Trial | None, metric: str) -> str:
    score = None if trial is None else trial.score(metric)
    return number_cell(score_text(score), None if score is None else score.value)


def _warning(runs: Sequence[PageContent], metrics: Sequence[str]) -> str:
    apart = [
        short_name(metric)
        for metric in metrics
        if len({found for run in runs if (found := reference_of(run.study, metric)) is not None}) > 1
    ]
    if not apart:
        return ""
    return (
        '<div class="finding warning"><b>Compare shapes, not values.</b>'
        f"{escape(', '.join(apart))} were measured against different references, extractors or inputs.</div>"
    )
