"""What each trial's engine really ran, layer by layer, kept beside its evidence: one JSON file a trial."""

import json
from collections.abc import Sequence
from pathlib import Path

from qsens.core.files import write_atomically
from qsens.core.schema import read_value
from qsens.device.audit import LayerAudit
from qsens.device.json_text import parse_json
from qsens.device.special_files import read_file


def save_audit(folder: Path, number: int, audit: Sequence[LayerAudit]) -> None:
    """Write the audit of trial `number`, replacing an earlier one.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    rows = [row.to_json() for row in audit]
    write_atomically(audit_path(folder, number), (json.dumps(rows, indent=1) + "\n").encode())


def load_audit(folder: Path, number: int) -> dict[str, LayerAudit]:
    """The audit of trial `number` by layer; empty where its engine had none, or the file is damaged."""
    try:
        values = parse_json(read_file(audit_path(folder, number)))
        rows: tuple[LayerAudit, ...] = read_value(tuple[LayerAudit, ...], values, "audit")
        return {row.layer: row for row in rows}
    except (OSError, ValueError):
        return {}


def audit_path(folder: Path, number: int) -> Path:
    """Where the audit of trial `number` lies."""
    return folder / f"audit-{number:05d}.json"
