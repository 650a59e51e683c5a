"""Measured times of a study's maps: latency files checked against the run, joined by precision map."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.core.errors import SpecError
from qsens.core.maps import anchor_trial, built_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import check_schema
from qsens.core.trial import Study, Trial
from qsens.device.errors import DeviceError
from qsens.device.latency import Latency, read_latency

FOLDER = "latency"
# Engines built again from the same map differ as much: six builds in OpenVINO, measured in turn 300 times,
# had medians up to 2.3% apart, four times the width of their intervals.
SAME_SHARE = 0.03


@dataclass(frozen=True)
class MeasuredMap:
    """One measurement: a map in its canonical form, the batch size, and what was measured.

    `energy_mj` is for one run of the batch. `layers` are rows of the file: three names, precisions, `ms`.
    """

    label: str
    precision_map: PrecisionMap
    flavour: str
    batch: int
    latency: Latency
    size_bytes: int
    peak_memory_bytes: int | None
    energy_mj: float | None
    mismatches: tuple[str, ...]
    layers: tuple[Mapping[str, Any], ...]

    @property
    def has_int8(self) -> bool:
        """Whether any layer of the map is to run in INT8."""
        shape = self.precision_map
        return Precision.INT8 in (shape.default, *(precision for _, precision in shape.overrides))

    @property
    def ms(self) -> float:
        """Median milliseconds of one run of the batch."""
        return self.latency.median_ms

    @property
    def half_width_ms(self) -> float:
        """Half the interval of the median."""
        return self.latency.half_width_ms

    def is_as_fast_as(self, other: "MeasuredMap") -> bool:
        """Whether the intervals of both medians overlap, or two builds of one map could differ as much."""
        difference = abs(self.ms - other.ms)
        same = SAME_SHARE * max(self.ms, other.ms)
        return difference <= max(self.half_width_ms + other.half_width_ms, same)


@dataclass(frozen=True)
class LatencyTable:
    """The table of one latency file. `digest` is that of the file: 16 hexadecimal digits of its sha256."""

    path: Path
    digest: str
    date: str | None
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    generator: str
    graph: str
    layers: tuple[str, ...]
    measurements: tuple[MeasuredMap, ...]

    @property
    def short_path(self) -> str:
        """Name of the file under that of its folder, for pages that other people read elsewhere."""
        return Path(*self.path.parts[-2:]).as_posix()

    @property
    def device_name(self) -> str:
        """The name of the device for people."""
        return str(self.device["name"])

    @property
    def runtime_text(self) -> str:
        """Name and version of the runtime, of a long version the number alone; its threads if it was told."""
        version, threads = str(self.runtime["version"]), str(self.runtime.get("threads", "0"))
        number = re.match(r"\d+(\.\d+)*", version)
        text = f"{self.runtime['name']} {version if number is None else number[0]}"
        return text if threads == "0" else f"{text}, {threads} thread{'' if threads == '1' else 's'}"

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes that were measured, smallest first."""
        return tuple(sorted({entry.batch for entry in self.measurements}))


def read_latency_table(path: Path) -> LatencyTable:
    """Read and check a latency file.

    Raises:
        SpecError: if it cannot be read, naming the key that is wrong.
    """
    try:
        document = read_latency(path)
    except DeviceError as error:
        raise SpecError(error.message, error.hint) from error
    check_schema(document, "latency", str(path))
    layers = tuple(document["layers"])
    return LatencyTable(
        path=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        date=document.get("date"),
        device=document["device"],
        runtime=document["runtime"],
        generator=document.get("generator") or "generator",
        graph=document["graph"],
        layers=layers,
        measurements=tuple(_measured(entry, layers, path) for entry in document["measurements"]),
    )


def tables_of_run(run: Path, study: Study, graph: str | None, more: Iterable[Path]) -> list[LatencyTable]:
    """The tables in the run's own folder, then those of the files in `more`, each checked and read once.

    Raises:
        SpecError: for a file that cannot be read or is of another generator.
    """
    own = sorted((run / FOLDER).glob("*.json"))
    tables = {table.digest: table for path in (*own, *more) for table in (read_latency_table(path),)}
    for table in tables.values():
        check_table(table, study, graph)
    return list(tables.values())


def check_table(table: LatencyTable, study: Study, graph: str | None) -> None:
    """Check that a table is of the study's generator; `graph` is the digest of the run's graph, if known.

    Raises:
        SpecError: naming both where they differ.
    """
    ours = {layer.name for layer in study.layers}
    foreign = sorted(set(table.layers) ^ ours)
    if foreign:
        raise SpecError(
            f"{table.path} is of another generator: it has {len(table.layers)} layers, the run "
            f"{len(study.layers)}; {foreign[0]!r} is in one of them only",
            "measure this run's maps: qsens bench RUN --latency-json FILE",
        )
    if graph is not None and table.graph != graph:
        raise SpecError(
            f"{table.path} was measured on graph {table.graph}, the run was scored on graph {graph}",
            "measure this run's maps: qsens bench RUN --latency-json FILE",
        )


def _measured(entry: Mapping[str, Any], layers: tuple[str, ...], path: Path) -> MeasuredMap:
    asked = PrecisionMap.from_json(entry["map"])
    unknown = [name for name, _ in asked.overrides if name not in layers]
    if unknown:
        raise SpecError(
            f"{path}: a map names {unknown[0]!r}, which is not among 'layers'",
            "measure again: qsens bench RUN --latency-json FILE",
        )
    latency = Latency(
        entry["runs"],
        entry["median_ms"],
        entry["p25_ms"],
        entry["p75_ms"],
        entry.get("minimum_ms", entry["p25_ms"]),
        entry.get("half_width_ms"),
    )
    return MeasuredMap(
        label=entry["label"],
        precision_map=PrecisionMap.over(asked.assignment(layers)),
        flavour=entry["flavour"],
        batch=entry["batch"],
        latency=latency,
        size_bytes=entry["size_bytes"],
        peak_memory_bytes=entry["peak_memory_bytes"],
        energy_mj=entry["energy_mj"],
        mismatches=tuple(entry.get("mismatches", ())),
        layers=tuple(entry["layers"]),
    )


@dataclass(frozen=True)
class Timings:
    """The trials whose maps a table holds at one batch size; `fp32` is FP32's time, if it was measured."""

    table: LatencyTable
    batch: int
    by_trial: Mapping[int, MeasuredMap]
    fp32: MeasuredMap | None

    @property
    def place(self) -> str:
        """The place of the measurement, for people."""
        return f"{self.table.device_name}, {self.table.runtime_text}, batch {self.batch}"

    def of(self, trial: Trial) -> MeasuredMap | None:
        """The measurement of a trial's map, `None` where there is none."""
        return self.by_trial.get(trial.number)

    def speed_up(self, measured: MeasuredMap) -> float | None:
        """The speed-up over FP32; `None` where FP32 was not measured."""
        return None if self.fp32 is None or measured.ms <= 0 else self.fp32.ms / measured.ms


def timings_of(study: Study, table: LatencyTable, batch: int | None = None) -> Timings:
    """Join the study's scored trials with a table, by the map that the scores are of.

    Without `batch` it is the smallest that was measured.

    Raises:
        SpecError: for a batch size that was not measured, or a table without measurements.
    """
    if not table.batches:
        raise SpecError(f"{table.path} holds no measurements", "measure again: qsens bench RUN")
    chosen = table.batches[0] if batch is None else batch
    if chosen not in table.batches:
        listed = ", ".join(map(str, table.batches))
        raise SpecError(f"{table.path} was not measured at batch {chosen}", f"it holds batch {listed}")
    known = {entry.precision_map: entry for entry in table.measurements if entry.batch == chosen}
    found = {
        trial.number: known[shape] for trial in study.scored() if (shape := _canonical(study, trial)) in known
    }
    baseline = anchor_trial(study, Precision.FP32)
    fp32 = known.get(PrecisionMap(Precision.FP32)) if baseline is None else found.get(baseline.number)
    return Timings(table, chosen, found, fp32)


def _canonical(study: Study, trial: Trial) -> PrecisionMap:
    """The map of a trial in the one form that equal assignments share."""
    return PrecisionMap.over(built_map(trial).assignment(layer.name for layer in study.layers))


@dataclass(frozen=True)
class LatencyChoice:
    """The evidence for a choice by measured time.

    `fastest_int8` is the fastest map with any INT8 that could have been chosen, `None` where there was none.
    `left_out` counts scored maps that were not measured; `limit_ms` is the time limit, if there was one.
    """

    timings: Timings
    measured: MeasuredMap
    fastest_int8: Trial | None
    left_out: int
    limit_ms: float | None = None

    @property
    def is_float(self) -> bool:
        """Whether the chosen map has no INT8 layer."""
        return not self.measured.has_int8

    @property
    def does_int8_pay(self) -> bool | None:
        """Whether INT8 gains time within the limits; `None` where no map tells, or time was no goal."""
        if self.fastest_int8 is None or self.limit_ms is not None:
            return None
        return not self.is_float
