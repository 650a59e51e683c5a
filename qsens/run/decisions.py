"""The decisions of a search, in a file of the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qsens.core.files import keep_record, kept_record
from qsens.core.interfaces import Decision, Strategy
from qsens.core.layer import Layer
from qsens.core.schema import read_value
from qsens.core.trial import Trial
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file


@dataclass(frozen=True)
class _Decisions:
    decisions: tuple[Decision, ...]


def decisions_of(
    strategy: Strategy, layers: Sequence[Layer], trials: Sequence[Trial]
) -> tuple[Decision, ...]:
    """The decisions that the strategy tells of its search; none where it does not search."""
    return tuple(strategy.explain_search(tuple(layers), tuple(trials)))


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Write them, or remove the file where there are none. Raises `RunFolderError` if it cannot."""
    if not decisions:
        path.unlink(missing_ok=True)
        return
    keep_record(path, _Decisions(tuple(decisions)))


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions in a file; none where there is no file, none that can be read, or it was changed."""
    found = kept_record(_Decisions, path)
    return _older_decisions(path) if found is None else found.decisions


def _older_decisions(path: Path) -> tuple[Decision, ...]:
    """Those of runs of older versions, a plain list."""
    try:
        found: tuple[Decision, ...] = read_value(
            tuple[Decision, ...], parse_json(read_file(path)), "decisions"
        )
        return found
    except (OSError, ValueError):
        return ()
