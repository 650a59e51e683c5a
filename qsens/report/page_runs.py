"""What a page of several runs has above them: the switch, and a table that compares their headline scores."""

from collections.abc import Sequence

from qsens.core.maps import anchor_trial, built_map, int8_share, map_title
from qsens.core.metric_names import headline_metrics, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Trial
from qsens.report.comparable import reference_of
from qsens.report.page_content import PageContent
from qsens.report.page_tables import number_cell, score_text, sortable_table
from qsens.report.page_text import escape


def run_switch(runs: Sequence[PageContent]) -> str:
    """Buttons, one a run; the script shows the parts of the run that is pressed."""
    buttons = "".join(
        f'<button type="button" data-show-run="{place}" aria-pressed="{"false" if place else "true"}">'
        f"{escape(content.run_name)}</button>"
        for place, content in enumerate(runs)
    )
    return f'<nav class="runs" aria-label="Run">{buttons}</nav>'


def comparison(runs: Sequence[PageContent]) -> str:
    """A row a run: FP32, all INT8 and the chosen map, and a warning where scores must not be compared."""
    metrics = tuple(dict.fromkeys(metric for run in runs for metric in headline_metrics(run.study.metrics)))
    first, rest = metrics[:1], metrics[1:]
    heads = ["run", "layers", "scored", "chosen map", "INT8 MACs"]
    heads += [f"{short_name(metric)}, {what}" for metric in first for what in ("FP32", "all INT8", "chosen")]
    heads += [f"{short_name(metric)}, chosen" for metric in rest]
    rows = [_row(content, first, rest) for content in runs]
    return (
        f"<h2>The runs side by side</h2>{sortable_table(heads, rows, 'comparison')}{_warning(runs, metrics)}"
    )


def _row(content: PageContent, first: Sequence[str], rest: Sequence[str]) -> str:
    study, chosen = content.study, content.chosen
    title = "none yet" if chosen is None else map_title(built_map(chosen), study.layers)
    share = None if chosen is None else int8_share(study, chosen)
    cells = [
        f"<td>{escape(content.run_name)}</td>",
        number_cell(str(len(study.layers)), len(study.layers)),
        number_cell(str(len(study.scored())), len(study.scored())),
        f'<td class="text">{escape(title)}</td>',
        number_cell("—" if share is None else f"{share:.1%}", share),
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
