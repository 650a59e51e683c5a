"""What is kept of each trial beside its scores: features and per-sample influences, one `.npz` a trial."""

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens.atomic_write import write_atomically

Array = np.ndarray[Any, np.dtype[Any]]

# What numpy and zipfile raise for a file that is missing, torn or has flipped bits.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Features (N, D) of the outputs, or `None`; the influence (N,) of each sample on a score, by label.

    `clusters`: integer labels (N,) of the clips that the samples come from; `None` for independent samples,
    and in files of versions that did not keep them.
    """

    features: Array | None
    influences: Mapping[str, Array]
    clusters: Array | None = None


def save_evidence(
    folder: Path,
    number: int,
    features: Array | None,
    influences: Mapping[str, Array],
    *,
    clusters: Array | None = None,
) -> None:
    """Write the evidence of trial `number`, replacing an earlier file of that trial.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    # Labels such as `fid[lite0]` are data: as member names they would have to be valid file names.
    arrays = {f"influence_{index}": values for index, values in enumerate(influences.values())}
    if features is not None:
        arrays["features"] = features
    if clusters is not None:
        arrays["clusters"] = clusters
    labels = np.array(json.dumps(list(influences)))
    write_atomically(
        evidence_path(folder, number),
        lambda file: np.savez(file, allow_pickle=False, labels=labels, **arrays),
    )


def load_evidence(folder: Path, number: int) -> Evidence | None:
    """The evidence of trial `number`; `None` where it is missing or damaged."""
    try:
        with np.load(evidence_path(folder, number), allow_pickle=False) as file:
            labels = json.loads(str(file["labels"]))
            influences = {label: file[f"influence_{index}"] for index, label in enumerate(labels)}
            return Evidence(file.get("features"), influences, file.get("clusters"))
    except _DAMAGE:
        return None


def evidence_path(folder: Path, number: int) -> Path:
    """Where the evidence of trial `number` lies."""
    return folder / f"trial-{number:05d}.npz"
