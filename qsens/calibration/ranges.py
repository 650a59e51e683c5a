"""Measuring the ranges of tensors in one or two streaming passes, and keeping them in a file."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.thresholds import (
    BINS,
    DEFAULT_PERCENTILE,
    SMALLEST_AMAX,
    Histogram,
    Method,
    amax_from_histogram,
    check_percentile,
    minmax,
    parse_method,
    with_half_scale,
)
from qsens.core.errors import DataError
from qsens.core.files import write_atomically
from qsens.device.npz_sizes import read_arrays

Batch = Mapping[str, NDArray[Any]]
_CHUNK = 1 << 16
# Of the way ranges are measured, and of the file.
_VERSION = 2
_FILE_VERSION = _FIRST_WITH_PROMISES = 3


@dataclass(frozen=True)
class TensorRange:
    """The values of one tensor over the calibration set: the ends, and the threshold for INT8.

    `amax` is the chosen symmetric clipping threshold (`method`), a float32 value; the INT8 scale is
    `amax / 127`, which FP16 holds exactly unless it is below 2^-14. `minimum` and `maximum` are the plain
    extremes, used for overflow warnings.
    """

    tensor: str
    minimum: float
    maximum: float
    amax: float

    @property
    def never_moved(self) -> bool:
        """Whether the tensor held one value throughout, so that its range is made up."""
        return self.minimum == self.maximum


@dataclass(frozen=True)
class Ranges:
    """Ranges of all calibrated tensors over `samples` samples, by one `method`.

    `digest` covers the graph, the calibration samples and the method: equal digests mean equal ranges.
    `promised` are ends that inputs can never pass, as the sample set's rules say; extremes that were seen
    promise nothing.
    """

    method: str
    samples: int
    digest: str
    tensors: tuple[TensorRange, ...] = field(repr=False)
    promised: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> Mapping[str, TensorRange]:
        return {entry.tensor: entry for entry in self.tensors}

    def __getitem__(self, tensor: str) -> TensorRange:
        """Raises `DataError` for a tensor that was not calibrated."""
        try:
            return self._by_name[tensor]
        except KeyError:
            raise DataError(
                f"no range for tensor {tensor!r}", "the graph changed after calibration: calibrate again"
            ) from None

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._by_name


class RangeCollector:
    """Extremes and histograms of named tensors; memory does not grow with the number of batches.

    Pass one feeds `observe_extremes`; where `needs_histogram`, pass two feeds the same batches, in any
    order, to `observe_histogram`. Arrays are float, any shape; names that are not collected are ignored.
    """

    def __init__(
        self, tensors: Sequence[str], method: str, *, percentile: float = DEFAULT_PERCENTILE
    ) -> None:
        self.tensors = tuple(dict.fromkeys(tensors))
        self.method = parse_method(method)
        self.percentile = check_percentile(percentile)
        self._minimum = dict.fromkeys(self.tensors, np.inf)
        self._maximum = dict.fromkeys(self.tensors, -np.inf)
        self._counts: dict[str, NDArray[np.int64]] = {}

    @property
    def needs_histogram(self) -> bool:
        """True where a second pass is needed."""
        return self.method is not Method.MINMAX

    def observe_extremes(self, batch: Batch) -> None:
        """Pass one. Raises `DataError` for a missing tensor, NaN or infinity, naming the tensor."""
        for name in self.tensors:
            values = _tensor(batch, name)
            if not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise DataError(
                    f"tensor {name!r} holds {_not_finite(low, high)} while calibrating",
                    "FP32 itself overflows here: check the checkpoint and the value range of the inputs",
                )
            self._minimum[name] = min(self._minimum[name], low)
            self._maximum[name] = max(self._maximum[name], high)

    def observe_histogram(self, batch: Batch) -> None:
        """Pass two; magnitudes above those of pass one count in the last bin."""
        for name in self.tensors:
            counts = self._counts.setdefault(name, np.zeros(BINS, dtype=np.int64))
            _count_magnitudes(_tensor(batch, name), self._magnitude(name), counts)

    def histogram(self, tensor: str) -> Histogram:
        """The magnitudes of one tensor that pass two counted."""
        counts = self._counts.get(tensor, np.zeros(BINS, dtype=np.int64))
        return Histogram(counts, self._magnitude(tensor))

    def finish(self, samples: int, digest: str) -> Ranges:
        """The ranges. Raises `DataError` if a tensor was never seen."""
        return Ranges(
            str(self.method), samples, digest, tuple(self._finish_tensor(name) for name in self.tensors)
        )

    def _magnitude(self, tensor: str) -> float:
        return max(-self._minimum[tensor], self._maximum[tensor])

    def _finish_tensor(self, name: str) -> TensorRange:
        low, high = self._minimum[name], self._maximum[name]
        if low > high:
            raise DataError(f"no values of tensor {name!r} were seen", "calibrate on at least one sample")
        if self.needs_histogram:
            amax = amax_from_histogram(self.histogram(name), self.method, self.percentile)
        else:
            amax = minmax(low, high)
        return TensorRange(name, low, high, with_half_scale(amax))


def collect_ranges(
    passes: Callable[[], Iterator[Batch]],
    tensors: Sequence[str],
    *,
    method: str,
    digest: str,
    percentile: float = DEFAULT_PERCENTILE,
) -> Ranges:
    """Ranges of the tensors over the batches that `passes()` yields; called once, or twice for histograms.

    `Ranges.samples` is the sum of the leading sides of the first tensor: its batch axis.

    Raises:
        DataError: for NaN or infinite values, a missing tensor, or no batch at all.
    """
    collector = RangeCollector(tensors, method, percentile=percentile)
    samples = 0
    for batch in passes():
        collector.observe_extremes(batch)
        first = next(iter(_tensor(batch, name) for name in collector.tensors), None)
        samples += len(first) if first is not None and first.ndim else 1
    if not samples:
        raise DataError("no batch to calibrate on", "give a calibration set with at least one sample")
    if collector.needs_histogram:
        for batch in passes():
            collector.observe_histogram(batch)
    return collector.finish(samples, digest)


def ranges_digest(
    graph_digest: str, samples_digest: str, method: str, percentile: float = DEFAULT_PERCENTILE
) -> str:
    """The right digest of `Ranges`: over graph, samples, method, its fraction and this file's version."""
    fraction = percentile if parse_method(method) is Method.PERCENTILE else None
    key = json.dumps([_VERSION, BINS, graph_digest, samples_digest, str(method), fraction])
    return hashlib.sha256(key.encode()).hexdigest()


def save_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges as `.npz`, complete or not at all.

    Raises:
        RunFolderError: if the file cannot be written (disk full, no rights).
    """
    arrays = _arrays_from_ranges(ranges)
    write_atomically(path, lambda stream: np.savez(stream, **arrays))


def load_ranges(path: Path, digest: str) -> Ranges | None:
    """Ranges of that digest, or `None` for a missing, damaged or other file: then calibrate again."""
    try:
        ranges = _ranges_from_arrays(read_arrays(path))
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return ranges if ranges.digest == digest and _is_sound(ranges) else None


def _tensor(batch: Batch, name: str) -> NDArray[Any]:
    if name not in batch:
        raise DataError(f"tensor {name!r} was not produced", "the graph and the tensors to calibrate differ")
    return batch[name]


def _not_finite(low: float, high: float) -> str:
    return "NaN" if np.isnan(low) or np.isnan(high) else "an infinite value"


def _count_magnitudes(values: NDArray[Any], maximum: float, counts: NDArray[np.int64]) -> None:
    """Add |values| to `counts`, in pieces that stay in the processor's cache."""
    if not np.isfinite(maximum) or maximum < SMALLEST_AMAX:
        return
    flat = values.reshape(-1)
    scale = np.float32(len(counts) / maximum)
    for start in range(0, flat.size, _CHUNK):
        magnitude = np.abs(flat[start : start + _CHUNK], dtype=np.float32)
        magnitude *= scale
        np.minimum(magnitude, np.float32(len(counts) - 1), out=magnitude)
        counts += np.bincount(magnitude.astype(np.intp), minlength=len(counts))


def _arrays_from_ranges(ranges: Ranges) -> dict[str, Any]:
    entries = ranges.tensors
    return {
        "version": np.array(_FILE_VERSION),
        "method": np.array(ranges.method),
        "samples": np.array(ranges.samples),
        "digest": np.array(ranges.digest),
        "tensor": np.array([entry.tensor for entry in entries], dtype=np.str_),
        "minimum": np.array([entry.minimum for entry in entries], dtype=np.float64),
        "maximum": np.array([entry.maximum for entry in entries], dtype=np.float64),
        "amax": np.array([entry.amax for entry in entries], dtype=np.float32),
        "promised": np.array(list(ranges.promised), dtype=np.str_),
        "promised_ends": np.array(list(ranges.promised.values()), dtype=np.float64).reshape(-1, 2),
    }


def _ranges_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Ranges:
    kinds = {"tensor": "U", "minimum": "f", "maximum": "f", "amax": "f"}
    wrong = [key for key, kind in kinds.items() if arrays[key].ndim != 1 or arrays[key].dtype.kind != kind]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is of another type or shape")
    columns = [arrays[key].tolist() for key in kinds]
    tensors = tuple(TensorRange(*row) for row in zip(*columns, strict=True))
    promised: dict[str, tuple[float, float]] = {}
    if int(arrays["version"]) >= _FIRST_WITH_PROMISES:
        ends = arrays["promised_ends"].tolist()
        names = arrays["promised"].tolist()
        promised = {str(name): (low, high) for name, (low, high) in zip(names, ends, strict=True)}
    return Ranges(str(arrays["method"]), int(arrays["samples"]), str(arrays["digest"]), tensors, promised)


def _is_sound(ranges: Ranges) -> bool:
    numbers = [(entry.minimum, entry.maximum, entry.amax) for entry in ranges.tensors]
    return all(np.isfinite(row).all() and row[2] > 0 for row in numbers)
