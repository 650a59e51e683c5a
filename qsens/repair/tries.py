"""The errors of what a search has tried, on disk one by one: after a stop it goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path

from qsens.core.files import write_error
from qsens.device.special_files import read_file


class Tries:
    """Errors by what was tried, in the file `path`, whose first line is `key`; one of another is begun anew.

    A search that asks for the same again, in any order, gets what was measured.

    Raises:
        RunFolderError: if the file cannot be written.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._errors: dict[str, float] = {}
        lines = _lines_of(path)
        if lines[:1] == [key]:
            self._errors = dict(filter(None, map(_entry, lines[1:])))
        else:
            self._write(f"{key}\n", mode="w")

    def error(self, tried: object, measure: Callable[[], float]) -> float:
        """The error of `tried`, plain values for JSON, measured where it is not known yet."""
        text = json.dumps(tried, sort_keys=True)
        if text not in self._errors:
            self._errors[text] = measure()
            self._write(json.dumps([text, self._errors[text]]) + "\n", mode="a")
        return self._errors[text]

    def remove(self) -> None:
        """Remove the file, once what was searched for is kept."""
        self._path.unlink(missing_ok=True)

    def _write(self, text: str, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise write_error(self._path, error) from error


def _lines_of(path: Path) -> list[str]:
    try:
        return read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _entry(line: str) -> tuple[str, float] | None:
    """The try that a line tells of; nothing for one that a kill has torn."""
    try:
        text, error = json.loads(line)
        return str(text), float(error)
    except (ValueError, TypeError):
        return None
