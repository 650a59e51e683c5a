"""The journal of a run: one JSON line a trial, on disk before the next begins; and trials that wait."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qsens import __version__
from qsens.core.errors import RunFolderError, SpecError
from qsens.core.files import ChangedRecordError, sealed, unsealed, write_error
from qsens.core.precision import PrecisionMap
from qsens.core.schema import shown
from qsens.core.trial import Trial
from qsens.device.errors import reason_of
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file

FORMAT = 1


@dataclass(frozen=True)
class JournalContent:
    """The content of a journal file. `spec_digest` is `None` before the first line is complete.

    `good_bytes` is the length of the file without a torn last line.
    """

    spec_digest: str | None
    trials: tuple[Trial, ...]
    good_bytes: int


def read_journal(path: Path) -> JournalContent:
    """Read a journal without changing it; a torn last line is left out.

    Raises:
        RunFolderError: if the file cannot be read, or naming the line that is corrupt.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise RunFolderError(
            f"cannot read {path}: {reason_of(error)}", "give the folder of a run that has begun"
        ) from error
    lines = content.split(b"\n")[:-1]
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(_parse_line(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise _corrupt(path, number, f"it is not JSON ({error})") from error
    lines = lines[: len(values)]
    digest = _read_header(path, values[0]) if values else None
    trials = tuple(_read_trial(path, number, value) for number, value in enumerate(values[1:], start=2))
    return JournalContent(digest, trials, sum(len(line) + 1 for line in lines))


def check_numbers(path: Path, trials: Sequence[Trial]) -> None:
    """Check that the trials of the journal in `path` are numbered by their place, before more are added.

    Raises:
        RunFolderError: naming the line of the first that is not.
    """
    for place, trial in enumerate(trials):
        if trial.number != place:
            raise _corrupt(path, place + 2, f"trial {trial.number} stands where trial {place} belongs")


def check_order(path: Path, trials: Sequence[Trial]) -> None:
    """Check that no two trials of the journal in `path` share a number, as all else is found by it.

    Raises:
        RunFolderError: naming the line of the first that does not come after the one before it.
    """
    for line, (before, trial) in enumerate(pairwise(trials), start=3):
        if trial.number <= before.number:
            raise _corrupt(path, line, f"trial {trial.number} stands after trial {before.number}")


class Journal:
    """An open journal; trials that were in the file come first in `trials`. With `seals` lines are sealed.

    Opening cuts a torn last line: left in the file, it would swallow the next record.

    Raises:
        RunFolderError: if the file cannot be read or written, is corrupt, or belongs to another spec.
    """

    def __init__(self, path: Path, spec_digest: str, *, seals: bool = False) -> None:
        self.path = path
        self._seals = seals
        self.spec_digest = spec_digest
        content = read_journal(path) if path.exists() else JournalContent(None, (), 0)
        if content.spec_digest not in (None, spec_digest):
            raise RunFolderError(
                f"{path} belongs to another spec ({content.spec_digest}, this one is {spec_digest})",
                "give another folder with --out, or restore the spec.toml it was made with",
            )
        self._trials = list(content.trials)
        self._size = content.good_bytes
        self._file = _open_cut(path, self._size)
        if content.spec_digest is None:
            self._write_line({"format": FORMAT, "qsens": __version__, "spec": spec_digest})
            _sync_folder(path.parent)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial on disk, in the order of the file."""
        return tuple(self._trials)

    def append(self, trial: Trial) -> None:
        """Write one trial and wait until it is on disk.

        Raises:
            RunFolderError: if it cannot be written; the file keeps every earlier trial whole.
        """
        self._write_line(sealed(trial.to_json()) if self._seals else trial.to_json())
        self._trials.append(trial)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_line(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        try:
            _write_all(self._file, line, self._size)
            os.fsync(self._file)
        except OSError as error:
            _cut_back(self._file, self._size)
            raise write_error(self.path, error) from error
        self._size += len(line)


def _parse_line(line: bytes) -> dict[str, Any]:
    # A score may be infinite, or NaN where a metric of a plug-in makes it so.
    value = parse_json(line, only_finite=False)
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no table")
    return value


def _read_header(path: Path, value: dict[str, Any]) -> str:
    if value.get("format") != FORMAT or not isinstance(value.get("spec"), str):
        raise _corrupt(path, 1, f"it is not the header of format {FORMAT}")
    return str(value["spec"])


def _read_trial(path: Path, number: int, value: dict[str, Any]) -> Trial:
    try:
        return Trial.from_json(unsealed(value))
    except ChangedRecordError as error:
        raise _corrupt(path, number, str(error)) from error
    except (ValueError, SpecError) as error:
        raise _corrupt(path, number, f"it is not a trial ({error})") from error


def _corrupt(path: Path, number: int, reason: str) -> RunFolderError:
    remedy = "begin a new folder with --out"
    if number > 1:
        # Trials are numbered by their place: one less in the middle would have a number given twice.
        remedy = f"delete that line and those after it to lose only their trials, or {remedy}"
    return RunFolderError(f"line {number} of {path} is corrupt: {reason}", remedy)


def _write_all(file: int, content: bytes, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], offset + done)


def _cut_back(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:
        return  # the next opening cuts the torn line


def _open_cut(path: Path, size: int) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(file, size)
    except OSError as error:
        raise write_error(path, error) from error
    return file


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class WaitingTrials:
    """Keeps them in `waiting.jsonl` beside the journal, a file that is there only while a trial waits.

    The journal is in the order of the trials' numbers, and a trial that has ended must survive a killed
    driver: so one that cannot be written there yet is written here.

    Raises:
        RunFolderError: if the file cannot be read or written, or is corrupt.
    """

    def __init__(self, journal: Journal) -> None:
        self._path = waiting_path(journal.path)
        self._spec_digest = journal.spec_digest
        # A driver killed between the two files has written a trial to both.
        done = len(journal.trials)
        kept = [trial for trial in read_waiting(journal.path) if trial.number >= done]
        self._trials = {trial.number: trial for trial in kept}
        if not kept:
            self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._trials)

    def keep(self, trial: Trial) -> None:
        """Write one trial and wait until it is on disk."""
        with Journal(self._path, self._spec_digest, seals=True) as file:
            file.append(trial)
        self._trials[trial.number] = trial

    def find(self, number: int, requested: PrecisionMap) -> Trial | None:
        """The trial of that number if it has ended already."""
        trial = self._trials.get(number)
        return trial if trial is not None and trial.requested == requested else None

    def release(self, number: int) -> None:
        """Forget a trial that is in the journal now."""
        if self._trials.pop(number, None) is not None and not self._trials:
            self._path.unlink(missing_ok=True)


def waiting_path(journal: Path) -> Path:
    """The file of the trials that are not in that journal yet."""
    return journal.with_name("waiting.jsonl")


def read_waiting(journal: Path) -> tuple[Trial, ...]:
    """The trials that have ended and are not in the journal of that path yet."""
    path = waiting_path(journal)
    return read_journal(path).trials if path.exists() else ()
