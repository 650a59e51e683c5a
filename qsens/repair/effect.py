"""The changes of a repair, for people: each layer alone in INT8 before and after, and each tensor's range."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qsens.calibration.splits import SampleView, spread_places
from qsens.core.files import keep_record, kept_record
from qsens.core.precision import Precision
from qsens.repair.repair import Repair
from qsens.repair.stages import Subject

# Pictures of a layer alone, and how often the generator runs for all layers: a part of what a search takes.
MOST_PICTURES = 8
MOST_RUNS = 1000


@dataclass(frozen=True)
class LayerEffect:
    """One layer alone in INT8, all others in FP32: the picture's squared error relative to its variance."""

    layer: str
    before: float
    after: float


@dataclass(frozen=True)
class TensorEffect:
    """The threshold of a tensor as it was calibrated and after repair; `method` gave the new one."""

    tensor: str
    before: float
    after: float
    method: str


@dataclass(frozen=True)
class RepairEffect:
    """The effect of the repair with the digest `key`, on `pictures` samples that it was not fitted to."""

    key: str
    pictures: int
    layers: tuple[LayerEffect, ...]
    tensors: tuple[TensorEffect, ...]


def effect_of(subject: Subject, repair: Repair, path: Path) -> RepairEffect | None:
    """The effect of a repair, read from `path` if it is there, else measured and written.

    `None` for a repair that changed nothing.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    if not any(stage.is_taken for stage in repair.stages):
        return None
    kept = read_effect(path)
    if kept is not None and kept.key == repair.digest:
        return kept
    found = _measured(subject, repair)
    keep_record(path, found)
    return found


def read_effect(path: Path) -> RepairEffect | None:
    """The contents of a file; `None` where there is none, as in runs of older versions, or it is damaged."""
    return kept_record(RepairEffect, path)


def _measured(subject: Subject, repair: Repair) -> RepairEffect:
    names = [layer.name for layer in subject.plan.graph.layers if Precision.INT8 in layer.allowed]
    held_out = subject.parts[1]
    count = max(1, min(MOST_PICTURES, MOST_RUNS // (2 * len(names))))
    places = spread_places(len(held_out), count)
    measure = subject.measure(SampleView(held_out, places, ", to see each layer"))
    before, after = (subject.plan, subject.ranges), repair.applied(subject.plan, subject.ranges)
    layers = []
    for number, name in enumerate(names):
        subject.progress(number, len(names), "repair: each layer alone")
        layers.append(
            LayerEffect(name, measure.of_layers(*before, (name,)), measure.of_layers(*after, (name,)))
        )
    return RepairEffect(repair.digest, len(places), tuple(layers), tuple(_tensors(subject, repair)))


def _tensors(subject: Subject, repair: Repair) -> Iterator[TensorEffect]:
    for entry in subject.ranges.tensors:
        if entry.tensor in repair.amax:
            method = repair.methods.get(entry.tensor, "")
            yield TensorEffect(entry.tensor, entry.amax, repair.amax[entry.tensor], method)
