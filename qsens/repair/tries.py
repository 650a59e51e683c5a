"""The tries of a search and their results, on disk one by one: after a stop it goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qsens.core.files import write_error
from qsens.device.special_files import read_file


class Tries:
    """Outcomes by what was tried, in the file `path`, whose first line is `key`; others are begun anew.

    A search that asks for the same again, in any order, gets what came of it. The file is there from the
    first outcome on.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        lines = _lines_of(path)
        self._is_begun = lines[:1] == [key]
        self._outcomes = dict(filter(None, map(_entry, lines[1:]))) if self._is_begun else {}

    def outcome(self, tried: object, make: Callable[[], Any]) -> Any:
        """The outcome of `tried`, made where it is not known yet; both are plain values for JSON.

        Raises:
            RunFolderError: if the file cannot be written.
        """
        text = json.dumps(tried, sort_keys=True)
        if text not in self._outcomes:
            self._outcomes[text] = make()
            self._write(json.dumps([text, self._outcomes[text]]) + "\n")
        return self._outcomes[text]

    def remove(self) -> None:
        """Remove the file, once what was searched for is kept."""
        self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        start, mode = ("", "a") if self._is_begun else (f"{self._key}\n", "w")
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(start + line)
        except OSError as error:
            raise write_error(self._path, error) from error
        self._is_begun = True


def _lines_of(path: Path) -> list[str]:
    try:
        return read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _entry(line: str) -> tuple[str, Any] | None:
    """The try that a line tells of; nothing for one that a kill has torn."""
    try:
        text, outcome = json.loads(line)
    except (ValueError, TypeError):
        return None
    return text, outcome
