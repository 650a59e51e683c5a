"""Rows and cells of the tables: what we measured, and what the paper prints beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from qsens.core.metric_names import base_name, format_value, short_name
from qsens.core.trial import Study, Trial
from qsens.report.comparable import scored_trials
from qsens.zoo.paper.published import UNKNOWN, Published

NOTHING = "—"


@dataclass(frozen=True)
class Column:
    """A quantity of a table. `title` is ours; with `is_published` the paper's column stands beside it."""

    key: str
    title: str
    is_published: bool = False


@dataclass(frozen=True)
class Cell:
    """Our value and the paper's. `text` is shown; `value` and `half_width` (95 %) are for the CSV file."""

    text: str = NOTHING
    value: float | None = None
    half_width: float | None = None
    published: Published | None = None
    images: int | None = None

    @property
    def published_text(self) -> str:
        """The paper's value as printed, or that it is not known."""
        return UNKNOWN if self.published is None else self.published.text


@dataclass(frozen=True)
class Row:
    """One row: its labels, then a cell for each column, in order."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. `notes` stand below it."""

    name: str
    title: str
    label_titles: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...] = ()

    def header(self) -> tuple[str, ...]:
        """Titles of all columns as shown, the paper's beside ours."""
        titles = list(self.label_titles)
        for column in self.columns:
            titles += [f"{column.title}, ours", "paper"] if column.is_published else [column.title]
        return tuple(titles)

    def lines(self) -> list[tuple[str, ...]]:
        """The rows as shown, one text a column of `header`."""
        shown = []
        for row in self.rows:
            texts = list(row.labels)
            for column, cell in zip(self.columns, row.cells, strict=True):
                texts += [cell.text, cell.published_text] if column.is_published else [cell.text]
            shown.append(tuple(texts))
        return shown

    def records(self) -> list[dict[str, object]]:
        """One record a cell, for the CSV file: numbers in full, the source of every published value."""
        return [
            {
                **dict(zip(self.label_titles, row.labels, strict=True)),
                "quantity": column.title,
                "ours": cell.text if cell.value is None else cell.value,
                "95% +-": cell.half_width,
                "images": cell.images,
                "paper": cell.published_text if column.is_published else None,
                "paper source": cell.published.source if cell.published else None,
                "paper note": (cell.published.note or None) if cell.published else None,
            }
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
        ]


def metric_named(study: Study, base: str) -> str | None:
    """The study's metric of that base name, with its extractor: `fid[lite0]` for `fid`."""
    return next((name for name in study.metrics if base_name(name) == base), None)


def metric_title(studies: Sequence[Study], base: str) -> str:
    """The metric as the first study that has it writes it, for a heading."""
    names = (metric_named(study, base) for study in studies)
    return short_name(next((name for name in names if name is not None), base))


def score_cell(study: Study, trial: Trial | None, base: str, published: Published | None = None) -> Cell:
    """The trial's score of a metric with its 95 % interval; a dash where it was not measured."""
    metric = metric_named(study, base)
    found = [] if metric is None or trial is None else scored_trials(study, metric)
    scored = next((entry for entry in found if entry.trial is trial), None)
    if scored is None or metric is None:
        return Cell(published=published)
    score = scored.trial.score(metric)
    text = format_value(scored.value)
    if scored.half_width:
        text += f" ± {format_value(scored.half_width, 2)}"
    images = None if score is None else score.images
    return Cell(text, scored.value, scored.half_width, published, images)
