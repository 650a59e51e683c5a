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
from qsens.core.files import ChangedRecordError, sealed, unsealed, write_atomically, write_error
from qsens.core.precision import PrecisionMap
from qsens.core.schema import shown
from qsens.core.trial import Trial
from qsens.device.errors import reason_of
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file

FORMAT = 1
_FEW_LINES = 100


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
    digest, trials, good_bytes = None, list[Trial](), 0
    lines = content.split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            value = _parse_line(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise _corrupt(path, number, f"it is not JSON ({error})") from error
        if number == 1:
            digest = _read_header(path, value)
        else:
            trials.append(_read_trial(path, number, value))
        good_bytes += len(line) + 1
    return JournalContent(digest, tuple(trials), good_bytes)


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
            self._write_line(_header(spec_digest))
            _sync_folder(path.parent)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial on disk, in the order of the file."""
        return tuple(self._trials)

    @property
    def count(self) -> int:
        """The number of trials on disk, which a loop over many asks for more often than for the trials."""
        return len(self._trials)

    @property
    def first(self) -> Trial | None:
        """The first trial on disk, FP32's, or `None`."""
        return self._trials[0] if self._trials else None

    def append(self, trial: Trial) -> None:
        """Write one trial and wait until it is on disk.

        Raises:
            RunFolderError: if it cannot be written; the file keeps every earlier trial whole.
        """
        values = trial.to_json()
        self._write_line(_line(sealed(values) if self._seals else values))
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

    def _write_line(self, line: bytes) -> None:
        try:
            _write_all(self._file, line, self._size)
            os.fsync(self._file)
        except OSError as error:
            _cut_back(self._file, self._size)
            raise write_error(self.path, error) from error
        self._size += len(line)


def _header(spec_digest: str) -> bytes:
    return _line({"format": FORMAT, "qsens": __version__, "spec": spec_digest})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


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
    driver: so one that cannot be written there yet is written here. With many workers some trial always
    waits: the file is written anew once most of its lines are of trials that do not wait any more.

    Raises:
        RunFolderError: if the file cannot be read or written, or is corrupt.
    """

    def __init__(self, journal: Journal) -> None:
        self._path = waiting_path(journal.path)
        self._spec_digest = journal.spec_digest
        self._file: Journal | None = None
        # A driver killed between the two files has written a trial to both.
        kept = [trial for trial in read_waiting(journal.path) if trial.number >= journal.count]
        self._trials = {trial.number: trial for trial in kept}
        if not kept:
            self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._trials)

    def keep(self, trial: Trial) -> None:
        """Write one trial and wait until it is on disk."""
        if self._file is None or self._file.count > _FEW_LINES + 2 * len(self):
            self._write_anew()
        assert self._file is not None, "it has just been opened"
        self._file.append(trial)
        self._trials[trial.number] = trial

    def find(self, number: int, requested: PrecisionMap) -> Trial | None:
        """The trial of that number if it has ended already."""
        trial = self._trials.get(number)
        return trial if trial is not None and trial.requested == requested else None

    def release(self, number: int) -> None:
        """Forget a trial that is in the journal now."""
        if self._trials.pop(number, None) is not None and not self._trials:
            self.close()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_anew(self) -> None:
        self.close()
        lines = (_line(sealed(trial.to_json())) for trial in self._trials.values())
        write_atomically(self._path, b"".join((_header(self._spec_digest), *lines)))
        self._file = Journal(self._path, self._spec_digest, seals=True)


def waiting_path(journal: Path) -> Path:
    """The file of the trials that are not in that journal yet."""
    return journal.with_name("waiting.jsonl")


def read_waiting(journal: Path) -> tuple[Trial, ...]:
    """The trials that have ended and are not in the journal of that path yet."""
    path = waiting_path(journal)
    return read_journal(path).trials if path.exists() else ()
