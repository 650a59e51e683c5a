"""`compare.html`: the page of all runs, with what a comparison adds to it."""

import base64
from collections.abc import Mapping
from dataclasses import replace

from qsens.report.compare.compare import Comparison
from qsens.report.compare.tables import ComparedTable, Remarks, remarks_of, tables_of
from qsens.report.page import render_pages
from qsens.report.page_text import escape
from qsens.report.write import page_content

CAPTIONS = {
    "compare-boundary": "The boundary curves of all runs",
    "compare-tradeoff": "The trade-offs of all runs",
}


def comparison_page(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML: tables, remarks and `pictures` (PNG files by stem), then every run by itself.

    Raises:
        RunFolderError, SpecError: as `qsens.report.write.page_content`.
    """
    contents = [replace(page_content(run.path), run_name=run.label) for run in comparison.runs]
    parts = [
        f"<h2>Compared with {escape(comparison.runs[0].label)}</h2>",
        *(_remarks(entry) for entry in remarks_of(comparison)),
        *(_table(entry) for entry in tables_of(comparison)),
        *(_figure(CAPTIONS[stem], png) for stem, png in pictures.items()),
        _note_on_chosen(comparison),
    ]
    return render_pages(contents, extra="".join(parts))


def _table(table: ComparedTable) -> str:
    caption = f"<p>{escape(table.caption)}</p>" if table.caption else ""
    notes = "".join(f'<p class="faint">{escape(note)}</p>' for note in table.notes)
    if not table.rows:
        return caption + notes
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    return (
        f'{caption}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{notes}"
    )


def _cells(table: ComparedTable, row: tuple[str, ...]) -> str:
    opening = ('<td class="number">' if column in table.right else "<td>" for column in range(len(row)))
    return "".join(f"{tag}{escape(cell)}</td>" for tag, cell in zip(opening, row, strict=True))


def _remarks(remarks: Remarks) -> str:
    lines = "<br>".join(escape(line) for line in remarks.lines)
    return f'<div class="finding warning"><b>{escape(remarks.title)}.</b>{lines}</div>'


def _figure(caption: str, png: bytes) -> str:
    data, text = base64.b64encode(png).decode(), escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _note_on_chosen(comparison: Comparison) -> str:
    if comparison.limit_metric is None:
        return ""
    text = (
        "The maps above are chosen within the common budget. The parts of single runs show the map in each "
        "run's own precision_map.json."
    )
    return f'<p class="faint">{text}</p>'
