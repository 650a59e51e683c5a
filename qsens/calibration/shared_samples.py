"""Samples of the calibration set that are in the evaluation set too, found by what they hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qsens.core.files import keep_record, kept_record
from qsens.core.interfaces import Progress, SampleSet

_SHOWN = 3


@dataclass(frozen=True)
class SharedSamples:
    """Places of the calibration set whose samples, or clips, the evaluation set holds too.

    `key` says of which sets, `total` is the number of calibration samples, `names` are those of the samples.
    """

    key: str
    total: int
    places: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def text(self) -> str:
        """A sentence on what they do to the result; empty where there are none."""
        if not self.places:
            return ""
        more = f" and {len(self.names) - _SHOWN} more" if len(self.names) > _SHOWN else ""
        return (
            f"{len(self.places)} of {self.total} calibration samples are, or are of a clip, in the "
            f"evaluation set ({', '.join(self.names[:_SHOWN])}{more}): INT8 looks better on what its ranges "
            "were measured on than on pictures to come. Repair leaves them out. Without --evaluation, qsens "
            "holds out samples of the calibration set"
        )


def shared_samples(
    calibration: SampleSet, evaluation: SampleSet, *, are_of_one_set: bool, progress: Progress
) -> SharedSamples:
    """The calibration samples with the arrays of an evaluation sample, and all others of their clips.

    In two parts of one set equal labels are equal clips, whatever their frames hold.

    Raises:
        DataError: if a sample cannot be read.
    """
    own, clips = [_digest(calibration, index) for index in range(len(calibration))], calibration.clusters
    scored = set()
    for index in range(len(evaluation)):
        progress(index, len(evaluation), "samples: in both sets?")
        scored.add(_digest(evaluation, index))
    shared = {index for index, digest in enumerate(own) if digest in scored}
    if clips is not None:
        labels = {clips[index] for index in shared}
        labels |= set(evaluation.clusters or ()) if are_of_one_set else set()
        shared |= {index for index, clip in enumerate(clips) if clip in labels}
    places = tuple(sorted(shared))
    names = tuple(_name(calibration, index) for index in places)
    return SharedSamples(shared_key(calibration, evaluation), len(calibration), places, names)


def shared_key(calibration: SampleSet, evaluation: SampleSet) -> str:
    """A text that tells pairs of sets apart."""
    return f"{calibration.digest}/{evaluation.digest}"


def places_apart(shared: SharedSamples) -> Sequence[int]:
    """The places of calibration samples that the evaluation set does not hold."""
    held = set(shared.places)
    return [index for index in range(shared.total) if index not in held]


def _digest(samples: SampleSet, index: int) -> bytes:
    found = hashlib.sha256()
    for name, values in sorted(samples.sample(index).items()):
        array = np.ascontiguousarray(values)
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.digest()


def _name(samples: SampleSet, index: int) -> str:
    known = samples.annotation(index)
    words = [str(known[key]) for key in ("file", "clip", "frame") if key in known]
    return " ".join(words) or f"sample {index}"


def save_shared_samples(path: Path, shared: SharedSamples) -> None:
    """Write what was found as JSON. Raises `RunFolderError` if it cannot be written."""
    keep_record(path, shared)


def read_shared_samples(path: Path) -> SharedSamples | None:
    """The contents of a file; `None` where there is none, as in runs of older versions, or it is damaged."""
    return kept_record(SharedSamples, path)
