"""Measured times of a study's maps: a latency table at one batch size, joined by precision map."""

from collections.abc import Mapping
from dataclasses import dataclass

from qsens.core.errors import SpecError
from qsens.core.maps import anchor_trial, built_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study, Trial
from qsens.latency_table import LatencyTable, MeasuredMap


@dataclass(frozen=True)
class Timings:
    """The trials whose maps a table holds at one batch size; `fp32` is FP32's time, if it was measured."""

    table: LatencyTable
    batch: int
    by_trial: Mapping[int, MeasuredMap]
    fp32: MeasuredMap | None

    @property
    def place(self) -> str:
        """Where the times were measured, for people."""
        return f"{self.table.device_name}, {self.table.runtime_text}, batch {self.batch}"

    def of(self, trial: Trial) -> MeasuredMap | None:
        """What was measured of a trial's map, `None` where nothing was."""
        return self.by_trial.get(trial.number)

    def speed_up(self, measured: MeasuredMap) -> float | None:
        """How many times as fast as FP32; `None` where FP32 was not measured."""
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
    """What a choice by measured time rests on.

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
