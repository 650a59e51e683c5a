"""Trials that ended before an earlier one did: on disk, but not in the journal yet."""

from pathlib import Path

from qsens.core.precision import PrecisionMap
from qsens.core.trial import Trial
from qsens.run.journal import Journal, read_journal


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
        with Journal(self._path, self._spec_digest) as file:
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
    """Where the trials wait that are not in that journal yet."""
    return journal.with_name("waiting.jsonl")


def read_waiting(journal: Path) -> tuple[Trial, ...]:
    """The trials that have ended and are not in the journal of that path yet."""
    path = waiting_path(journal)
    return read_journal(path).trials if path.exists() else ()
