"""Wall-clock time of one inference, with its spread, and the latency file that keeps it."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from qsens.device.audit import LayerAudit, mismatches
from qsens.device.errors import DeviceError, reason_of
from qsens.device.leftovers import process_mark, remove_entry
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file

Clock = Callable[[], float]
Run = Callable[[], object]
# Half the width of a notch, in interquartile ranges over the root of the number of runs: notches that do
# not overlap are medians that differ at the 95% level (McGill, Tukey & Larsen 1978, Variations of box plots).
_NOTCH = 1.57
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Latency:
    """Times of `runs` repeats in milliseconds: the median, the quartiles around it, and the shortest.

    `paired_half_width_ms` is half the interval of the median without what all callables of a round shared,
    where several were measured in turn.
    """

    runs: int
    median_ms: float
    p25_ms: float
    p75_ms: float
    minimum_ms: float
    paired_half_width_ms: float | None = None

    @property
    def half_width_ms(self) -> float:
        """Half the interval of the median: two latencies differ where they lie further apart than the sum."""
        if self.paired_half_width_ms is not None:
            return self.paired_half_width_ms
        return notch_half_width_ms(self.p25_ms, self.p75_ms, self.runs)


def notch_half_width_ms(p25_ms: float, p75_ms: float, runs: int) -> float:
    """Half the 95% comparison interval of a median, from the quartiles of that many runs."""
    return _NOTCH * (p75_ms - p25_ms) / math.sqrt(runs)


def measure_latency(run: Run, *, warm_up: int, repeats: int, clock: Clock = time.perf_counter) -> Latency:
    """Time `repeats` calls of `run` after `warm_up` calls that do not count; `clock` is in seconds."""
    return measure_interleaved({"": run}, warm_up=warm_up, repeats=repeats, clock=clock)[""]


def measure_interleaved(
    runs: Mapping[str, Run],
    *,
    warm_up: int,
    repeats: int,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Time several callables in turn, `repeats` times around, so that drift hits all of them alike.

    As `interleaved_rounds`, summed up.
    """
    rounds = interleaved_rounds(runs, warm_up=warm_up, repeats=repeats, seed=seed, clock=clock)
    return latencies_of(list(rounds))


def interleaved_rounds(
    runs: Mapping[str, Run],
    *,
    warm_up: int,
    repeats: int,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Milliseconds of each callable, one round after the other; who stops listening keeps what was measured.

    All are called `warm_up` times first. Where there are several, each timed call has an untimed one before
    it: caches then hold what this callable needs, as they do where it runs alone, and not what another left.
    Every round has another order, drawn with `seed`: a machine that stalls at even intervals, as one with a
    quota of processor time does, would else hit the same callables again and again.
    """
    names, draw = list(runs), random.Random(seed)
    for name in names:
        for _ in range(warm_up):
            runs[name]()
    for _ in range(repeats):
        times = {}
        for name in draw.sample(names, len(names)):
            if len(names) > 1:
                runs[name]()
            start = clock()
            runs[name]()
            times[name] = 1000.0 * (clock() - start)
        yield {name: times[name] for name in names}


def latencies_of(rounds: Sequence[Mapping[str, float]]) -> dict[str, Latency]:
    """Median, quartiles (linearly interpolated) and minimum of each name's milliseconds over the rounds."""
    names = list(rounds[0]) if rounds else []
    paired = _paired_half_widths_ms(rounds) if len(names) > 1 else {}
    return {name: _summary([times[name] for times in rounds], paired.get(name)) for name in names}


def _paired_half_widths_ms(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Half the interval of each median, after the factor is taken out by which a whole round was slow.

    The factor is the round's geometric mean. It holds a part of each time itself, so what is left spreads
    less than the time does, by the root of (n - 1) / n for n callables; that is made good.
    """
    names = list(rounds[0])
    if any(times[name] <= 0 for times in rounds for name in names):
        return {}
    factors = [math.exp(sum(math.log(times[name]) for name in names) / len(names)) for times in rounds]
    middle = _quantile(sorted(factors), 0.5)
    lost = math.sqrt(len(names) / (len(names) - 1))
    found = {}
    for name in names:
        even = sorted(times[name] * middle / factor for times, factor in zip(rounds, factors))
        low, high = _quantile(even, 0.25), _quantile(even, 0.75)
        found[name] = lost * notch_half_width_ms(low, high, len(rounds))
    return found


def _summary(times_ms: Sequence[float], paired_half_width_ms: float | None) -> Latency:
    ordered = sorted(times_ms)
    low, middle, high = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Latency(len(ordered), middle, low, high, ordered[0], paired_half_width_ms)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True)
class MapLatency:
    """The measurements of one precision map at one batch size.

    `label` is for people: `FP32`, `FP16`, `INT8`, `MIX` for the map that ships, else a few words.
    `precision_map` are the plain values of the map as asked for and `map_digest` its digest, both in the
    canonical form over all layers. `energy_mj` is for one run (a batch), `peak_memory_bytes` what the
    engine added to the process or the device; `None` where it was not told. `layers` come from `layer_rows`.
    """

    label: str
    precision_map: Mapping[str, Any]
    map_digest: str
    flavour: str
    batch: int
    latency: Latency
    size_bytes: int
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None
    mismatches: tuple[str, ...] = ()
    layers: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for the file."""
        return {
            "label": self.label,
            "map": dict(self.precision_map),
            "map_digest": self.map_digest,
            "flavour": self.flavour,
            "batch": self.batch,
            "runs": self.latency.runs,
            "median_ms": self.latency.median_ms,
            "p25_ms": self.latency.p25_ms,
            "p75_ms": self.latency.p75_ms,
            "minimum_ms": self.latency.minimum_ms,
            "half_width_ms": self.latency.half_width_ms,
            "size_bytes": self.size_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "energy_mj": self.energy_mj,
            "mismatches": list(self.mismatches),
            "layers": [dict(row) for row in self.layers],
        }


@dataclass(frozen=True)
class MeasuredGraph:
    """The generator that was measured: a name for people, the digest of its graph, its layers in order."""

    generator: str
    digest: str
    layers: tuple[str, ...]


def layer_rows(audit: Sequence[LayerAudit], times_ms: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """One row a layer under its three names, with what it runs in and its milliseconds.

    `times_ms` are by name of the engine's layer (`DeviceEngine.step_times_ms`). Layers that share an engine
    layer share its time; `None` where the runtime does not tell.
    """
    return tuple(
        {
            "layer": row.layer,
            "node": row.node,
            "engine_layer": row.engine_layer,
            "expected": row.expected,
            "actual": row.actual,
            "ms": None if row.engine_layer is None else times_ms.get(row.engine_layer),
        }
        for row in audit
    )


def mismatched_layers(audit: Sequence[LayerAudit]) -> tuple[str, ...]:
    """Names of the layers that run in something else than expected."""
    return tuple(row.layer for row in mismatches(audit))


def latency_document(
    measurements: Sequence[MapLatency],
    *,
    device: Mapping[str, Any],
    runtime: Mapping[str, str],
    graph: MeasuredGraph,
) -> dict[str, Any]:
    """The content of a latency file as plain values.

    `device` comes from `describe_device`; `runtime` has `name` and `version`, and may say more (`threads`).
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": dict(device),
        "runtime": dict(runtime),
        "generator": graph.generator,
        "graph": graph.digest,
        "layers": list(graph.layers),
        "measurements": [entry.to_json() for entry in measurements],
    }


def write_latency(path: Path, document: Mapping[str, Any]) -> None:
    """Write a latency file, complete or not at all.

    Raises:
        DeviceError: if it cannot be written.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    try:
        partial = path.with_name(f".{path.name}.{process_mark()}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            remove_entry(partial)
    except (OSError, ValueError) as error:  # a path without a name, or with NUL
        raise DeviceError(
            f"cannot write {path}: {reason_of(error)}", "check the folder and its space"
        ) from error


def read_latency(path: Path) -> dict[str, Any]:
    """The plain values of a latency file; only that it is one is checked, not every value.

    Raises:
        DeviceError: if it cannot be read or is no latency file of this version.
    """
    hint = "write one with: qsens bench RUN --latency-json FILE"
    try:
        document = parse_json(read_file(path))
        # Halves of characters, which JSON can hold, go into no report.
        json.dumps(document, ensure_ascii=False).encode()
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read the latency file {path}: {reason_of(error)}", hint) from error
    if not isinstance(document, dict) or "measurements" not in document:
        raise DeviceError(f"{path} is no latency file: it holds no 'measurements'", hint)
    if document.get("schema_version") != SCHEMA_VERSION:
        found = document.get("schema_version")
        raise DeviceError(
            f"{path} has schema version {found!r}, this qsens reads {SCHEMA_VERSION}",
            "measure again with the qsens that reads it",
        )
    return document
