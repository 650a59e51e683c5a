"""`report.html`: one self-contained page, made of plain values and pictures that are already drawn."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from qsens.device.audit import LayerAudit
from qsens.report.finding import Finding
from qsens.report.map_shapes import map_title
from qsens.report.metric_names import axis_title
from qsens.report.page_assets import SCRIPT, STYLE
from qsens.report.page_tables import map_table, score_table, trial_table
from qsens.selection import built_map, int8_share
from qsens.timings import Timings
from qsens.trial import Study, Trial

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Picture:
    """A drawn figure: `png` are the bytes of its file."""

    heading: str
    caption: str
    png: bytes = field(repr=False)
    is_detail: bool = False


@dataclass(frozen=True)
class PageContent:
    """Everything the page shows.

    `verdict` says on what grounds the map was chosen; `evidence` holds relative links by trial number;
    `provenance` are titled groups of names and values; `date` is when the page was written; `timings` are
    times that were measured on devices; `audit` is what the chosen map's engine said of its layers.
    """

    run_name: str
    study: Study
    chosen: Trial | None
    verdict: str
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    evidence: Mapping[int, str]
    provenance: Mapping[str, Mapping[str, str]]
    date: str
    timings: Sequence[Timings] = ()
    audit: Mapping[str, LayerAudit] = field(default_factory=dict)


def render_page(content: PageContent) -> str:
    """The page as HTML; every text from the run is escaped and nothing outside the file is requested."""
    title = f"Precision sensitivity of {content.run_name}"
    sections = (
        _headline(content, title),
        _findings(content.findings),
        _pictures([picture for picture in content.pictures if not picture.is_detail]),
        _details([picture for picture in content.pictures if picture.is_detail]),
        _map_section(content),
        _trials_section(content),
        _provenance(content),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        f"{''.join(sections)}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _headline(content: PageContent, title: str) -> str:
    study, chosen = content.study, content.chosen
    if chosen is None:
        answer = "<strong>No map has been chosen yet.</strong>"
    else:
        share = f"{int8_share(study, chosen):.1%} of the multiply-accumulates in INT8"
        name = escape(map_title(built_map(chosen), study.layers))
        answer = f"<strong>Chosen map: {name}</strong><br>Trial {chosen.number}, {share}."
    verdict = f"<p>{escape(content.verdict)}</p>" if content.verdict else ""
    scored, total = len(study.scored()), len(study.trials)
    counts = f"{len(study.layers)} layers, {total} trials, {scored} scored. Written {escape(content.date)}."
    return (
        f'<h1>{escape(title)}</h1><p class="faint">{counts}</p>'
        f'<div class="answer">{answer}{verdict}</div>{score_table(study, chosen, content.timings)}'
        f'<p class="faint">± is the 95% interval: of the difference to FP32 on the same inputs where it was '
        f"measured, of the value itself otherwise{_of_times(content)}. {_meanings(study)}</p>"
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
    return f"<h2>Read this first</h2>{entries}"


def _pictures(pictures: Sequence[Picture]) -> str:
    return "".join(f"<h2>{escape(picture.heading)}</h2>{_figure(picture)}" for picture in pictures)


def _details(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    entries = "".join(
        f"<details><summary>{escape(picture.heading)}</summary>{_figure(picture)}</details>"
        for picture in pictures
    )
    return f"<h2>More figures</h2>{entries}"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _map_section(content: PageContent) -> str:
    if content.chosen is None:
        return ""
    table = map_table(content.study.layers, content.chosen, content.audit)
    return (
        "<h2>The precision map, layer by layer</h2>"
        '<p class="faint">Requested is what was asked of the backend, applied is what its engine runs; '
        f"where they differ the label is outlined.</p>{table}"
    )


def _trials_section(content: PageContent) -> str:
    table = trial_table(content.study, content.chosen, content.evidence, content.timings)
    return (
        '<h2>All trials</h2><p class="faint">Click a heading to sort. The bar shows the precision of every '
        'layer as the engine ran, first layer at the left: <span class="chip fp32">FP32</span> '
        '<span class="chip fp16">FP16</span> <span class="chip int8">INT8</span>. A star after the number: '
        f"built differently from the request. The number links to the trial's features.</p>{table}"
    )


def _provenance(content: PageContent) -> str:
    groups = []
    for title, pairs in content.provenance.items():
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
        groups.append(f"<h3>{escape(title)}</h3><dl>{rows}</dl>")
    return f"<h2>How these numbers came about</h2>{''.join(groups)}"
