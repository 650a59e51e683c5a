"""Rows of the comparison of devices: the same maps on several machines (Kim et al. 2023, Table 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qsens.selection.timings import LatencyTable, MeasuredMap

# The maps that every bench names alike, in the order of the paper's table.
LABELS = ("FP32", "FP16", "MIX", "INT8")


@dataclass(frozen=True)
class DeviceRow:
    """One map on one device. `images_per_s` counts the images of a batch; `speed_up` is over FP32 there.

    `energy_mj` is for one image, `mismatches` counts layers that run in something else than expected.
    """

    label: str
    ms: float
    half_width_ms: float
    images_per_s: float
    speed_up: float | None
    size_bytes: int
    energy_mj: float | None
    mismatches: int


@dataclass(frozen=True)
class DeviceGroup:
    """What one file holds of one batch size: a generator on a device with a runtime."""

    device: str
    runtime: str
    generator: str
    batch: int
    rows: tuple[DeviceRow, ...]

    @property
    def place(self) -> str:
        """Device and runtime, for people."""
        return f"{self.device}, {self.runtime}"


def device_groups(tables: Iterable[LatencyTable], *, all_maps: bool = False) -> tuple[DeviceGroup, ...]:
    """A group for each file and batch size, in the order of the files.

    Files are not merged: maps that were not measured in turn are not compared by a speed-up. Without
    `all_maps` only FP32, FP16, MIX and INT8 are shown where a file has any of them.
    """
    return tuple(
        DeviceGroup(
            table.device_name,
            table.runtime_text,
            table.generator,
            batch,
            _rows(
                {entry.label: entry for entry in table.measurements if entry.batch == batch},
                all_maps=all_maps,
            ),
        )
        for table in tables
        for batch in table.batches
    )


def shown_labels(groups: Sequence[DeviceGroup]) -> tuple[str, ...]:
    """Labels of all groups: those of the paper in its order, then the others."""
    found = dict.fromkeys(row.label for group in groups for row in group.rows)
    return (
        *(label for label in LABELS if label in found),
        *(label for label in found if label not in LABELS),
    )


def _rows(entries: dict[str, MeasuredMap], *, all_maps: bool) -> tuple[DeviceRow, ...]:
    named = [entries[label] for label in LABELS if label in entries]
    others = [entry for label, entry in entries.items() if label not in LABELS]
    fp32 = entries.get("FP32")
    return tuple(_row(entry, fp32) for entry in ([*named, *others] if all_maps or not named else named))


def _row(entry: MeasuredMap, fp32: MeasuredMap | None) -> DeviceRow:
    return DeviceRow(
        label=entry.label,
        ms=entry.ms,
        half_width_ms=entry.half_width_ms,
        images_per_s=1000.0 * entry.batch / entry.ms if entry.ms > 0 else float("inf"),
        speed_up=fp32.ms / entry.ms if fp32 is not None and entry.ms > 0 else None,
        size_bytes=entry.size_bytes,
        energy_mj=None if entry.energy_mj is None else entry.energy_mj / entry.batch,
        mismatches=len(entry.mismatches),
    )
