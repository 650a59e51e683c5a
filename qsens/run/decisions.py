"""The decisions of a search, in a file of the run folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from qsens.core.files import write_atomically
from qsens.core.interfaces import Decision, Strategy
from qsens.core.layer import Layer
from qsens.core.schema import read_value
from qsens.core.trial import Trial
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file


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
    values = [{"text": decision.text, "trials": list(decision.trials)} for decision in decisions]
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions in a file; none where there is no file, or none that can be read."""
    try:
        found: tuple[Decision, ...] = read_value(
            tuple[Decision, ...], parse_json(read_file(path)), "decisions"
        )
        return found
    except (OSError, ValueError):
        return ()
