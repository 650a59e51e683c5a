"""What is kept of each trial beside its scores: features and per-sample influences, one `.npz` a trial."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.files import write_atomically
from qsens.core.schema import read_value
from qsens.device.json_text import parse_json
from qsens.device.npz_sizes import read_arrays

Array = np.ndarray[Any, np.dtype[Any]]


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
        arrays = read_arrays(evidence_path(folder, number))
        labels = read_value(tuple[str, ...], parse_json(str(arrays.get("labels"))), "labels")
        found = Evidence(arrays.get("features"), _influences(arrays, labels), arrays.get("clusters"))
    except (OSError, ValueError):
        return None
    return found if _is_sound(found) else None


def _influences(arrays: Mapping[str, Array], labels: Sequence[str]) -> dict[str, Array]:
    names = [f"influence_{index}" for index in range(len(labels))]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"it lacks {missing[0]}")
    return {label: arrays[name] for label, name in zip(labels, names, strict=True)}


def _is_sound(found: Evidence) -> bool:
    columns = [values for values in (*found.influences.values(), found.clusters) if values is not None]
    return all(values.ndim == 1 and values.dtype.kind in "fiu" for values in columns) and (
        found.features is None or is_features(found.features)
    )


def is_features(array: Array) -> bool:
    """Whether an array can be features: finite floats (N, D)."""
    return bool(array.ndim == 2 and array.dtype.kind == "f" and array.size and np.isfinite(array).all())


def is_pictures(array: Array) -> bool:
    """Whether an array can be pictures: uint8 (N, 3, H, W)."""
    return bool(array.ndim == 4 and array.shape[1] == 3 and array.dtype == np.uint8 and array.size)


def evidence_path(folder: Path, number: int) -> Path:
    """Where the evidence of trial `number` lies."""
    return folder / f"trial-{number:05d}.npz"
