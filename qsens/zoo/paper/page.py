"""`paper.md` and `paper.html`: the tables and figures with captions, from plain values and drawn pictures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qsens.report.page_content import STYLE
from qsens.report.page_text import escape
from qsens.zoo.paper.cells import PaperTable
from qsens.zoo.paper.published import LIMITS, PAPER

TITLE = "The paper's tables and figures, ours beside the published values"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A table or a figure, or both. `png` is the figure's file, `stem` names it in `figures/`."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[PaperTable, ...] = ()
    stem: str | None = None
    png: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Page:
    """Everything the page shows. `provenance` are titled groups of names and values, by run."""

    command: str
    date: str
    introduction: tuple[str, ...]
    sections: Sequence[Section]
    provenance: Mapping[str, Mapping[str, Mapping[str, str]]]


def render_markdown(page: Page) -> str:
    """The page as Markdown; figures are linked."""
    parts = [f"# {TITLE}", f"{PAPER}. Written {page.date} by `{page.command}`.", *page.introduction]
    for section in page.sections:
        parts.append(f"## {section.heading}")
        if section.stem is not None:
            parts.append(f"![{section.heading}](figures/{section.stem}.png)")
        for table in section.tables:
            if len(section.tables) > 1:
                parts.append(f"### {table.title}")
            parts += [_markdown_table(table), table.caption, *table.notes]
        parts += section.paragraphs
    parts.append("## What cannot be reproduced here")
    for limit in LIMITS:
        parts.append(f"**{limit.what}.** {limit.why}")
        parts += [f"```\n{limit.command}\n```"] if limit.command else []
    parts.append("## How these numbers came about")
    for run, groups in page.provenance.items():
        parts.append(f"### {run}")
        for title, pairs in groups.items():
            lines = [f"- {name}: {value}" for name, value in pairs.items()]
            parts.append("\n".join([f"{title}:", "", *lines]))
    return "\n\n".join(parts) + "\n"


def render_html(page: Page) -> str:
    """The page as one HTML file; every text is escaped and nothing outside the file is requested."""
    body = [f"<h1>{escape(TITLE)}</h1>"]
    body.append(
        f'<p class="faint">{escape(PAPER)}. Written {escape(page.date)} by '
        f"<code>{escape(page.command)}</code>.</p>"
    )
    body += [_paragraph(text) for text in page.introduction]
    body += [_html_section(section) for section in page.sections]
    body.append("<h2>What cannot be reproduced here</h2>")
    for limit in LIMITS:
        body.append(f"<p><strong>{escape(limit.what)}.</strong> {escape(limit.why)}</p>")
        body += [f"<pre><code>{escape(limit.command)}</code></pre>"] if limit.command else []
    body.append("<h2>How these numbers came about</h2>")
    for run, groups in page.provenance.items():
        body.append(f"<details><summary>{escape(run)}</summary>{_html_groups(groups)}</details>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(TITLE)}</title><style>{STYLE} pre {{ overflow-x: auto; }}</style></head>\n<body>\n"
        f"{''.join(body)}\n</body></html>\n"
    )


def _markdown_table(table: PaperTable) -> str:
    lines = [table.header(), ("---",) * len(table.header()), *table.lines()]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)


def _html_section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    if section.png is not None:
        data = base64.b64encode(section.png).decode()
        parts.append(
            f'<figure><img alt="{escape(section.heading)}" src="data:image/png;base64,{data}"></figure>'
        )
    for table in section.tables:
        parts += [f"<h3>{escape(table.title)}</h3>"] if len(section.tables) > 1 else []
        parts += [_html_table(table), *map(_paragraph, (table.caption, *table.notes))]
    parts += map(_paragraph, section.paragraphs)
    return "".join(parts)


def _html_table(table: PaperTable) -> str:
    labels = len(table.label_titles)
    head = "".join(
        f'<th class="{"text" if place < labels else "number"}">{escape(text)}</th>'
        for place, text in enumerate(table.header())
    )
    rows = []
    for line in table.lines():
        kinds = ["text"] * labels + ["number"] * (len(line) - labels)
        cells = "".join(
            f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(kinds, line, strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    body = "".join(rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _html_groups(groups: Mapping[str, Mapping[str, str]]) -> str:
    parts = []
    for title, pairs in groups.items():
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
        parts.append(f"<h3>{escape(title)}</h3><dl>{rows}</dl>")
    return "".join(parts)


def _paragraph(text: str) -> str:
    """A paragraph; what stands between backticks is code."""
    shown = [
        f"<code>{escape(piece)}</code>" if place % 2 else escape(piece)
        for place, piece in enumerate(text.split("`"))
    ]
    return f'<p class="faint">{"".join(shown)}</p>'
