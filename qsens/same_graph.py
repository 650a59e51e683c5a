"""Maps that lower to a graph that was scored before: the scores and evidence of that trial, taken again."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qsens.audits import audit_path
from qsens.core.errors import SpecError
from qsens.core.files import write_atomically
from qsens.core.precision import PrecisionMap
from qsens.core.schema import read_record
from qsens.core.trial import Outcome, Trial
from qsens.device.json_text import parse_json
from qsens.device.special_files import read_file
from qsens.run.evidence import evidence_path


@dataclass(frozen=True)
class _Record:
    """A trial, and a digest of each file of its evidence."""

    trial: Trial
    files: Mapping[str, str]


@dataclass(frozen=True)
class ScoredGraphs:
    """Records of what was scored, beside its evidence: one file a trial, which names the graph it ran.

    A record holds the trial and a digest of every file of its evidence, and is written after these: one
    whose files are gone, torn or were written anew counts for nothing. Every trial has a record of its
    own, so that workers of one run folder never write the same file.
    """

    evidence: Path
    samples: Path

    def keep(self, trial: Trial) -> None:
        """Record a trial whose evidence is on disk.

        Raises:
            RunFolderError: if the file cannot be written.
        """
        files = {
            name: _digest(_content_of(path)) for name, path in self._files(trial.number) if path.exists()
        }
        text = json.dumps({"trial": trial.to_json(), "files": files})
        name = f"graph-{trial.graph}-{trial.outcome}-{trial.number:05d}.json"
        write_atomically(self.evidence / name, text.encode())

    def take(self, graph: str, outcome: Outcome, number: int, requested: PrecisionMap) -> Trial | None:
        """Trial `number`, with scores and evidence of another trial that ran `graph`; `None` without one.

        Raises:
            RunFolderError: if a file of the evidence cannot be written.
        """
        for path in sorted(self.evidence.glob(f"graph-{graph}-{outcome}-*.json")):
            record = _read(path)
            if record is not None and record.trial.number != number and self._copy(record, number):
                return replace(record.trial, number=number, requested=requested)
        return None

    def _copy(self, record: _Record, number: int) -> bool:
        """Copy the evidence to trial `number`; nothing, and false, where a file changed."""
        contents = {}
        for name, path in self._files(record.trial.number):
            if name in record.files:
                contents[name] = _content_of(path)
                if _digest(contents[name]) != record.files[name]:
                    return False
        for name, path in self._files(number):
            if name in contents:
                write_atomically(path, contents[name])
        return True

    def _files(self, number: int) -> Iterator[tuple[str, Path]]:
        yield "evidence", evidence_path(self.evidence, number)
        yield "audit", audit_path(self.evidence, number)
        yield "samples", samples_path(self.samples, number)


def samples_path(folder: Path, number: int) -> Path:
    """Where the pictures of trial `number` lie that reports show."""
    return folder / f"trial-{number:04d}.npz"


def _read(path: Path) -> _Record | None:
    try:
        value = parse_json(read_file(path), only_finite=False)
        trial = Trial.from_json(value.get("trial") if isinstance(value, dict) else None)
        return read_record(_Record, value, trial=trial)
    except (OSError, ValueError, SpecError):
        return None


def _content_of(path: Path) -> bytes:
    """The bytes of a file, none where it cannot be read."""
    try:
        return read_file(path)
    except OSError:
        return b""


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
