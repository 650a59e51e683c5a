"""`report.html`: one self-contained page of one or several runs, with charts that answer to the pointer."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from qsens.core.interfaces import Decision
from qsens.core.maps import anchor_trial
from qsens.core.metric_names import axis_title
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Study
from qsens.device.visible_text import visible_text
from qsens.report.difference_maps import difference_of
from qsens.report.findings import Finding, Severity
from qsens.report.interactive_data import run_data
from qsens.report.interactive_pictures import MOST_CHARACTERS, MOST_OF_A_RUN, pack_pictures
from qsens.report.page_answer import answer_section
from qsens.report.page_content import (
    STYLE,
    PageContent,
    interactive_script,
    read_asset,
    static_script,
)
from qsens.report.page_figures import figures_section
from qsens.report.page_layers import layer_table
from qsens.report.page_loop import loop_section
from qsens.report.page_network import network_picture
from qsens.report.page_repair import repair_section
from qsens.report.page_tables import (
    comparison,
    run_switch,
    score_table,
    screened_images,
    trial_table,
)
from qsens.report.page_text import escape

MISSING = (
    "The charts of this page do not move: the Python package plotly was not installed when it was written. "
    "Install it and run qsens report again."
)
_MOST_NAMED = 8
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def has_charting() -> bool:
    """Whether the charting library is installed."""
    return find_spec("plotly") is not None


@cache
def charting_library() -> str:
    """The charting library, plotly.js (MIT licence), as base64 of its zlib stream."""
    from plotly.offline import get_plotlyjs  # only pages with charts need it

    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


def interactive_section() -> str:
    """The empty frame of the charts and the walk; the script fills it and takes its `hidden` away."""
    return read_asset("interactive.html")


def interactive_scripts(runs: Sequence[PageContent]) -> str:
    """The values of the runs and the compressed library, both as data that no browser executes."""
    share = min(MOST_OF_A_RUN, MOST_CHARACTERS // max(len(runs), 1))
    values = []
    for content in runs:
        baseline = anchor_trial(content.study, Precision.FP32)
        packed = pack_pictures(
            content.samples,
            None if baseline is None else baseline.number,
            share,
            _first(content),
            difference_of(content.study),
        )
        values.append({**run_data(content), "pictures": None if packed is None else packed.to_json()})
    return (
        f'<script type="application/json" id="page-data">{script_json({"runs": values})}</script>\n'
        f'<script type="text/plain" id="charting-library">{charting_library()}</script>\n'
    )


def _first(content: PageContent) -> list[int]:
    """Trials whose pictures matter most: the chosen map's, and those of INT8 everywhere."""
    found = (content.chosen, anchor_trial(content.study, Precision.INT8))
    return [trial.number for trial in found if trial is not None]


def script_json(value: object) -> str:
    """JSON that can stand in a script element: no text in it can end the element or open a comment.

    What nobody would see in a text is shown.
    """
    text = json.dumps(_shown(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible_text(value)
    if isinstance(value, Mapping):
        return {key: _shown(entry) for key, entry in value.items()}
    return [_shown(entry) for entry in value] if isinstance(value, list | tuple) else value


def static_notice() -> str:
    """The notice on a page without charts."""
    return f'<p class="faint">{escape(MISSING)}</p>'


def render_page(content: PageContent, *, is_static: bool = False) -> str:
    """The page of one run, as `render_pages`."""
    return render_pages((content,), is_static=is_static)


def render_pages(
    runs: Sequence[PageContent], *, is_static: bool = False, extra: str = "", answer: str = ""
) -> str:
    """The page of one or several runs as HTML: a switch shows the parts of one run, charts can overlay all.

    Every text from a run is escaped and nothing outside the file is requested. `answer` is a sentence that
    stands above all, `extra` HTML below the table that compares the runs. A static page has no charts that
    move; so has one that is written where plotly is not installed, which it says.
    """
    is_interactive = not is_static and has_charting()
    title = _title(runs)
    parts = [
        f'<header><h1>{escape(title)}</h1><button type="button" class="theme" hidden>Dark</button></header>',
        f'<div class="answer"><strong>{escape(answer)}</strong></div>' if answer else "",
        *([comparison(runs), extra, run_switch(runs)] if len(runs) > 1 else [extra]),
        *(_of_run(place, _summary(content)) for place, content in enumerate(runs)),
        interactive_section() if is_interactive else "" if is_static else static_notice(),
        *(
            _of_run(place, _body(content, len(runs), is_interactive=is_interactive))
            for place, content in enumerate(runs)
        ),
    ]
    scripts = f"<script>{interactive_script() if is_interactive else static_script()}</script>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{''.join(parts)}\n"
        f"{interactive_scripts(runs) if is_interactive else ''}{scripts}</body></html>\n"
    )


def _title(runs: Sequence[PageContent]) -> str:
    if len(runs) == 1:
        return f"Precision sensitivity of {runs[0].run_name}"
    return f"Precision sensitivity of {len(runs)} runs"


def _of_run(place: int, parts: str) -> str:
    return f'<section class="run" data-run="{place}">{parts}</section>'


def _summary(content: PageContent) -> str:
    return f"{_counts(content)}{answer_section(content)}{network_picture(content)}"


def _body(content: PageContent, runs: int, *, is_interactive: bool) -> str:
    return "".join(
        (
            _findings(content.findings),
            _scores(content),
            _search_section(content.decisions),
            figures_section(content.pictures, is_interactive=is_interactive, runs=runs),
            loop_section(content.loop),
            repair_section(content.repair, content.study),
            _layers_section(content),
            _trials_section(content),
            _provenance(content),
        )
    )


def _counts(content: PageContent) -> str:
    study = content.study
    scored, total = len(study.scored()), len(study.trials)
    counts = f"{len(study.layers)} layers, {total} trials, {scored} scored. Written {escape(content.date)}."
    worries = sum(entry.severity is Severity.WARNING for entry in content.findings)
    link = f' <a href="#read-first">{worries} to read before believing it</a>.' if worries else ""
    return f'<p class="faint">{counts}{link}</p>'


def _scores(content: PageContent) -> str:
    table = score_table(content.study, content.chosen, content.timings)
    return (
        f"<h2>Scores</h2>{table}"
        f'<p class="faint">± is the 95% interval: of the difference to FP32 on the same inputs where it was '
        f"measured, of the value itself otherwise{_of_times(content)}. {_meanings(content.study)}</p>"
    )


def _of_times(content: PageContent) -> str:
    return "; of a time, that of its median" if content.timings else ""


def _meanings(study: Study) -> str:
    words = [axis_title(metric) for metric in study.metrics]
    return escape("Scores: " + "; ".join(words) + ".") if words else "No scores yet."


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    entries = "".join(
        f'<div class="finding {entry.severity}"><b>{escape(entry.title)}.</b>{escape(entry.text)}</div>'
        for entry in findings
    )
    return f'<h2 id="read-first">Read before believing it</h2>{entries}'


def _layers_section(content: PageContent) -> str:
    notes = []
    if content.chosen is not None:
        notes.append(
            "Requested is what was asked of the backend, applied is what its engine was built to run; where "
            "they differ the label is outlined."
        )
    if content.sensitivities:
        notes.append("The score's change is against FP32, or against INT8 in it too where it alone is not.")
        images = content.sensitivities[0].screen_images
        if images is not None:
            notes.append(
                f"Changes on {images} images are those of screens: compare them with each other only."
            )
    if content.timings:
        notes.append("Layers that one step of an engine computes share its milliseconds.")
    return f'<h2>Layer by layer</h2><p class="faint">{" ".join(notes)}</p>{layer_table(content)}'


def _search_section(decisions: Sequence[Decision]) -> str:
    if not decisions:
        return ""
    entries = "".join(f"<li>{escape(entry.text)}{_resting_on(entry.trials)}</li>" for entry in decisions)
    note = "What the search decided, in order, and the trials that each step rests on."
    return f'<h2>How the search went</h2><p class="faint">{note}</p><ol class="search">{entries}</ol>'


def _resting_on(trials: Sequence[int]) -> str:
    if not trials:
        return ""
    shown = ", ".join(f'<span data-look="{trial}">{trial}</span>' for trial in trials[:_MOST_NAMED])
    more = f" and {len(trials) - _MOST_NAMED} more" if len(trials) > _MOST_NAMED else ""
    return f' <span class="faint">(trial{"s" if len(trials) > 1 else ""} {shown}{more})</span>'


def _trials_section(content: PageContent) -> str:
    table = trial_table(content.study, content.chosen, content.timings)
    return (
        '<h2>All trials</h2><p class="faint">Click a heading to sort. The bar shows the precision of every '
        'layer as the engine ran, first layer at the left: <span class="chip fp32">FP32</span> '
        '<span class="chip fp16">FP16</span> <span class="chip int8">INT8</span>. A star after the number: '
        f"built differently from the request.{_of_screens(content.study)}</p>{table}"
    )


def _of_screens(study: Study) -> str:
    """An explanation of rows of screened trials, once for all of them."""
    counts = [screened_images(trial) for trial in study.trials if trial.outcome is Outcome.SCREENED]
    if not counts:
        return ""
    return (
        f" <strong>{len(counts)} trials in grey italics were screened: scored on {counts[0]} only. Compare "
        "their scores with each other, not with those of other trials.</strong>"
    )


def _provenance(content: PageContent) -> str:
    groups = []
    for title, pairs in content.provenance.items():
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
        groups.append(f"<h3>{escape(title)}</h3><dl>{rows}</dl>")
    return f"<h2>How these numbers came about</h2>{''.join(groups)}"
