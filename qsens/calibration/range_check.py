"""Whether ranges hold: tensors that calibration never moved, and values of other samples that leave them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import Observer, groups_of_tensors
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.calibration.splits import SampleView
from qsens.core.files import keep_record, kept_record
from qsens.core.interfaces import SampleSet
from qsens.graph.editable_graph import tensors_read
from qsens.graph.graph import Graph

# Enough to see another kind of samples, at a fraction of what one map costs.
CHECKED_SAMPLES = 8
# Of samples like those of the calibration, far fewer values lie outside of what it saw.
LARGEST_SHARE = 0.01
_SHOWN = 6
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorCheck:
    """One calibrated tensor on other samples; `layers` read or make it.

    `calibrated` are the ends that calibration saw, `found` those of the samples. `outside_share` is the share
    of their values that lie outside of what calibration saw, `clipped_share` of those that INT8 cuts.
    `is_made_up`: calibration never moved the tensor, though the inputs it depends on may move.
    """

    tensor: str
    layers: tuple[str, ...]
    calibrated: tuple[float, float]
    found: tuple[float, float]
    outside_share: float
    clipped_share: float
    is_made_up: bool


@dataclass(frozen=True)
class RangeCheck:
    """Calibrated tensors on `samples` samples of the evaluation set. `key` says of which ranges and set."""

    key: str
    samples: int
    tensors: tuple[TensorCheck, ...]

    @property
    def made_up(self) -> tuple[TensorCheck, ...]:
        """Tensors whose range is made up, in execution order."""
        return tuple(entry for entry in self.tensors if entry.is_made_up)

    @property
    def left(self) -> tuple[TensorCheck, ...]:
        """Other tensors whose values leave what calibration saw by much, the worst first."""
        measured = (entry for entry in self.tensors if not entry.is_made_up)
        far = (entry for entry in measured if entry.outside_share >= LARGEST_SHARE)
        return tuple(sorted(far, key=lambda entry: -entry.outside_share))

    def warnings(self) -> Iterator[tuple[str, str]]:
        """A title of a few words and sentences with the numbers, for each thing to know."""
        if self.made_up:
            yield "Made-up ranges", self._made_up_text()
        if self.left:
            yield "Values beyond the calibrated ranges", self._left_text()

    def _made_up_text(self) -> str:
        moved = sum(entry.outside_share > 0 for entry in self.made_up)
        listed = _listed(self.made_up, lambda entry: f"stayed at {entry.calibrated[0]:.3g}")
        return (
            f"Calibration never moved {len(self.made_up)} of {len(self.tensors)} tensors, so that their INT8 "
            f"ranges are made up: {listed}. The evaluation samples move {moved} of them. Calibrate on "
            "samples that differ, as those do that users have (--calibration)."
        )

    def _left_text(self) -> str:
        return (
            f"On {self.samples} evaluation samples, at least {LARGEST_SHARE:.0%} of the values of "
            f"{len(self.left)} of {len(self.tensors)} tensors lie outside of what calibration saw: "
            f"{_listed(self.left, _left_by)}. Calibrate on samples like those to be expected "
            "(--calibration), or on more of them (--calibration-samples)."
        )


def _left_by(entry: TensorCheck) -> str:
    calibrated, found = (f"{low:.3g} to {high:.3g}" for low, high in (entry.calibrated, entry.found))
    return (
        f"{entry.outside_share:.1%} outside, {entry.clipped_share:.1%} cut by INT8; "
        f"calibrated {calibrated}, found {found}"
    )


def _listed(entries: Sequence[TensorCheck], text_of: Callable[[TensorCheck], str]) -> str:
    shown = [f"{entry.tensor!r} ({_of_layers(entry)}{text_of(entry)})" for entry in entries[:_SHOWN]]
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(shown) + more


def _of_layers(entry: TensorCheck) -> str:
    return f"of {', '.join(entry.layers[:3])}: " if entry.layers else ""


def check_ranges(
    observer: Observer,
    ranges: Ranges,
    samples: SampleSet,
    places: Sequence[int],
    layers: Mapping[str, Sequence[str]],
) -> RangeCheck:
    """Run FP32 on the samples at `places` and count values that leave the ranges of the tensors.

    `layers` are those that read or make a tensor, by tensor.

    Raises:
        DataError: if a sample cannot be read.
    """
    fixed = fixed_tensors(observer.graph, ranges.promised)
    feeds = InputCache(SampleView(samples, places, ", to check ranges"), observer.graph, 1)
    counts = {name: _Count(ranges[name]) for name in observer.tensors}
    for group in groups_of_tensors(observer.graph, observer.tensors):
        for values in observer.values(group, feeds):
            for name in group:
                counts[name].add(values[name])
    return RangeCheck(
        key=check_key(ranges, samples),
        samples=len(places),
        tensors=tuple(
            replace(
                count.result(),
                layers=tuple(layers.get(name, ())),
                is_made_up=ranges[name].never_moved and name not in fixed,
            )
            for name, count in counts.items()
        ),
    )


def check_key(ranges: Ranges, samples: SampleSet) -> str:
    """A text that tells checks of other ranges or other samples apart."""
    return f"{ranges.digest}/{samples.digest}"


class _Count:
    """Values of one tensor so far: how many, how many outside and cut, and the ends."""

    def __init__(self, entry: TensorRange) -> None:
        self._range = entry
        self._values = self._outside = self._clipped = 0
        self._low, self._high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        if not values.size:
            return
        # Ends are kept as float64, and float32 values compare with them exactly.
        wide = np.asarray(values, np.float32)
        self._values += wide.size
        self._low, self._high = min(self._low, float(wide.min())), max(self._high, float(wide.max()))
        if self._low < self._range.minimum or self._high > self._range.maximum:
            outside = (wide < self._range.minimum) | (wide > self._range.maximum)
            self._outside += int(np.count_nonzero(outside))
        if max(-self._low, self._high) > self._range.amax:
            self._clipped += int(np.count_nonzero(np.abs(wide) > self._range.amax))

    def result(self) -> TensorCheck:
        total = max(self._values, 1)
        found = (self._low, self._high) if self._values else (0.0, 0.0)
        return TensorCheck(
            tensor=self._range.tensor,
            layers=(),
            calibrated=(self._range.minimum, self._range.maximum),
            found=found,
            outside_share=self._outside / total,
            clipped_share=self._clipped / total,
            is_made_up=False,
        )


def fixed_tensors(graph: Graph, promised: Mapping[str, tuple[float, float]]) -> frozenset[str]:
    """Tensors that hold the same for every sample: they depend on constants and constant inputs only."""
    model = graph.model.graph
    fixed = {tensor.name for tensor in model.initializer}
    fixed |= {name for name, (low, high) in promised.items() if low == high}
    for node in model.node:
        if not node.op_type.startswith("Random") and all(name in fixed for name in tensors_read(node)):
            fixed.update(node.output)
    return frozenset(fixed)


def save_range_check(path: Path, check: RangeCheck) -> None:
    """Write a check as JSON. Raises `RunFolderError` if it cannot be written."""
    keep_record(path, check)


def read_range_check(path: Path) -> RangeCheck | None:
    """The check in a file; `None` where there is none, as in runs of older versions, or it is damaged."""
    return kept_record(RangeCheck, path)
