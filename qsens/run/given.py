"""The part of a run that a program gave from memory, kept once in the run folder: samples and a generator."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qsens.calibration.given import GivenData, no_samples, same_randomness
from qsens.core.errors import DataError, RunFolderError
from qsens.core.files import keep_record, kept_record, write_atomically, write_error
from qsens.core.interfaces import InputSpec
from qsens.device.leftovers import remove_entry
from qsens.run.paths import RunPaths

# Samples of one set; larger sets are files of their own, which are read where they are.
MOST_BYTES = 4 * 2**30
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class GivenDigests:
    """Digests of the content of each sample that is kept, or of the generator."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class GivenStore:
    """The samples and the generator of the run in the folder `run`; its lock is held by the caller."""

    run: Path
    seed: int

    def samples(self, data: GivenData, inputs: Sequence[InputSpec], limit: int) -> tuple[Path, str | None]:
        """The folder that holds the first `limit` samples, and a note where there are more.

        Samples are written one by one. Of a run that has begun they are read again and compared.

        Raises:
            DataError: for samples that do not fit the graph's inputs, none at all, or more than `MOST_BYTES`.
            RunFolderError: for others than the run was begun with.
        """
        folder = RunPaths(self.run).given / data.name
        record = folder.with_suffix(".json")
        before = kept_record(GivenDigests, record)
        if before is None:
            remove_entry(folder)
            _make(folder)
        digests, size = list[str](), 0
        with same_randomness(self.seed):
            samples = data.samples(inputs)
            for place, sample in zip(range(limit), samples, strict=False):
                digests.append(_digest_of_sample(sample))
                if before is None:
                    size += _write_sample(folder / f"{place:06d}.npz", sample)
                    _check_size(size, place + 1, data.name)
                elif before.digests[place : place + 1] != (digests[-1],):
                    raise self._other(f"sample {place} of {data.name} is another")
            more = next(samples, None) is not None
        if not digests:
            raise no_samples(data.name)
        if before is not None and len(before.digests) != len(digests):
            raise self._other(f"{data.name} has {len(digests)} samples, before {len(before.digests)}")
        keep_record(record, GivenDigests(tuple(digests)))
        note = f"the first {limit} samples of {data.name} are taken; {data.name}_samples takes more"
        return folder, note if more else None

    def generator(self, name: str, digest: str, export: Callable[[], onnx.ModelProto]) -> Path:
        """The file that holds the generator, exported once.

        Raises:
            LoadError: as `export`.
            RunFolderError: for another one than the run was begun with.
        """
        path = RunPaths(self.run).given / f"{name}.onnx"
        record = path.with_suffix(".json")
        before = kept_record(GivenDigests, record)
        if before is not None and before.digests != (digest,):
            raise self._other(f"the generator {name} is another (its weights or its structure)")
        if before is None or not path.exists():
            _make(path.parent)
            write_atomically(path, export().SerializeToString())
            keep_record(record, GivenDigests((digest,)))
        return path

    def _other(self, what: str) -> RunFolderError:
        return RunFolderError(
            f"{what} than when {self.run} was begun", "give the same, or begin a new folder with out="
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def _digest_of_sample(sample: Mapping[str, Array]) -> str:
    found = hashlib.sha256()
    for name, values in sorted(sample.items()):
        found.update(json.dumps([name, str(values.dtype), values.shape]).encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _write_sample(path: Path, sample: Mapping[str, Array]) -> int:
    file = io.BytesIO()
    np.savez(file, **sample)  # type: ignore[arg-type]  # the stubs take the names for other parameters
    write_atomically(path, file.getvalue())
    return file.tell()


def _check_size(size: int, count: int, name: str) -> None:
    if size > MOST_BYTES:
        raise DataError(
            f"{count:,} samples of {name} take more than the {MOST_BYTES / 2**30:g} GiB that a run keeps",
            f"take fewer with {name}_samples, or give a folder of .npz files, which is read where it is",
        )
