"""The check of a bundle: rebuild the engine, audit its layers, compare with the goldens, measure latency."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Mapping

from qsens.device.audit import LayerAudit, audit_layers, mismatches
from qsens.device.bundle_files import Bundle
from qsens.device.goldens import GoldenResult, Goldens, batch_of, bundle_goldens, compare_with_goldens
from qsens.device.latency import Latency, measure_latency
from qsens.device.latency_file import (
    MapLatency,
    MeasuredGraph,
    latency_document,
    layer_rows,
    mismatched_layers,
)
from qsens.device.machine import describe_device
from qsens.device.open_engine import open_engine
from qsens.device.time_limit import process_limit

if TYPE_CHECKING:
    import numpy as np

    from qsens.device.executed import DeviceEngine

    Array = np.ndarray[Any, Any]

FINE, MISMATCH = 0, 4
WARM_UP = 10
# A batch of the slowest generator on the slowest board takes less by far.
LONGEST_RUN_S = 600.0
PROFILE_REPEATS = 10


@dataclass(frozen=True)
class ComparedFiles:
    """How many files are as they were exported, and the digest over them.

    `compare_again` raises where one has changed since.
    """

    count: int
    digest: str
    compare_again: Callable[[], object]


@dataclass(frozen=True)
class BundleReport:
    """What a check found; `latency` and `layer_times` are `None` and empty where they were not measured."""

    bundle: Bundle
    files: ComparedFiles
    runtime: str
    version: str
    build_s: float
    size_bytes: int
    audit: tuple[LayerAudit, ...]
    goldens: GoldenResult
    latency: Latency | None
    layer_times: tuple[dict[str, Any], ...]

    @property
    def exit_code(self) -> int:
        """Zero, or 4 where a layer runs in another precision or the pictures are not close enough."""
        return MISMATCH if mismatches(self.audit) or self.goldens.problems else FINE

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "bundle": str(self.bundle.folder),
            "ok": self.exit_code == FINE,
            "exit_code": self.exit_code,
            "files": self.files.count,
            "digest": self.files.digest,
            "runtime": {"name": self.runtime, "version": self.version},
            "batch": self.bundle.batch,
            "build_s": self.build_s,
            "size_bytes": self.size_bytes,
            "mismatches": [row.layer for row in mismatches(self.audit)],
            "layers": [row.to_json() for row in self.audit],
            "goldens": self.goldens.to_json(),
            "latency": None if self.latency is None else asdict(self.latency),
        }

    def latency_json(self) -> dict[str, Any] | None:
        """The latency file of this one map, as `qsens bench --json` writes it; `None` if not measured."""
        if self.latency is None:
            return None
        document = self.bundle.document
        measured = MapLatency(
            label=_label(document["map"]["deployed"]),
            precision_map=document["map"]["deployed"],
            map_digest=document["map"]["digest"],
            flavour=self.bundle.flavour,
            batch=self.bundle.batch,
            latency=self.latency,
            size_bytes=self.size_bytes,
            mismatches=mismatched_layers(self.audit),
            layers=self.layer_times,
        )
        model = document["model"]
        return latency_document(
            [measured],
            device=describe_device(self.runtime),
            runtime={"name": self.runtime, "version": self.version},
            graph=MeasuredGraph(model["name"], model["graph"], tuple(row.layer for row in self.bundle.asked)),
        )


def _label(deployed: Mapping[str, Any]) -> str:
    """What the paper's tables call a map: by its precision, or MIX."""
    return "MIX" if deployed["overrides"] else str(deployed["default"]).upper()


def check_engine(bundle: Bundle, files: ComparedFiles, *, repeats: int) -> BundleReport:
    """Rebuild, audit, compare with the goldens and measure; closes the engine.

    `repeats` are the runs that are timed; 0 leaves the measuring out.

    Raises:
        DeviceError: for goldens that are not what the document says, a missing runtime, or an engine that
            cannot be built or run; and what `files.compare_again` raises.
    """
    goldens = bundle_goldens(bundle)
    start = time.perf_counter()
    engine = open_engine(bundle)
    build_s = time.perf_counter() - start
    try:
        report = _checked(bundle, goldens, engine, files, build_s)
        # The runtime opened the files itself, after they were compared.
        files.compare_again()
        return report if not repeats else _measured(report, goldens, engine, repeats)
    finally:
        engine.close()


def _checked(
    bundle: Bundle, goldens: Goldens, engine: DeviceEngine, files: ComparedFiles, build_s: float
) -> BundleReport:
    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with process_limit(LONGEST_RUN_S, "one run of the engine"):
            return engine.run(feeds)

    # Some runtimes compile, and can be audited, when shapes are first run.
    compared = compare_with_goldens(run, bundle, goldens)
    return BundleReport(
        bundle=bundle,
        files=files,
        runtime=engine.runtime,
        version=engine.version,
        build_s=build_s,
        size_bytes=engine.size_bytes,
        audit=audit_layers(bundle.asked, engine.executed_layers()),
        goldens=compared,
        latency=None,
        layer_times=(),
    )


def _measured(report: BundleReport, goldens: Goldens, engine: DeviceEngine, repeats: int) -> BundleReport:
    feeds = batch_of(goldens.inputs, report.bundle.inputs, 0, report.bundle.batch)
    latency = measure_latency(lambda: engine.run(feeds), warm_up=WARM_UP, repeats=repeats)
    times = layer_rows(report.audit, engine.step_times_ms(feeds, min(PROFILE_REPEATS, repeats)))
    return replace(report, latency=latency, layer_times=times)
