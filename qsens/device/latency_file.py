"""The latency file: what was measured on one device with one runtime, as selection and reports read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping, Sequence

from qsens.device.audit import LayerAudit, mismatches
from qsens.device.errors import DeviceError, reason_of
from qsens.device.json_text import parse_json
from qsens.device.latency import Latency
from qsens.device.leftovers import process_mark, remove_entry
from qsens.device.special_files import read_file

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class MapLatency:
    """What was measured of one precision map at one batch size.

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
    """Which generator was measured: a name for people, the digest of its graph, its layers in order."""

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
    hint = "write one with: qsens bench RUN --json FILE"
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


def measured_batches(document: Mapping[str, Any]) -> list[int]:
    """The batch sizes of a latency file, smallest first."""
    return sorted({int(entry["batch"]) for entry in document["measurements"]})
