"""Tables as CSV: names are never taken for formulas, and our own tables are read back as they were."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# What spreadsheets take for the begin of a formula, and cells that already begin with our own mark.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"'+[=+\-@\t\r\n]")


class _Lines(io.StringIO):
    r"""Ends rows with a line feed. The writer must quote `\r` too, so it is told to end rows with it."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a line of names first; what is `None` is empty.

    A text that a spreadsheet would take for a formula gets a `'` before it; numbers stay as they are.
    """
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow([_guarded(name) for name in columns])
    writer.writerows([_guarded(cell) for cell in row] for row in rows)
    return lines.getvalue()


def csv_of_records(records: Sequence[Mapping[str, Any]]) -> str:
    """The same of records; their columns are the keys that any of them has."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_text(columns, [[record.get(name) for name in columns] for record in records])


def csv_records(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each row of a table that `csv_text` wrote.

    `text` has its line ends as they are in the file.

    Raises:
        ValueError: naming the line that is no CSV, or has more or fewer cells than there are columns.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = [_unguarded(cell) for cell in next(reader, [])]
        for row in filter(None, reader):
            if len(row) != len(columns):
                raise ValueError(f"line {reader.line_num} has {len(row)} cells for {len(columns)} columns")
            yield reader.line_num, dict(zip(columns, map(_unguarded, row), strict=True))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no CSV: {error}") from error


def _guarded(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if _MARKED.match(cell) else cell
