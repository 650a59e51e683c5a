"""The evidence kept for each trial beside its scores: features, influences, audits and sample pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.errors import SpecError
from qsens.core.files import digest_of_bytes, digest_of_file, is_as_written, write_atomically
from qsens.core.precision import PrecisionMap
from qsens.core.schema import read_record, read_value
from qsens.core.trial import Outcome, Trial
from qsens.device.audit import LayerAudit
from qsens.device.npz_sizes import mapped_array, read_arrays
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.scoring.pictures import picture_warning

Array = np.ndarray[Any, np.dtype[Any]]


def save_audit(folder: Path, number: int, audit: Sequence[LayerAudit]) -> None:
    """Write the audit of trial `number`, replacing an earlier one.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    rows = [row.to_json() for row in audit]
    write_atomically(audit_path(folder, number), (json.dumps(rows, indent=1) + "\n").encode())


def load_audit(folder: Path, number: int, digest: str | None = None) -> dict[str, LayerAudit]:
    """The audit of trial `number` by layer; empty where its engine had none, or the file is damaged.

    A file that is not the one of `digest` is not used, with a warning; `None` takes any.
    """
    if not is_as_written(audit_path(folder, number), digest):
        return {}
    try:
        values = parse_json(read_file(audit_path(folder, number)))
        rows: tuple[LayerAudit, ...] = read_value(tuple[LayerAudit, ...], values, "audit")
        return {row.layer: row for row in rows}
    except (OSError, ValueError):
        return {}


def audit_path(folder: Path, number: int) -> Path:
    """The file of the audit of trial `number`."""
    return folder / f"audit-{number:05d}.json"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Features (N, D) of the outputs, or `None`; the influence (N,) of each sample on a score, by label.

    `clusters`: integer labels (N,) of the clips that the samples come from; `None` for independent samples,
    and in files of versions that did not keep them. `widths`: the number of features by extractor, in their
    order side by side; empty where one extractor made all.
    """

    features: Array | None
    influences: Mapping[str, Array]
    clusters: Array | None = None
    widths: Mapping[str, int] = field(default_factory=dict)


def save_evidence(folder: Path, number: int, evidence: Evidence) -> None:
    """Write the evidence of trial `number`, replacing an earlier file of that trial.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    # Labels such as `fid[lite0]` are data: as member names they would have to be valid file names.
    influences = evidence.influences
    arrays = {f"influence_{index}": values for index, values in enumerate(influences.values())}
    if evidence.features is not None:
        arrays["features"] = evidence.features
    if evidence.clusters is not None:
        arrays["clusters"] = evidence.clusters
    if evidence.widths:
        arrays["widths"] = np.array(json.dumps(dict(evidence.widths)))
    labels = np.array(json.dumps(list(influences)))
    write_atomically(
        evidence_path(folder, number),
        lambda file: np.savez(file, allow_pickle=False, labels=labels, **arrays),
    )


def load_evidence(folder: Path, number: int, digest: str | None = None) -> Evidence | None:
    """The evidence of trial `number`; `None` where it is missing or damaged.

    A file that is not the one of `digest` is not used, with a warning; `None` takes any.
    """
    if not is_as_written(evidence_path(folder, number), digest):
        return None
    try:
        arrays = read_arrays(evidence_path(folder, number))
        labels = read_value(tuple[str, ...], parse_json(str(arrays.get("labels"))), "labels")
        widths = read_value(Mapping[str, int], parse_json(str(arrays.get("widths", "{}"))), "widths")
        found = Evidence(arrays.get("features"), _influences(arrays, labels), arrays.get("clusters"), widths)
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
    """The file of the evidence of trial `number`."""
    return folder / f"trial-{number:05d}.npz"


@dataclass(frozen=True)
class _Record:
    """A trial, and a digest of each file of its evidence."""

    trial: Trial
    files: Mapping[str, str]


@dataclass(frozen=True)
class ScoredGraphs:
    """Records of what was scored, beside its evidence: one file a graph, found by its name alone.

    A record holds the trial that ran the graph and a digest of every file of its evidence, and is written
    after these: one whose files are gone, torn or were written anew counts for nothing. Where two workers
    score one graph at the same time, the later record stays: either is whole.
    """

    evidence: Path
    samples: Path

    def forget(self, number: int) -> None:
        """Remove what an earlier trial of that number left, which is in the journal no more."""
        for _, path in self._files(number):
            path.unlink(missing_ok=True)

    def keep(self, trial: Trial) -> Trial:
        """Record a trial whose evidence is on disk; it comes back with the digests of the files.

        Raises:
            RunFolderError: if the file cannot be written.
        """
        found = {name: digest_of_file(path) for name, path in self._files(trial.number)}
        files = {name: digest for name, digest in found.items() if digest is not None}
        text = json.dumps({"trial": trial.to_json(), "files": files})
        assert trial.graph is not None, "what is recorded has run"
        write_atomically(self._record(trial.graph, trial.outcome), text.encode())
        return replace(trial, evidence=tuple(files.items()))

    def take(self, graph: str, outcome: Outcome, number: int, requested: PrecisionMap) -> Trial | None:
        """Trial `number`, with scores and evidence of another trial that ran `graph`; `None` without one.

        Raises:
            RunFolderError: if a file of the evidence cannot be written.
        """
        record = _read(self._record(graph, outcome))
        if record is None or record.trial.number == number or not self._copy(record, number):
            return None
        digests = tuple(record.files.items())
        return replace(record.trial, number=number, requested=requested, evidence=digests)

    def _record(self, graph: str, outcome: Outcome) -> Path:
        return self.evidence / f"graph-{graph}-{outcome}.json"

    def _copy(self, record: _Record, number: int) -> bool:
        """Copy the evidence to trial `number`; nothing, and false, where a file changed."""
        contents = {}
        for name, path in self._files(record.trial.number):
            if name in record.files:
                contents[name] = _content_of(path)
                if digest_of_bytes(contents[name]) != record.files[name]:
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
    """The file of the pictures of trial `number` that reports show."""
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


@dataclass(frozen=True, eq=False)
class Baseline:
    """FP32 over some samples: `images` uint8 (N, 3, H, W), its evidence, and its scores by metric."""

    images: Array
    evidence: Evidence
    values: Mapping[str, float]


def keep_baseline(folder: Path, images: Array, evidence: Evidence, values: Mapping[str, float]) -> Baseline:
    """Write the FP32 images to the evidence folder, as every map is compared with them; read them from there.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    path = _images_path(folder)
    write_atomically(path, lambda file: np.save(file, images, allow_pickle=False))
    return Baseline(np.load(path, mmap_mode="r"), evidence, values)


def load_baseline(folder: Path, fp32: Trial, images: int) -> Baseline | None:
    """The baseline that FP32's trial of that many images left as evidence.

    `None` where a file is gone, or, with a warning, another than the trial left.
    """
    evidence = load_evidence(folder, fp32.number, fp32.digest_of("evidence"))
    if not is_as_written(_images_path(folder), fp32.digest_of("images")):
        return None
    try:
        pictures: Array = mapped_array(_images_path(folder))
    except (OSError, ValueError):
        return None
    if evidence is None or not is_pictures(pictures) or len(pictures) != images:
        return None
    kept = [evidence.features, evidence.clusters, *evidence.influences.values()]
    if any(values is not None and len(values) != images for values in kept):
        return None
    return Baseline(pictures, evidence, {score.metric: score.value for score in fp32.scores})


def with_images_digest(folder: Path, fp32: Trial) -> Trial:
    """FP32's trial with the digest of its pictures, which are on disk."""
    digest = digest_of_file(_images_path(folder))
    assert digest is not None, "FP32's pictures have just been written"
    return replace(fp32, evidence=(*fp32.evidence, ("images", digest)))


def _images_path(folder: Path) -> Path:
    return folder / "fp32-images.npy"


def shown_pictures_warning(samples: Path) -> str | None:
    """A sentence on what looks wrong with the FP32 pictures that a run shows, or `None`."""
    try:
        images = read_arrays(samples_path(samples, 0), ("images",))["images"]
    except (OSError, ValueError):
        return None
    return picture_warning(images) if is_pictures(images) else None
